"""Multi-label metrics in NumPy: average precision in both definitions, confusion counts and rates.

In all functions `scores` (N,C) are one number per picture and class, `truth` (N,C) marks the
classes that are present, and `ignore` (N,C) marks cells that are not counted (VOC's "difficult"
objects). An undefined rate (no positive, nothing predicted) is NaN, never 0, and means leave it
out.

`weights` (N,R) evaluates R bootstrap resamples at once, in which picture n counts weights[n, r]
times; one sort serves all R.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

RATES = ("accuracy", "sensitivity", "specificity", "precision", "f1")


class Confusion(NamedTuple):
    """Numbers of true and false positives and negatives, by class (C,) or (C,R)."""

    tp: np.ndarray
    fp: np.ndarray
    tn: np.ndarray
    fn: np.ndarray


def average_precision(
    scores: np.ndarray,
    truth: np.ndarray,
    ignore: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Return the all-points average precision of each class: sum of recall increments x precision.

    Tied scores form one point, as in scikit-learn's `average_precision_score`, so the order of the
    pictures does not matter.

    Returns:
        (C,) float64, or (C,R) with `weights`; NaN for a class without positives.

    >>> average_precision(np.array([[3], [2], [1]]), np.array([[True], [False], [True]]))
    array([0.83333333])

    Raises:
        ValueError: shapes differ, or a score is not finite.
    """
    return _per_class(_all_points, scores, truth, ignore, weights)


def average_precision_voc07(
    scores: np.ndarray,
    truth: np.ndarray,
    ignore: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Return VOC2007's 11-point average precision of each class.

    The mean over the recalls 0, 0.1, ... 1 of the best precision at that recall or a higher one
    (Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010). Shapes, NaN and
    errors as in `average_precision`.

    >>> average_precision_voc07(np.array([[3], [2], [1]]), np.array([[True], [False], [True]]))
    array([0.84848485])
    """
    return _per_class(_eleven_points, scores, truth, ignore, weights)


def confusion(
    predicted: np.ndarray,
    truth: np.ndarray,
    ignore: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Confusion:
    """Count, for each class, predictions (N,C) bool against the truth (N,C) bool.

    Returns:
        Confusion of (C,) counts, or (C,R) with `weights` (N,R).

    >>> predicted, truth = np.array([[1], [1], [0]]), np.array([[1], [0], [0]])
    >>> counts = confusion(predicted, truth)
    >>> [int(count[0]) for count in counts]  # tp, fp, tn, fn
    [1, 1, 1, 0]

    Raises:
        ValueError: shapes differ.
    """
    predicted, truth = np.asarray(predicted, bool), np.asarray(truth, bool)
    _same_shape(predicted, truth, ignore, weights)
    counted = np.ones_like(truth) if ignore is None else ~np.asarray(ignore, bool)
    weights = None if weights is None else weights.astype(np.float64)

    def count(cells: np.ndarray) -> np.ndarray:
        # In float64, because integer matrix products do not use BLAS; exact up to 2**53.
        cells = (cells & counted).astype(np.float64)
        return cells.sum(axis=0) if weights is None else cells.T @ weights

    return Confusion(
        tp=count(predicted & truth),
        fp=count(predicted & ~truth),
        tn=count(~predicted & ~truth),
        fn=count(~predicted & truth),
    )


def rates(counts: Confusion) -> dict[str, np.ndarray]:
    """Return the rates of `RATES`, 0..1, from counts of any shape; NaN where undefined.

    Sensitivity and F1 need a positive, specificity a negative, precision a prediction. F1 is 0 when
    there are positives and none is predicted.

    >>> float(rates(Confusion(*np.array([3, 1, 5, 1])))["f1"])
    0.75
    """
    tp, fp, tn, fn = counts
    f1 = _share(2 * tp, 2 * tp + fp + fn)
    return {
        "accuracy": _share(tp + tn, tp + fp + tn + fn),
        "sensitivity": _share(tp, tp + fn),
        "specificity": _share(tn, tn + fp),
        "precision": _share(tp, tp + fp),
        "f1": np.where(tp + fn > 0, f1, np.nan),
    }


def macro(counts: Confusion) -> dict[str, np.ndarray]:
    """Return the mean of each rate over the classes (axis 0) for which it is defined."""
    return {name: mean_defined(values) for name, values in rates(counts).items()}


def micro(counts: Confusion) -> dict[str, np.ndarray]:
    """Return each rate of the counts summed over the classes (axis 0)."""
    return rates(Confusion(*(count.sum(axis=0) for count in counts)))


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Return the mean over axis 0 without NaNs; NaN, without a warning, where nothing is left.

    >>> float(mean_defined(np.array([0.25, np.nan, 0.75])))
    0.5
    """
    values = np.asarray(values, np.float64)
    defined = ~np.isnan(values)
    return _share(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0))


def _per_class(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    scores: np.ndarray,
    truth: np.ndarray,
    ignore: np.ndarray | None,
    weights: np.ndarray | None,
) -> np.ndarray:
    scores, truth = np.asarray(scores, np.float64), np.asarray(truth, bool)
    _same_shape(scores, truth, ignore, weights)
    if not np.isfinite(scores).all():
        raise ValueError(
            f"scores must be finite; received {int((~np.isfinite(scores)).sum())} of {scores.size} "
            "that are NaN or infinite: the model has diverged"
        )
    pictures, classes = scores.shape
    repeated = np.ones((pictures, 1), np.int16) if weights is None else weights
    result = np.full((classes, repeated.shape[1]), np.nan)

    def measure_class(c: int) -> None:
        kept = slice(None) if ignore is None else ~np.asarray(ignore[:, c], bool)
        if truth[kept, c].any():
            result[c] = measure(*_ranked(scores[kept, c], truth[kept, c], repeated[kept]))

    # NumPy releases the interpreter lock: resamples use all cores.
    with ThreadPoolExecutor(1 if weights is None else os.cpu_count()) as threads:
        list(threads.map(measure_class, range(classes)))
    return result[:, 0] if weights is None else result


def _ranked(
    scores: np.ndarray, truth: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return cumulative positives (G,R) and pictures (G,R) at each distinct score of a positive.

    Other scores belong to negatives only: there recall is constant and precision falls, so neither
    definition of average precision needs them.
    """
    order = np.argsort(-scores, kind="stable")
    scores, truth, weights = scores[order], truth[order], weights[order]
    group = np.cumsum(np.append(False, scores[1:] != scores[:-1]))
    positives = np.flatnonzero(truth)
    _, first = np.unique(group[positives], return_index=True)
    hits = np.add.reduceat(weights[positives], first, axis=0, dtype=np.int32)
    ends = np.searchsorted(group, group[positives[first]], side="right")
    starts = np.append(0, ends[:-1])
    seen = np.add.reduceat(weights[: ends[-1]], starts, axis=0, dtype=np.int32)
    return np.cumsum(hits, axis=0, dtype=np.int32), np.cumsum(seen, axis=0, dtype=np.int32)


def _all_points(hits: np.ndarray, seen: np.ndarray) -> np.ndarray:
    gained = np.diff(hits, axis=0, prepend=0)
    precision = hits / np.maximum(seen, 1)
    return _share((gained * precision).sum(axis=0), hits[-1])


def _eleven_points(hits: np.ndarray, seen: np.ndarray) -> np.ndarray:
    precision = hits / np.maximum(seen, 1)
    # Compared in integers: 3 of 10 positives is a recall of 0.3 exactly, which floats are not.
    best = [
        np.where(10 * hits >= tenth * hits[-1], precision, 0).max(axis=0) for tenth in range(11)
    ]
    return np.where(hits[-1] > 0, np.mean(best, axis=0), np.nan)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _same_shape(
    cells: np.ndarray, truth: np.ndarray, ignore: np.ndarray | None, weights: np.ndarray | None
) -> None:
    shapes = [np.shape(cells), np.shape(truth)] + ([] if ignore is None else [np.shape(ignore)])
    if len(set(shapes)) > 1 or cells.ndim != 2:
        raise ValueError(f"scores, truth and ignore must share one (N,C) shape; received {shapes}")
    if weights is not None and (weights.ndim != 2 or len(weights) != len(cells)):
        raise ValueError(f"weights must be ({len(cells)},R); received {weights.shape}")
