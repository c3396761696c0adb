"""Embeds pictures and texts with a trained model; every benchmark uses it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from itertools import islice
from threading import Lock
from typing import TypeVar

import numpy as np
import tensorflow as tf

from tfclip.console import progress
from tfclip.evaluation.embedding.class_words import combined_embeddings
from tfclip.evaluation.embedding.prompts import prompts
from tfclip.evaluation.embedding.text_batches import embed_by_length
from tfclip.inputs.images import decode_valid
from tfclip.inputs.picture_size import PictureSize
from tfclip.inputs.tiles import DENSE, cut_boxes, tile_boxes
from tfclip.models.compute import FLOAT32
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.image_features import constant_function, feature_function, window_encoder
from tfclip.models.saving import TrainedModel

VIEWS_AT_ONCE = 64
FEW_TEXTS = 8
# Two batches of encoded pictures at a time: one is decoded beside the tower of the other.
_CALLS = 2

_tracing = Lock()

Item = TypeVar("Item")


@lru_cache(maxsize=2)
def _graphs(dual_encoder: DualEncoder, compute: str, is_fixed: bool):
    """Return both encoders as graphs for any batch size, traced once for each model."""
    size = dual_encoder.config.image_size

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, size, size, 3], tf.uint8)], autograph=False
    )
    def encode_views(views):
        embeddings = dual_encoder.encode_image(tf.reshape(views, [-1, size, size, 3]))
        return tf.reshape(embeddings, tf.concat([tf.shape(views)[:2], [-1]], 0))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, None], tf.bool),
        ],
        autograph=False,
    )
    def encode_tokens(token_ids, text_mask):
        return dual_encoder.encode_text(token_ids, text_mask)

    if compute == FLOAT32 and not is_fixed:
        return encode_views, encode_tokens

    @cache
    def parts() -> tuple[Callable, Callable]:
        shape = [None, *dual_encoder.image_tower.output_shape[1:]]
        embed = tf.function(
            dual_encoder.embed_image_features,
            input_signature=[tf.TensorSpec(shape, tf.float32)],
            autograph=False,
        )
        return feature_function(dual_encoder, compute), embed

    def encode_views_by_parts(views: tf.Tensor) -> tf.Tensor:
        with _tracing:  # several threads may ask for the first batch
            features_of, embed = parts()
        embeddings = embed(features_of(tf.reshape(views, [-1, size, size, 3])))
        return tf.reshape(embeddings, [*views.shape[:2], -1])

    return encode_views_by_parts, encode_tokens


@lru_cache(maxsize=2)
def _window_graph(dual_encoder: DualEncoder, compute: str, is_fixed: bool):
    """Return the graph from whole pictures (B,1,S,S,3) to embeddings (B,T,D) of their windows."""
    if compute != FLOAT32:
        raise ValueError(f"received tiles dense with compute {compute}; allowed: compute float32")
    size = dual_encoder.config.image_size
    encode = window_encoder(dual_encoder, tile_boxes(DENSE))
    if is_fixed:
        frozen = constant_function(dual_encoder, encode)
        return lambda views: frozen(views[:, 0])
    return tf.function(
        lambda views: encode(views[:, 0]),
        input_signature=[tf.TensorSpec([None, 1, size, size, 3], tf.uint8)],
        autograph=False,
    )


def view_encoder(model: TrainedModel, tiles: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function from what is cut for a layout (B,V,S,S,3) to embeddings (B,T,D)."""
    if tiles == DENSE:
        return _window_graph(model.dual_encoder, model.compute, model.is_fixed)
    return _graphs_of(model)[0]


def _graphs_of(model: TrainedModel):
    return _graphs(model.dual_encoder, model.compute, model.is_fixed)


def embed_texts(model: TrainedModel, texts: Sequence[str | bytes]) -> np.ndarray:
    """Embed M texts: (M,D) float32, unit norm."""
    # Tracing a graph takes longer than a few texts without one.
    few = len(texts) <= FEW_TEXTS
    encode = model.dual_encoder.encode_text if few else _graphs_of(model)[1]
    return embed_by_length(encode, model.tokenizer, texts, model.config.embed_dim)


def class_embeddings(
    model: TrainedModel, class_names: Sequence[str], templates: Sequence[str]
) -> np.ndarray:
    """Embed C classes by their prompts in every template: (C,D) float32, unit norm."""
    return embed_classes(model, [prompts(name, templates) for name in class_names])


def embed_classes(
    model: TrainedModel, texts: Sequence[Sequence[str]], negatives: Sequence[Sequence[str]] = ()
) -> np.ndarray:
    """Embed each of C classes by its texts, see `combined_embeddings`: (C,D) float32."""
    return combined_embeddings(lambda every: embed_texts(model, every), texts, negatives)


def embed_pictures(
    model: TrainedModel, views: tf.data.Dataset, *, total: int | None = None, tiles: str = "1"
) -> tuple[np.ndarray, np.ndarray]:
    """Embed every view of every picture; only embeddings are kept in memory.

    Args:
        model: a trained model; the views have its image size.
        views: (row, views (T,S,S,3) uint8) from `record_views` or `file_views`.
        total: the number of pictures, for the progress bar.
        tiles: `dense` for the windows of views of the whole picture; else the views are embedded.

    Returns:
        rows (N,) int64, and embeddings (N,T,D) float32, unit norm.

    Raises:
        ValueError: no picture could be decoded.
    """
    batches = list(embed_batches(model, views, total=total, tiles=tiles))
    if not batches:
        raise ValueError("there is no picture to embed: none of the files could be decoded")
    rows, embeddings = zip(*batches, strict=True)
    return np.concatenate(rows), np.concatenate(embeddings)


def embed_batches(
    model: TrainedModel, views: tf.data.Dataset, *, total: int | None = None, tiles: str = "1"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Embed like `embed_pictures`, yielding batches: rows (B,) and embeddings (B,T,D)."""
    encode = view_encoder(model, tiles)
    batches = None if total is None else -(-total // _at_once(views))
    for row, batch in progress(view_batches(views), total=batches, what="embedding pictures"):
        yield row.numpy(), encode(batch).numpy()


@lru_cache(maxsize=4)
def _decoder(boxes: tuple[tuple[float, ...], ...], side: int, resize: str, interpolation: str):
    """Return a graph from encoded pictures (B,) to views (B,T,S,S,3) and valid (B,)."""
    size = PictureSize(side, resize, interpolation)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decode(contents):
        return decode_valid(contents, np.array(boxes, np.float32), size)

    return decode


def embed_encoded(
    model: TrainedModel,
    items: Iterable[Item],
    content: Callable[[Item], bytes],
    tiles: str = "1",
) -> Iterator[tuple[tuple[Item, ...], np.ndarray, np.ndarray]]:
    """Embed encoded pictures of any length of `items`, which is read as far as it is needed.

    Args:
        model: a trained model.
        items: what is embedded.
        content: from an item to the bytes of its picture; others than pictures are not valid.
        tiles: the layout of the views, see `inputs.tiles`.

    Yields:
        Batches in the order of the items: the items, embeddings (B,T,D) float32 of unit norm, and
        valid (B,) bool.
    """
    encode, boxes = view_encoder(model, tiles), cut_boxes(tiles)
    size = model.config.picture_size
    decode = _decoder(tuple(map(tuple, boxes.tolist())), int(size), size.resize, size.interpolation)

    def embed(batch: tuple[Item, ...]) -> tuple[np.ndarray, np.ndarray]:
        views, valid = decode(tf.constant([content(item) for item in batch], tf.string))
        return encode(views).numpy(), valid.numpy()

    upcoming, at_once = iter(items), max(1, VIEWS_AT_ONCE // len(boxes))
    waiting: deque = deque()
    with ThreadPoolExecutor(_CALLS) as pool:
        while batch := tuple(islice(upcoming, at_once)):
            waiting.append((batch, pool.submit(embed, batch)))
            if len(waiting) > _CALLS:
                done, future = waiting.popleft()
                yield done, *future.result()
        for done, future in waiting:
            yield done, *future.result()


def view_batches(views: tf.data.Dataset) -> tf.data.Dataset:
    """Batch rows (B,) and views (B,T,S,S,3), read ahead while others are embedded.

    One thread per core reads, and tf.data's autotuning is off: it halved the speed of every second
    pass over the pictures.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = os.cpu_count() or 1
    return views.batch(_at_once(views)).prefetch(2).with_options(options)


def _at_once(views: tf.data.Dataset) -> int:
    """Return the number of pictures that have about `VIEWS_AT_ONCE` views together."""
    return max(1, VIEWS_AT_ONCE // views.element_spec[1].shape[0])
