"""The curves of a measurement: shares against one threshold, precision against recall. NumPy."""

from __future__ import annotations

import numpy as np

from tfclip.evaluation.metrics.multilabel import Confusion, rates

POINTS = 400
"""Thresholds of a curve."""


def threshold_curves(
    scores: np.ndarray, truth: np.ndarray, ignore: np.ndarray, threshold: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What one threshold for all classes does, over the range of the scores.

    Args:
        scores, truth, ignore: (N,C); cells of all classes are pooled.
        threshold: the chosen one.

    Returns:
        thresholds (K,), rising, but for the chosen one that comes last; and the (K,) shares of
        `multilabel.rates`.
    """
    positive, negative = (np.sort(scores[cells & ~ignore]) for cells in (truth, ~truth))
    low, high = np.min([scores.min(), threshold]), np.max([scores.max(), threshold])
    thresholds = np.append(np.linspace(low, high, POINTS), threshold)
    fn, tn = (np.searchsorted(cells, thresholds, "left") for cells in (positive, negative))
    counts = Confusion(tp=len(positive) - fn, fp=len(negative) - tn, tn=tn, fn=fn)
    return thresholds, rates(counts)


def precision_recall_curve(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The recalls (K,), rising, that a threshold can reach, and the best precision (K,) at each.

    The area under the steps is the all-points average precision.

    Args:
        scores: (N,).
        truth: (N,) bool, with a positive.
    """
    order = np.argsort(-scores, kind="stable")
    # Scores that tie are one point.
    ends = np.append(np.diff(scores[order]) != 0, True)
    hits, seen = np.cumsum(truth[order])[ends], np.flatnonzero(ends) + 1
    rises = np.diff(hits, prepend=0) > 0
    return hits[rises] / hits[-1], (hits / seen)[rises]
