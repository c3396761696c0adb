"""Fits decision thresholds, one per class, to the scores and labels of a calibration split.

A class is predicted when score >= threshold. The candidates are the midpoints between neighbouring
distinct scores, so that rounding does not change a decision, and one below and one above all
scores, which predict everything or nothing. Every other threshold decides like one of them, so the
fit is exact. A candidate has the dtype of the scores: for float32 scores it decides the same in
float32 and in float64.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfclip.evaluation.metrics.multilabel import Confusion, rates
from tfclip.naming import unknown

PLAIN = ("f1", "accuracy", "youden")
"""Maximised: F1, accuracy, sensitivity + specificity - 1 (Youden 1950)."""
BOUNDED = {
    "sensitivity": "specificity",
    "specificity": "sensitivity",
    "precision": "sensitivity",
}
"""The rate that is held at or above a bound, and the rate that is maximised under it."""
ALLOWED = (*PLAIN, *(f"{metric}:0.9" for metric in BOUNDED))
ROUNDING = 1e-12
"""Sums of rates that differ by less count as equal."""
MARGIN = 2.0
"""Distance of the outermost candidates from the scores. Cosines and probabilities differ by at most
2, so these candidates predict everything or nothing for other pictures too."""


class Objective(NamedTuple):
    """What a threshold maximises: `metric`, or with a bound the other rate if metric >= bound."""

    metric: str
    bound: float | None = None


@dataclass(frozen=True)
class Thresholds:
    """Thresholds fitted on a calibration split.

    Attributes:
        per_class: (C,) float64.
        overall: one threshold for all classes, fitted on all cells together ("global").
        from_overall: indices of classes without positives or negatives, which use `overall`.
    """

    per_class: np.ndarray
    overall: float
    from_overall: tuple[int, ...]


def parse_objective(text: str) -> Objective:
    """Parse "f1", "accuracy", "youden" or "sensitivity:0.9" (also specificity and precision).

    "sensitivity>=0.9" is the same; in a shell it needs quotes.

    Raises:
        ValueError: another objective, or a bound outside 0..1.

    >>> parse_objective("sensitivity:0.9")
    Objective(metric='sensitivity', bound=0.9)
    """
    sign = ">=" if ">=" in text else ":"
    metric, bounded, bound = (part.strip() for part in text.partition(sign))
    if not bounded and metric in PLAIN:
        return Objective(metric)
    if not bounded or metric not in BOUNDED:
        raise unknown("objective", text, ALLOWED)
    try:
        value = float(bound)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise ValueError(f"objective {text!r}: the bound must be above 0 and at most 1")
    return Objective(metric, value)


class Candidates(NamedTuple):
    """All thresholds with different decisions, ascending, and their counts.

    Attributes:
        thresholds: (K,) from "everything" to "nothing predicted"; K = distinct scores + 1.
        gaps: (K,) distance between the scores on both sides; 0 at both ends.
        counts: Confusion of (K,) counts.
    """

    thresholds: np.ndarray
    gaps: np.ndarray
    counts: Confusion


def candidates(
    scores: np.ndarray, truth: np.ndarray, ignore: np.ndarray | None = None
) -> Candidates:
    """List the candidate thresholds for `scores` (N,) and `truth` (N,) bool.

    Args:
        scores: (N,) finite.
        truth: (N,) bool.
        ignore: (N,) bool, cells left out.

    Raises:
        ValueError: shapes differ, all cells are ignored, or a score is not finite.
    """
    shapes = [np.shape(cells) for cells in (scores, truth, ignore) if cells is not None]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ValueError(f"scores, truth and ignore must share one (N,) shape; received {shapes}")
    kept = np.ones(len(scores), bool) if ignore is None else ~np.asarray(ignore, bool)
    scores, truth = np.asarray(scores)[kept], np.asarray(truth, bool)[kept]
    scores = scores if scores.dtype == np.float32 else scores.astype(np.float64)
    if not scores.size or not np.isfinite(scores).all():
        raise ValueError(f"a threshold needs scores, all finite; received {scores.size} scores")
    distinct, place = np.unique(scores, return_inverse=True)
    between = np.diff(distinct)
    middle = distinct[:-1] + between / 2
    # Between adjacent floats there is no midpoint: it may round down to the lower score.
    middle = np.where(middle > distinct[:-1], middle, distinct[1:])
    thresholds = np.concatenate([distinct[:1] - MARGIN, middle, distinct[-1:] + MARGIN])
    fn = np.append(0, np.cumsum(np.bincount(place, truth, len(distinct))))
    tn = np.append(0, np.cumsum(np.bincount(place, ~truth, len(distinct))))
    counts = Confusion(tp=fn[-1] - fn, fp=tn[-1] - tn, tn=tn, fn=fn)
    return Candidates(thresholds, np.pad(between, 1), counts)


def fit_threshold(
    scores: np.ndarray,
    truth: np.ndarray,
    objective: Objective | str = "f1",
    ignore: np.ndarray | None = None,
) -> float:
    """Return the best threshold for `objective` on the given cells.

    Ties go to the candidate in the widest gap between scores, then to the lowest. Under a bound,
    the other rate decides first, then the bounded one. If no threshold reaches the bound, the one
    that predicts nothing is returned.

    Args:
        scores, truth, ignore: (N,), see `candidates`.
        objective: parsed, or as text.

    Returns:
        The threshold; NaN when the cells have no positive or no negative.

    >>> fit_threshold(np.array([0.1, 0.2, 0.6, 0.8]), np.array([False, False, True, True]))
    0.4
    """
    objective = parse_objective(objective) if isinstance(objective, str) else objective
    kept = np.asarray(truth, bool)
    kept = kept if ignore is None else kept[~np.asarray(ignore, bool)]
    if kept.all() or not kept.any():
        return float("nan")
    thresholds, gaps, counts = candidates(scores, truth, ignore)
    values = rates(counts)
    best = np.ones(len(thresholds), bool)
    if objective.bound is not None:
        best = values[objective.metric] >= objective.bound
        if not best.any():
            return float(thresholds[-1])
        order = [values[BOUNDED[objective.metric]], values[objective.metric]]
    elif objective.metric == "youden":
        order = [values["sensitivity"] + values["specificity"]]
    else:
        order = [values[objective.metric]]
    for value in [*order, gaps]:
        best &= value >= value[best].max() - ROUNDING
    return float(thresholds[np.argmax(best)])


def fit_thresholds(
    scores: np.ndarray,
    truth: np.ndarray,
    objective: Objective | str = "f1",
    ignore: np.ndarray | None = None,
) -> Thresholds:
    """Fit one threshold per class, and one for all cells (N,C) together.

    Classes without positives or negatives get the one for all and are listed in `from_overall`.

    Args:
        scores, truth, ignore: (N,C), see `candidates`.
        objective: parsed, or as text.

    Raises:
        ValueError: the cells of all classes together have no positive or no negative.
    """
    ignored = np.zeros(np.shape(truth), bool) if ignore is None else np.asarray(ignore, bool)
    overall = fit_threshold(scores.ravel(), truth.ravel(), objective, ignored.ravel())
    if np.isnan(overall):
        raise ValueError("thresholds cannot be fitted: the split has no positive or no negative")
    per_class = np.array(
        [
            fit_threshold(scores[:, c], truth[:, c], objective, ignored[:, c])
            for c in range(scores.shape[1])
        ]
    )
    unfitted = np.isnan(per_class)
    return Thresholds(
        per_class=np.where(unfitted, overall, per_class),
        overall=overall,
        from_overall=tuple(np.flatnonzero(unfitted).tolist()),
    )
