"""Fits Platt scaling or isotonic regression to the scores of a calibration split. scikit-learn.

Platt, "Probabilistic outputs for support vector machines", 1999: one sigmoid per class with
smoothed targets, so that classes with few positives do not get probabilities of 0 or 1. Isotonic
regression: the best monotone step function (Zadrozny and Elkan 2002), interpolated linearly. Both
increase with the cosine.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from tfclip.evaluation.decisions.calibration import Calibration, Isotonic, Platt


def fit_calibration(
    kind: str, scores: np.ndarray, truth: np.ndarray, ignore: np.ndarray | None = None
) -> Calibration:
    """Fit one curve per class; classes without positives or negatives get one fitted on all cells.

    Args:
        kind: one of `CALIBRATIONS`.
        scores: (N,C) finite.
        truth: (N,C) bool.
        ignore: (N,C) bool, cells left out.

    Raises:
        ValueError: the cells of all classes together have no positive or no negative.
    """
    scores, truth = np.asarray(scores, np.float64), np.asarray(truth, bool)
    kept = np.ones_like(truth) if ignore is None else ~np.asarray(ignore, bool)
    if truth[kept].all() or not truth[kept].any():
        raise ValueError(
            "calibration needs positives and negatives; the split has only one of them"
        )
    fit = _fit_platt if kind == "platt" else _fit_isotonic
    fitted, of_all = [], None
    for c in range(scores.shape[1]):
        cells = kept[:, c]
        if truth[cells, c].any() and not truth[cells, c].all():
            fitted.append(fit(scores[cells, c], truth[cells, c]))
        else:
            of_all = of_all or fit(scores[kept], truth[kept])
            fitted.append(of_all)
    first, second = (_padded(column) for column in zip(*fitted, strict=True))
    return Platt(first[:, 0], second[:, 0]) if kind == "platt" else Isotonic(first, second)


def _fit_platt(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    positives = int(truth.sum())
    # Platt's smoothed targets, which follow from a uniform prior.
    high, low = (positives + 1) / (positives + 2), 1 / (len(truth) - positives + 2)
    target = np.where(truth, high, low)
    rate = target.mean()
    base_rate = np.array([0.0]), np.array([np.log(rate / (1 - rate))])
    mean, spread = scores.mean(), np.ptp(scores) and scores.std()
    if not spread:
        return base_rate
    # Cosines differ by a few hundredths; standardising makes the fit well conditioned.
    rows = np.tile((scores - mean) / spread, 2)[:, None]
    classes = np.repeat([True, False], len(scores))
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000, solver="newton-cholesky")
    model.fit(rows, classes, sample_weight=np.concatenate([target, 1 - target]))
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope <= 0:  # The score is uninformative: predict the base rate.
        return base_rate
    return np.array([slope / spread]), np.array([intercept - slope * mean / spread])


def _fit_isotonic(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, truth)
    return model.X_thresholds_, model.y_thresholds_


def _padded(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Pad rows to one length by repeating their last number."""
    longest = max(map(len, columns))
    return np.stack([np.pad(column, (0, longest - len(column)), "edge") for column in columns])
