"""Correlation of similarities with people's scores, by numpy alone, and the table of a run."""

from __future__ import annotations

import numpy as np


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Linear correlation of x (N,) and y (N,), in -1..1; NaN where one of them is constant."""
    x, y = (np.asarray(values, np.float64) - np.mean(values) for values in (x, y))
    # Values that differ by rounding alone do not vary.
    spread = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / spread) if spread > 0 else float("nan")


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation of x (N,) and y (N,), in -1..1; equal values share the mean of their ranks.

    Spearman 1904, in the form for ties: Pearson's correlation of the ranks.
    """
    return pearson(average_ranks(x), average_ranks(y))


def average_ranks(values: np.ndarray) -> np.ndarray:
    """The ranks (N,) of values (N,), the least is 1; equal values share the mean of theirs."""
    _, which, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[which]
