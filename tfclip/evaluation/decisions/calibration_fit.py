"""Fits Platt scaling or isotonic regression to the scores of a calibration split.

Platt, "Probabilistic outputs for support vector machines", 1999: one sigmoid per class with
smoothed targets, so that classes with few positives do not get probabilities of 0 or 1. Isotonic
regression: the best monotone step function (Zadrozny and Elkan 2002), interpolated linearly. Both
increase with the cosine.

Both fits are a few lines of NumPy: importing scikit-learn would take longer than a whole
evaluation from stored embeddings.
"""

from collections.abc import Sequence

import numpy as np

from tfclip.evaluation.decisions.calibration import Calibration, Isotonic, Platt

# Newton's method needs about ten; the limit ends fits of separable scores, whose slope grows.
NEWTON_STEPS = 100
PRECISION = 1e-12


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
    slope, intercept = _logistic((scores - mean) / spread, target)
    if slope <= 0:  # The score is uninformative: predict the base rate.
        return base_rate
    return np.array([slope / spread]), np.array([intercept - slope * mean / spread])


def _logistic(x: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept of the logistic regression of targets in (0, 1).

    Newton's method on the cross-entropy, which is convex; a step that increases it is halved.
    """
    rows = np.stack([x, np.ones_like(x)])
    rate = target.mean()
    weights = np.array([0.0, np.log(rate / (1 - rate))])
    loss = _cross_entropy(weights @ rows, target)
    for _ in range(NEWTON_STEPS):
        logits = weights @ rows
        probability = 0.5 * (1 + np.tanh(0.5 * logits))
        gradient = rows @ (probability - target)
        hessian = (rows * (probability * (1 - probability))) @ rows.T
        step = np.linalg.solve(hessian, gradient)
        while (new := _cross_entropy((weights - step) @ rows, target)) > loss:
            step /= 2
            if np.abs(step).max() < PRECISION:
                break
        weights, loss = weights - step, min(new, loss)
        if np.abs(step).max() < PRECISION:
            break
    return float(weights[0]), float(weights[1])


def _cross_entropy(logits: np.ndarray, target: np.ndarray) -> float:
    return float(np.sum(np.logaddexp(0, logits) - target * logits))


def _fit_isotonic(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the steps: scores and frequencies, both ascending.

    Pool adjacent violators (Barlow et al. 1972): equal scores are one observation, and neighbours
    in the wrong order are replaced by their mean.
    """
    x, first, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(first, weights=truth) / counts
    blocks: list[list[float]] = []  # mean, weight, observations
    for mean, weight in zip(means.tolist(), counts.tolist(), strict=True):
        blocks.append([mean, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            last, before = blocks.pop(), blocks[-1]
            whole = before[1] + last[1]
            before[0] = (before[0] * before[1] + last[0] * last[1]) / whole
            before[1], before[2] = whole, before[2] + last[2]
    y = np.repeat([block[0] for block in blocks], [int(block[2]) for block in blocks])
    ends = np.ones(len(y), bool)
    ends[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    return x[ends], y[ends]


def _padded(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Pad rows to one length by repeating their last number."""
    longest = max(map(len, columns))
    return np.stack([np.pad(column, (0, longest - len(column)), "edge") for column in columns])
