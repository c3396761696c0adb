"""Scores of captions from the stored features of frozen towers: only the heads run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfclip.evaluation.embedding.features.feature_cache import (
    Storage,
    image_features,
    text_features,
)
from tfclip.evaluation.embedding.from_features import FeatureEmbedder
from tfclip.models.saving import TrainedModel
from tfclip.records import schema
from tfclip.records.reader import read_split
from tfclip.records.scores.caption_scores import CaptionScores, joined, scores_of

ROWS_AT_ONCE = 256


def stored_cosines(
    model: TrainedModel, records: Path, split: str, views: str, where: Storage
) -> tuple[np.ndarray, CaptionScores]:
    """Return the scores of all captions; see `evaluation.tasks.caption_cosines`.

    Args:
        model: a model with frozen towers.
        records: a directory of packed records.
        split: one of its splits.
        views: the views of the stored features; the first one is the whole picture.
        where: how and where the features are stored.

    Returns:
        The number of captions of each of the N records, (N,) int64, and the scores of all M
        captions in order.
    """
    image = image_features(model, records, split, views, where)
    text = text_features(model, records, split, where)
    listed = read_split(records, split, features=(schema.CAPTION,))
    counts = np.array([len(one[schema.CAPTION]) for one in listed.as_numpy_iterator()], np.int64)
    # The texts of a record are its captions, then its phrases.
    before = np.cumsum(counts) - counts
    rows = np.repeat(text.text_starts[:-1] - before, counts) + np.arange(int(counts.sum()))
    owner = np.repeat(np.arange(len(counts)), counts)
    embedder = FeatureEmbedder(model.dual_encoder)
    scores, at = [], 0
    while at < len(rows):
        # All captions of a picture at once.
        last = owner[min(at + ROWS_AT_ONCE, len(rows)) - 1]
        part = slice(at, int(before[last] + counts[last]))
        first, at = owner[at], part.stop
        pictures = embedder.features(image.features[first : last + 1, 0])
        texts = embedder.texts(text, rows[part])
        scores.append(scores_of(pictures, texts, owner[part] - first))
    return counts, joined(scores)
