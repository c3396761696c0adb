"""Curves: decision rates against one threshold, precision against recall. NumPy."""

from __future__ import annotations

import numpy as np

from tfclip.evaluation.metrics.multilabel import Confusion, rates

POINTS = 400
"""The number of thresholds of a curve."""


def threshold_curves(
    scores: np.ndarray, truth: np.ndarray, ignore: np.ndarray, threshold: float
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the rates of one threshold for all classes, over the range of the scores.

    Args:
        scores, truth, ignore: (N,C); cells of all classes are pooled.
        threshold: the chosen one.

    Returns:
        thresholds (K,), ascending except for the chosen one, which is last; and the (K,) rates of
        `multilabel.rates` by name.

    >>> scores, truth = np.array([[0.1, 0.9]]), np.array([[False, True]])
    >>> thresholds, rates_ = threshold_curves(scores, truth, ~truth & truth, 0.5)
    >>> float(rates_["f1"][-1])
    1.0
    """
    positive, negative = (np.sort(scores[cells & ~ignore]) for cells in (truth, ~truth))
    low, high = np.min([scores.min(), threshold]), np.max([scores.max(), threshold])
    thresholds = np.append(np.linspace(low, high, POINTS), threshold)
    fn, tn = (np.searchsorted(cells, thresholds, "left") for cells in (positive, negative))
    counts = Confusion(tp=len(positive) - fn, fp=len(negative) - tn, tn=tn, fn=fn)
    return thresholds, rates(counts)


def precision_recall_curve(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the reachable recalls (K,), ascending, and the best precision (K,) at each.

    The area under the steps is the all-points average precision.

    >>> precision_recall_curve(np.array([3, 2, 1]), np.array([True, False, True]))
    (array([0.5, 1. ]), array([1.        , 0.66666667]))

    Args:
        scores: (N,).
        truth: (N,) bool, with at least one positive.
    """
    order = np.argsort(-scores, kind="stable")
    # Tied scores are one point.
    ends = np.append(np.diff(scores[order]) != 0, True)
    hits, seen = np.cumsum(truth[order])[ends], np.flatnonzero(ends) + 1
    rises = np.diff(hits, prepend=0) > 0
    return hits[rises] / hits[-1], (hits / seen)[rises]
