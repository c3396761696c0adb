"""Calibration of probabilities: reliability diagram and expected calibration error."""

import numpy as np

BINS = 15


def reliability(
    probabilities: np.ndarray,
    truth: np.ndarray,
    ignore: np.ndarray | None = None,
    bins: int = BINS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return predicted and observed frequencies in bins of equal width, over all cells.

    Args:
        probabilities: (N,C), 0..1.
        truth: (N,C) bool.
        ignore: (N,C) bool, cells left out.
        bins: number of bins B; the last one includes 1.

    Returns:
        count (B,), mean probability (B,) and fraction of positives (B,); NaN in an empty bin.

    >>> reliability(np.array([[0.2, 0.9]]), np.array([[False, True]]), bins=2)
    (array([1, 1]), array([0.2, 0.9]), array([0., 1.]))
    """
    kept = np.ones(np.shape(truth), bool) if ignore is None else ~np.asarray(ignore, bool)
    predicted, true = np.asarray(probabilities, np.float64)[kept], np.asarray(truth, bool)[kept]
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, predicted, bins) / count
        fraction = np.bincount(place, true, bins) / count
    return count, mean, fraction


def expected_calibration_error(
    probabilities: np.ndarray,
    truth: np.ndarray,
    ignore: np.ndarray | None = None,
    bins: int = BINS,
) -> float:
    """Return the mean |predicted - observed frequency| over bins (Naeini et al. 2015), 0..1.

    Bins are weighted by their counts. Shapes as in `reliability`; NaN without a cell.

    >>> expected_calibration_error(np.array([[0.25, 0.75]]), np.array([[False, True]]), bins=2)
    0.25
    """
    count, mean, fraction = reliability(probabilities, truth, ignore, bins)
    if not count.sum():
        return float("nan")
    return float(np.nansum(count * np.abs(mean - fraction)) / count.sum())
