"""Computes the cosine of every caption of packed records with its own picture in one pass."""

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

CAPTIONS_AT_ONCE = 8192


def caption_cosines(
    model: TrainedModel, records: Path, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Compare each caption of a split with its picture.

    Only the cosines and a few thousand embeddings are held in memory.

    Args:
        model: a trained model.
        records: a directory of packed records.
        split: one of its splits.

    Returns:
        The number of captions of each record, (N,) int64, and the cosines of all captions in order,
        (M,) float32.

    Raises:
        ValueError: an unknown split, or embeddings that are not finite.
        FileNotFoundError: see `reader.split_files`.
    """
    total = load_manifest(records).splits[split].images
    views = record_views(records, split, model.config.picture_size)
    texts = read_split(records, split, features=(schema.CAPTION,)).as_numpy_iterator()
    counts: list[int] = []
    cosines: list[np.ndarray] = []
    images: list[np.ndarray] = []
    captions: list[bytes] = []
    owners: list[int] = []

    def compare() -> None:
        embedded = embed_texts(model, captions)
        pictures = np.stack(images)[owners]
        similarities = np.einsum("md,md->m", pictures, embedded, dtype=np.float64)
        if not np.isfinite(similarities).all():
            raise ValueError("the embeddings are not finite: the model diverged")
        cosines.append(np.clip(similarities, -1, 1).astype(np.float32))
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
    return np.array(counts, np.int64), np.concatenate([np.zeros(0, np.float32), *cosines])
