"""Scores every caption of packed records by its picture and its other captions, in one pass."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from tfclip.evaluation.datasets.views import record_views
from tfclip.evaluation.embedding.embed import embed_batches, embed_texts
from tfclip.models.saving import TrainedModel
from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.reader import read_split
from tfclip.records.scores.caption_scores import CaptionScores, joined, scores_of

CAPTIONS_AT_ONCE = 8192


def caption_cosines(
    model: TrainedModel, records: Path, split: str
) -> tuple[np.ndarray, CaptionScores]:
    """Compare each caption of a split with its picture and the other captions of that picture.

    Only the scores and a few thousand embeddings are held in memory.

    Args:
        model: a trained model.
        records: a directory of packed records.
        split: one of its splits.

    Returns:
        The number of captions of each record, (N,) int64, and the scores of all M captions in
        order.

    Raises:
        ValueError: an unknown split, or embeddings that are not finite.
        FileNotFoundError: see `reader.split_files`.
    """
    total = load_manifest(records).splits[split].images
    views = record_views(records, split, model.config.picture_size)
    texts = read_split(records, split, features=(schema.CAPTION,)).as_numpy_iterator()
    counts: list[int] = []
    scores: list[CaptionScores] = []
    images: list[np.ndarray] = []
    captions: list[bytes] = []
    owners: list[int] = []

    def compare() -> None:
        scores.append(scores_of(np.stack(images), embed_texts(model, captions), np.array(owners)))
        images.clear()
        captions.clear()
        owners.clear()

    for _, batch in embed_batches(model, views, total=total):
        for embedding, record in zip(batch[:, 0], islice(texts, len(batch)), strict=True):
            listed = record[schema.CAPTION]
            counts.append(len(listed))
            owners += [len(images)] * len(listed)
            images.append(embedding)
            captions += list(listed)
        if len(captions) >= CAPTIONS_AT_ONCE:
            compare()
    if captions:
        compare()
    return np.array(counts, np.int64), joined(scores)
