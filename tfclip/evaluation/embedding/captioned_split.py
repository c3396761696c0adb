"""Embeds the pictures and the captions of a split of records, for retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.evaluation.datasets.views import record_views
from tfclip.evaluation.embedding.cache import RunEmbeddings
from tfclip.evaluation.embedding.embed import embed_pictures, embed_texts
from tfclip.evaluation.embedding.from_features import FrozenParts
from tfclip.evaluation.embedding.kept_arrays import joined_bytes
from tfclip.inputs.batches import caption_id
from tfclip.models.saving import TrainedModel
from tfclip.records import schema
from tfclip.records.reader import read_split


def embed_split(
    model: TrainedModel | RunEmbeddings,
    directory: Path,
    split: str,
    *,
    images: int | None = None,
    frozen: FrozenParts | None = None,
) -> dict[str, np.ndarray]:
    """Embed N pictures of a split and their M captions.

    Args:
        model: a trained model, or a run; of a run's frozen towers whose outputs are stored, only
            the heads run.
        directory: packed records.
        split: one of their splits.
        images: only the first so many pictures; None for all.
        frozen: stored outputs of frozen towers of a trained `model`.

    Returns:
        `images` (N,D) and `texts` (M,D) float32 of unit norm; `counts` (N,), the number of captions
        of each picture, in order; `text_id` (M,) int64, equal for equal captions; `captions` and
        `caption_ends`, their UTF-8 bytes, see `kept_arrays.joined_bytes`.

    Raises:
        ValueError: there are no captions.
        FileNotFoundError: a shard is missing.
    """
    records = read_split(directory, split, features=(schema.CAPTION,))
    records = records.take(-1 if images is None else images)
    listed = [record[schema.CAPTION] for record in records.as_numpy_iterator()]
    captions = [caption for of_picture in listed for caption in of_picture]
    if not captions:
        raise ValueError(
            f"{directory}:{split} has no captions, which retrieval needs; region phrases describe "
            "a part of a picture"
        )
    if isinstance(model, RunEmbeddings):
        sides = _by_run(model, directory, split, captions, len(listed))
    else:
        sides = _by_model(model, directory, split, captions, len(listed), frozen)
    joined, ends = joined_bytes(captions)
    return {
        **sides,
        "counts": np.array([len(of_picture) for of_picture in listed]),
        "text_id": caption_id(tf.constant(captions, tf.string)).numpy(),
        "captions": joined,
        "caption_ends": ends,
    }


def _by_model(
    model: TrainedModel,
    directory: Path,
    split: str,
    captions: Sequence[bytes],
    total: int,
    frozen: FrozenParts | None,
) -> dict[str, np.ndarray]:
    images = None if frozen is None else frozen.pictures(total)
    texts = None if frozen is None else frozen.captions(total, len(captions))
    return {
        "images": _pictures(model, directory, split, total) if images is None else images,
        "texts": embed_texts(model, captions) if texts is None else texts,
    }


def _by_run(
    run: RunEmbeddings, directory: Path, split: str, captions: Sequence[bytes], total: int
) -> dict[str, np.ndarray]:
    heads = run.model.heads
    images = heads.pictures([(directory, split)], total)
    texts = heads.captions(directory, split, total, len(captions))
    if images is None:
        images = _pictures(run.model.whole, directory, split, total)
    if texts is None:
        texts = embed_texts(run.model.whole, captions)
    return {"images": images, "texts": texts}


def _pictures(model: TrainedModel, directory: Path, split: str, total: int) -> np.ndarray:
    views = record_views(directory, split, model.config.picture_size).take(total)
    return embed_pictures(model, views, total=total)[1][:, 0]
