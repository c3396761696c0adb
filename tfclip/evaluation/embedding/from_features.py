"""Embeds pictures and texts from the stored outputs of their towers: only the heads run."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.evaluation.embedding.feature_cache import (
    FOLDER,
    ImageFeatures,
    Storage,
    TextFeatures,
    image_description,
    image_features,
    text_description,
    text_features,
)
from tfclip.evaluation.embedding.stored_arrays import folder_of
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.saving import TrainedModel
from tfclip.records.manifest import load_manifest

ROWS_AT_ONCE = 256
# The text length of a batch is rounded up to a multiple of this, so that there are few shapes.
LENGTH_STEP = 8
WHOLE_PICTURE = "1"
# float32 is exact; float16 rounds to 11 bits, which changes cosines by about 0.0001.
PRECISIONS = ("float32", "float16")
# An evaluation stores features by itself only while they are smaller.
MOST_BYTES = 128 * 2**20


class FeatureEmbedder:
    """Runs the heads of a model, with the weights that they have when it is called."""

    def __init__(self, model: DualEncoder):
        self._embed_images = tf.function(
            model.embed_image_features, reduce_retracing=True, autograph=False
        )
        self._embed_texts = tf.function(
            model.embed_text_features, reduce_retracing=True, autograph=False
        )
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


def whole_pictures(
    model: TrainedModel, records: Path, split: str, *, store: bool = False
) -> ImageFeatures | None:
    """Return the outputs of a frozen image tower for the whole pictures of a split, if stored.

    Args:
        model: its format of computing is the one that the features must have.
        records: a directory of packed records.
        split: one of its splits.
        store: if they are not stored, compute and store them for the next run with this tower;
            unless they take over `MOST_BYTES`, or the directory cannot be written.

    Raises:
        ValueError: what is stored is damaged; the message says what to delete.
    """
    arguments = model, records, split, WHOLE_PICTURE
    if "image" not in model.frozen:
        return None
    where = _stored(lambda where: image_description(*arguments, where), records, model.compute)
    if where is None and store and os.access(records, os.W_OK):
        width = math.prod(model.dual_encoder.image_tower.output_shape[1:])
        size = 4 * width * load_manifest(records).splits[split].images
        where = Storage(compute=model.compute) if size <= MOST_BYTES else None
    return None if where is None else image_features(*arguments, where)


def embed_whole_pictures(
    model: TrainedModel, parts: Sequence[tuple[Path, str]]
) -> np.ndarray | None:
    """Embed the whole pictures of splits of records, (N,D) float32, by stored outputs of the image
    tower; None where they are neither stored nor stored now, see `whole_pictures`."""
    stored = [whole_pictures(model, records, split, store=True) for records, split in parts]
    embedder = FeatureEmbedder(model.dual_encoder)
    found = [embedder.images(part) for part in stored if part is not None]
    return np.concatenate(found) if len(found) == len(parts) else None


def texts_of(model: TrainedModel, records: Path, split: str) -> TextFeatures | None:
    """Return the outputs of a frozen text tower for all texts of a split, if stored."""
    if "text" not in model.frozen:
        return None
    where = _stored(
        lambda where: text_description(model, records, split, where), records, model.compute
    )
    return None if where is None else text_features(model, records, split, where)


def _stored(describe: Callable[[Storage], dict], records: Path, compute: str) -> Storage | None:
    """Return how features are stored beside their records, the most exact first; None if not."""
    folder = Path(records) / FOLDER
    if not folder.is_dir():
        return None
    ways = [Storage(precision, compute=compute) for precision in PRECISIONS]
    return next((way for way in ways if folder_of(describe(way), folder).is_dir()), None)
