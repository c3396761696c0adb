"""Decision thresholds: from scores and truth on a calibration split to one number per class.

The rule everywhere is: predicted = score >= threshold. The candidates are the midpoints between
neighbouring distinct scores, so that rounding noise in a score does not flip a decision, and one
below and one above all scores: everything or nothing is predicted. No other threshold decides
otherwise, so the fit is exact. A candidate is a number of the scores' own type: of float32 scores
it decides the same in float32 and in float64.
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
"""What is held at or above a bound, and what is maximised under that."""
ALLOWED = (*PLAIN, *(f"{share}:0.9" for share in BOUNDED))
ROUNDING = 1e-12
"""Sums of shares that differ by less are equal."""
MARGIN = 2.0
"""How far the outermost candidates lie out: two cosines, or two probabilities, differ by no more,
so that "everything" and "nothing" hold for other pictures too."""


class Objective(NamedTuple):
    """What a threshold is chosen for: `share` itself, or the best other share at share >= bound."""

    share: str
    bound: float | None = None


@dataclass(frozen=True)
class Thresholds:
    """What was fitted on a calibration split.

    Attributes:
        per_class: (C,) float64.
        overall: one threshold for all classes, fitted on all cells together ("global").
        from_overall: indices of the classes without a positive or a negative, that got `overall`.
    """

    per_class: np.ndarray
    overall: float
    from_overall: tuple[int, ...]


def parse_objective(text: str) -> Objective:
    """Read "f1", "accuracy", "youden", or "sensitivity:0.9" (specificity and precision alike).

    "sensitivity>=0.9" is the same; in a shell it needs quotes.

    Raises:
        ValueError: anything else, or a bound outside 0..1.
    """
    sign = ">=" if ">=" in text else ":"
    share, bounded, bound = (part.strip() for part in text.partition(sign))
    if not bounded and share in PLAIN:
        return Objective(share)
    if not bounded or share not in BOUNDED:
        raise unknown("objective", text, ALLOWED)
    try:
        value = float(bound)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise ValueError(f"objective {text!r}: the bound must be above 0 and at most 1")
    return Objective(share, value)


class Candidates(NamedTuple):
    """Every threshold that decides differently, rising, and what each one does.

    Attributes:
        thresholds: (K,) from "everything" to "nothing predicted", K = distinct scores + 1.
        gaps: (K,) distance between the two scores around each; 0 at both ends.
        counts: Confusion of (K,) counts.
    """

    thresholds: np.ndarray
    gaps: np.ndarray
    counts: Confusion


def candidates(
    scores: np.ndarray, truth: np.ndarray, ignore: np.ndarray | None = None
) -> Candidates:
    """List the thresholds that `scores` (N,) can be cut at, for `truth` (N,) bool.

    Args:
        scores: (N,) finite.
        truth: (N,) bool.
        ignore: (N,) bool, cells left out.

    Raises:
        ValueError: shapes differ, no cell is left, or a score is not finite.
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
    # Between neighbouring floats there is none: the middle may round down to the lower score.
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
    """Choose the threshold that is best for `objective` on the given cells.

    Ties go to the candidate in the widest gap between scores, then to the lowest. Under a bound the
    other share decides first, then the bounded one. Where no threshold reaches a precision, the
    one that predicts nothing is taken: it makes no false alarm.

    Args:
        scores, truth, ignore: (N,), see `candidates`.
        objective: parsed, or as text.

    Returns:
        The threshold; NaN when the cells hold no positive or no negative, which fix none.
    """
    objective = parse_objective(objective) if isinstance(objective, str) else objective
    kept = np.asarray(truth, bool)
    kept = kept if ignore is None else kept[~np.asarray(ignore, bool)]
    if kept.all() or not kept.any():
        return float("nan")
    thresholds, gaps, counts = candidates(scores, truth, ignore)
    shares = rates(counts)
    best = np.ones(len(thresholds), bool)
    if objective.bound is not None:
        best = shares[objective.share] >= objective.bound
        if not best.any():
            return float(thresholds[-1])
        order = [shares[BOUNDED[objective.share]], shares[objective.share]]
    elif objective.share == "youden":
        order = [shares["sensitivity"] + shares["specificity"]]
    else:
        order = [shares[objective.share]]
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

    A class whose cells fix no threshold gets the one for all, and is named.

    Args:
        scores, truth, ignore: (N,C), see `candidates`.
        objective: parsed, or as text.

    Raises:
        ValueError: not even all cells together fix one.
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
