"""How well captions fit: each with its picture, and with the other captions of that picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST_CAPTIONS = 3
"""Captions of a picture with fewer of them have no agreement: of two, neither is the wrong one."""


@dataclass(frozen=True)
class CaptionScores:
    """The scores of all M captions of a split, in order.

    Attributes:
        cosines: of each caption with its picture, (M,) float32.
        agreements: the mean cosine of each caption with the other captions of its picture, (M,)
            float32; NaN for pictures with fewer than `LEAST_CAPTIONS` of them.
    """

    cosines: np.ndarray
    agreements: np.ndarray

    def __len__(self) -> int:
        return len(self.cosines)

    def __getitem__(self, part: slice) -> CaptionScores:
        return CaptionScores(self.cosines[part], self.agreements[part])

    def fit(self, by: str = "both") -> np.ndarray:
        """Return how well each caption fits, (M,) float32: the worst have the lowest values.

        By "both" it is the sum of cosine and agreement, where a missing agreement counts as the
        median of the others, so that captions of all pictures are compared.
        """
        known = self.agreements[~np.isnan(self.agreements)]
        if by == "cosine" or not len(known):
            return self.cosines
        filled = np.where(np.isnan(self.agreements), np.median(known), self.agreements)
        return (self.cosines + filled).astype(np.float32)


def joined(parts: Sequence[CaptionScores]) -> CaptionScores:
    """Return the scores of several parts, one after the other."""
    none = np.zeros(0, np.float32)
    return CaptionScores(
        np.concatenate([none, *(part.cosines for part in parts)]),
        np.concatenate([none, *(part.agreements for part in parts)]),
    )


def scores_of(pictures: np.ndarray, captions: np.ndarray, owner: np.ndarray) -> CaptionScores:
    """Score captions from embeddings.

    Args:
        pictures: the N unit embeddings of pictures, (N, D).
        captions: the M unit embeddings of all their captions, (M, D).
        owner: the row of each caption's picture, (M,) integers, in ascending order.

    Raises:
        ValueError: an embedding is not finite.
    """
    cosines = np.einsum("md,md->m", pictures[owner], captions, dtype=np.float64)
    counts = np.bincount(owner, minlength=len(pictures))[owner]
    sums = np.zeros((len(pictures), captions.shape[1]))
    np.add.at(sums, owner, captions)
    # The sum holds the caption itself, whose cosine with itself is 1.
    with_itself = np.einsum("md,md->m", sums[owner], captions, dtype=np.float64)
    itself = np.einsum("md,md->m", captions, captions, dtype=np.float64)
    means = (with_itself - itself) / np.maximum(counts - 1, 1)
    agreements = np.where(counts >= LEAST_CAPTIONS, means, np.nan)
    if not (np.isfinite(cosines).all() and np.isfinite(itself).all()):
        raise ValueError("the embeddings are not finite: the model diverged")
    return CaptionScores(
        np.clip(cosines, -1, 1).astype(np.float32), np.clip(agreements, -1, 1).astype(np.float32)
    )
