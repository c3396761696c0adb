"""Multi-label metrics in plain NumPy: average precision both ways, confusion rates, bootstrap.

Everywhere: `scores` (N,C) are one number per picture and class, `truth` (N,C) says which classes
are present, `ignore` (N,C) marks cells that count neither way (VOC's "difficult" objects). A share
that is undefined (nothing to find, nothing predicted) is NaN, never 0, and no mean includes it.

`weights` (N,R) repeats a measurement R times, picture n counted weights[n, r] times: that is the
bootstrap, and it costs one sort for all R.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

RATES = ("accuracy", "sensitivity", "specificity", "precision", "f1")


class Confusion(NamedTuple):
    """Counts of true and false positives and negatives, per class (C,) or (C,R)."""

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
    """All-points average precision per class: the sum of recall gained times precision there.

    Equal scores enter together, as in scikit-learn's `average_precision_score`, so the order of the
    pictures does not matter.

    Returns:
        (C,) float64, or (C,R) with `weights`; NaN for a class without positives.

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
    """VOC2007's 11-point average precision per class.

    The mean, over the recalls 0, 0.1, ... 1, of the best precision reached at that recall or a
    higher one (Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", 2010).
    Shapes, NaN and errors as in `average_precision`.
    """
    return _per_class(_eleven_points, scores, truth, ignore, weights)


def confusion(
    predicted: np.ndarray,
    truth: np.ndarray,
    ignore: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Confusion:
    """Counts, per class, of what was predicted (N,C) bool against the truth (N,C) bool.

    Returns:
        Confusion of (C,) counts, or (C,R) with `weights` (N,R).

    Raises:
        ValueError: shapes differ.
    """
    predicted, truth = np.asarray(predicted, bool), np.asarray(truth, bool)
    _same_shape(predicted, truth, ignore, weights)
    counted = np.ones_like(truth) if ignore is None else ~np.asarray(ignore, bool)
    weights = None if weights is None else weights.astype(np.float64)

    def count(cells: np.ndarray) -> np.ndarray:
        # Through float64 because integer matrix products bypass BLAS; counts stay exact to 2**53.
        cells = (cells & counted).astype(np.float64)
        return cells.sum(axis=0) if weights is None else cells.T @ weights

    return Confusion(
        tp=count(predicted & truth),
        fp=count(predicted & ~truth),
        tn=count(~predicted & ~truth),
        fn=count(~predicted & truth),
    )


def rates(counts: Confusion) -> dict[str, np.ndarray]:
    """The shares of `RATES`, 0..1, from counts of any shape; NaN where undefined.

    Sensitivity and F1 need a positive, specificity a negative, precision a prediction. F1 with
    positives and no hit is 0.
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
    """The mean over classes (axis 0) of each share, over the classes where it is defined."""
    return {name: mean_defined(values) for name, values in rates(counts).items()}


def micro(counts: Confusion) -> dict[str, np.ndarray]:
    """Each share of all cells pooled over classes (axis 0)."""
    return rates(Confusion(*(count.sum(axis=0) for count in counts)))


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over axis 0 without the NaNs; NaN (and no warning) where nothing is left."""
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

    # NumPy lets go of the interpreter: resamples keep all cores busy.
    with ThreadPoolExecutor(1 if weights is None else os.cpu_count()) as threads:
        list(threads.map(measure_class, range(classes)))
    return result[:, 0] if weights is None else result


def _ranked(
    scores: np.ndarray, truth: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positives (G,R) and pictures (G,R) seen, from the top, at each distinct score of a positive.

    The scores between hold only negatives: there recall stands still and precision falls, so
    neither definition of average precision needs them.
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
    # Whole numbers on both sides: 3/10 of the positives is a recall of 0.3, whatever floats say.
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
