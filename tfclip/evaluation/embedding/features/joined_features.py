"""Stored features of several sets of records, read as those of one; nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfclip.evaluation.embedding.features.feature_cache import ImageFeatures, TextFeatures
from tfclip.evaluation.embedding.features.joined_arrays import JoinedArrays


def join_images(parts: Sequence[ImageFeatures]) -> ImageFeatures:
    """Return the features of the pictures of all sets; of a single one itself."""
    if len(parts) == 1:
        return parts[0]
    ids = np.concatenate([part.image_id for part in parts])
    return ImageFeatures(JoinedArrays([part.features for part in parts]), ids)


def join_texts(parts: Sequence[TextFeatures]) -> TextFeatures:
    """Return the features of the texts of all sets; of a single one itself.

    Each set ends with the empty text, which only the last one keeps.
    """
    if len(parts) == 1:
        return parts[0]
    *others, last = parts
    parts = [*(_without_empty(part) for part in others), last]
    token_starts = [part.token_starts for part in parts if part.token_starts is not None]
    return TextFeatures(
        JoinedArrays([part.features for part in parts]),
        _joined_starts(token_starts) if token_starts else None,
        _joined_starts([part.text_starts for part in parts]),
        np.concatenate([part.caption_id for part in parts]),
    )


def _without_empty(part: TextFeatures) -> TextFeatures:
    starts = part.token_starts
    end = -1 if starts is None else int(starts[-2])
    return TextFeatures(
        part.features[:end],
        None if starts is None else starts[:-1],
        part.text_starts,
        part.caption_id[:-1],
    )


def _joined_starts(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Join the first indices of ranges, each with the end of the last one: (N + 1,) int64."""
    before = np.cumsum([0, *(int(part[-1]) for part in parts)])
    shifted = [part[:-1] + first for part, first in zip(parts, before[:-1], strict=True)]
    return np.concatenate([*shifted, before[-1:]]).astype(np.int64)
