"""Embeds pictures and texts from the stored outputs of their towers: only the heads run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.evaluation.embedding.features.feature_cache import (
    EIGHT_BITS,
    FOLDER,
    ImageFeatures,
    Storage,
    TextFeatures,
    image_description,
    image_features,
    text_description,
    text_features,
)
from tfclip.evaluation.embedding.features.stored_arrays import folder_of
from tfclip.inputs.view_sets import VIEW_SETS
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.saving import TrainedModel, load_head, load_without_towers
from tfclip.records.manifest import load_manifest

ROWS_AT_ONCE = 256
# The text length of a batch is rounded up to a multiple of this, so that there are few shapes.
LENGTH_STEP = 8
WHOLE_PICTURE = "1"
# The most exact first. float16 rounds to 11 bits, which changes cosines by about 0.0001; uint8
# changed no recall at 10 of `laptop`, and its recall at 1 by a tenth of a point.
PRECISIONS = ("float32", "float16", EIGHT_BITS)
# An evaluation stores features by itself only while they are smaller.
MOST_BYTES = 128 * 2**20


@lru_cache(maxsize=2)
def _graphs(model: DualEncoder) -> tuple[Callable, Callable]:
    """Return the heads as graphs, traced once for each model however many splits it embeds."""
    return (
        tf.function(model.embed_image_features, reduce_retracing=True, autograph=False),
        tf.function(model.embed_text_features, reduce_retracing=True, autograph=False),
    )


class FeatureEmbedder:
    """Runs the heads of a model, with the weights that they have when it is called."""

    def __init__(self, model: DualEncoder):
        self._embed_images, self._embed_texts = _graphs(model)
        self._size = model.config.embed_dim

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Embed features of pictures (N,F) or (N,P,F): (N,D) float32, unit norm."""
        return self._embed_images(tf.constant(rows)).numpy()

    def images(self, stored: ImageFeatures) -> np.ndarray:
        """Embed the first views of N pictures: (N,D) float32, unit norm."""
        parts = [np.zeros((0, self._size), np.float32)]
        for at in range(0, len(stored.image_id), ROWS_AT_ONCE):
            parts.append(self.features(stored.features[at : at + ROWS_AT_ONCE, 0]))
        return np.concatenate(parts)

    def texts(self, stored: TextFeatures, rows: np.ndarray) -> np.ndarray:
        """Embed M texts, given by their indices: (M,D) float32, unit norm."""
        parts = [np.zeros((0, self._size), np.float32)]
        for at in range(0, len(rows), ROWS_AT_ONCE):
            features, mask = text_rows(stored, rows[at : at + ROWS_AT_ONCE])
            parts.append(self._embed_texts(tf.constant(features), tf.constant(mask)).numpy())
        return np.concatenate(parts)


def text_rows(stored: TextFeatures, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return features (M,F) or (M,L,F) and mask (M,L) int32 of M texts, by their indices (M,).

    L is the length of the longest text, rounded up. The mask of pooled features is a column of
    ones.
    """
    if stored.token_starts is None:
        return stored.features[texts], np.ones((len(texts), 1), np.int32)
    first = stored.token_starts[texts]
    lengths = stored.token_starts[texts + 1] - first
    place = np.arange(-(-int(lengths.max()) // LENGTH_STEP) * LENGTH_STEP)
    mask = place < lengths[:, None]
    tokens = stored.features[np.where(mask, first[:, None] + place, 0)]
    tokens[~mask] = 0
    return tokens, mask.astype(np.int32)


@dataclass(frozen=True)
class FrozenParts:
    """Stored outputs of frozen towers over a split, to measure a model that trains.

    Attributes:
        embedder: runs the heads of the model.
        image, text: the outputs; None for a tower that is not frozen.
    """

    embedder: FeatureEmbedder
    image: ImageFeatures | None = None
    text: TextFeatures | None = None

    def pictures(self, first: int) -> np.ndarray | None:
        """Embed the first pictures, (N,D) float32; None if their features are not stored."""
        return None if self.image is None else self.embedder.images(self.image.first(first))

    def captions(self, pictures: int, count: int) -> np.ndarray | None:
        """Embed the `count` captions of the first pictures, (M,D) float32; None if their features
        are not stored, or there are region phrases among them."""
        if self.text is None or int(self.text.text_starts[pictures]) != count:
            return None
        return self.embedder.texts(self.text, np.arange(count))


class Heads:
    """The heads of a run with frozen towers, on the outputs of these towers that are stored beside
    records. The towers are not loaded, which takes longer than to run the heads.

    Args:
        run: a run directory or a model folder.
        compute: the format of the image tower, which the features must have.
    """

    def __init__(self, run: Path, compute: str):
        self._run = Path(run)
        self.model = load_without_towers(run, compute)
        self._embedder = FeatureEmbedder(self.model.dual_encoder)

    def pictures(self, parts: Sequence[tuple[Path, str]], first: int | None = None):
        """Embed the whole pictures of splits of records, of each perhaps only the first ones.

        Returns:
            (N,D) float32 of unit norm; None if the tower's outputs are not stored.

        Raises:
            ValueError: what is stored is damaged; the message says what to delete.
        """
        stored = []
        for records, split in parts:
            if (found := stored_pictures(self.model, records, split)) is None:
                return None
            stored.append(found if first is None else found.first(first))
        self._add_head("image", stored[0].features.shape[2:])
        return np.concatenate([self._embedder.images(part) for part in stored])

    def captions(self, records: Path, split: str, pictures: int, count: int):
        """Embed the `count` captions of the first pictures of a split.

        Returns:
            (count,D) float32 of unit norm; None if the tower's outputs are not stored, or there are
            region phrases among them.

        Raises:
            ValueError: what is stored is damaged; the message says what to delete.
        """
        if not self.model.frozen.get("text"):
            return None
        where = _stored(
            lambda way: text_description(self.model, records, split, way),
            records,
            self.model.compute,
        )
        if where is None:
            return None
        stored = text_features(self.model, records, split, where)
        per_token = () if stored.token_starts is None else (None,)
        self._add_head("text", (*per_token, stored.features.shape[-1]))
        return FrozenParts(self._embedder, text=stored).captions(pictures, count)

    def _add_head(self, modality: str, shape: Sequence[int | None]) -> None:
        if not hasattr(self.model.dual_encoder, f"{modality}_head"):
            load_head(self._run, self.model, modality, shape)


def stored_pictures(
    model: TrainedModel, records: Path, split: str, *, store: bool = False
) -> ImageFeatures | None:
    """Return the outputs of a frozen image tower for the whole pictures of a split, if stored.

    They may be the first of several views, as training has stored them.

    Args:
        model: its format of computing is the one that the features must have.
        records: a directory of packed records.
        split: one of its splits.
        store: if they are not stored, compute and store them for the next run with this tower;
            unless they take over `MOST_BYTES`, or the directory cannot be written.

    Raises:
        ValueError: what is stored is damaged; the message says what to delete.
    """
    if not model.frozen.get("image"):
        return None
    for views in VIEW_SETS:
        arguments = model, records, split, views
        describe = partial(image_description, *arguments)
        if (where := _stored(describe, records, model.compute)) is not None:
            return image_features(*arguments, where)
    if store and os.access(records, os.W_OK):
        width = math.prod(model.dual_encoder.image_tower.output_shape[1:])
        size = 4 * width * load_manifest(records).splits[split].images
        if size <= MOST_BYTES:
            where = Storage(compute=model.compute)
            return image_features(model, records, split, WHOLE_PICTURE, where)
    return None


def _stored(describe: Callable[[Storage], dict], records: Path, compute: str) -> Storage | None:
    """Return how features are stored beside their records, the most exact first; None if not."""
    folder = Path(records) / FOLDER
    if not folder.is_dir():
        return None
    ways = [Storage(precision, compute=compute) for precision in PRECISIONS]
    return next((way for way in ways if folder_of(describe(way), folder).is_dir()), None)
