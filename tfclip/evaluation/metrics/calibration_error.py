"""How far probabilities are from the truth: reliability and expected calibration error."""

import numpy as np

BINS = 15


def reliability(
    probabilities: np.ndarray,
    truth: np.ndarray,
    ignore: np.ndarray | None = None,
    bins: int = BINS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What was promised and what was true, in bins of equal width over all cells.

    Args:
        probabilities: (N,C), 0..1.
        truth: (N,C) bool.
        ignore: (N,C) bool, cells left out.
        bins: B; the last one holds 1.

    Returns:
        count (B,), mean probability (B,) and share of positives (B,); NaN in an empty bin.
    """
    kept = np.ones(np.shape(truth), bool) if ignore is None else ~np.asarray(ignore, bool)
    promised, true = np.asarray(probabilities, np.float64)[kept], np.asarray(truth, bool)[kept]
    place = np.minimum((promised * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, promised, bins) / count
        share = np.bincount(place, true, bins) / count
    return count, mean, share


def expected_calibration_error(
    probabilities: np.ndarray,
    truth: np.ndarray,
    ignore: np.ndarray | None = None,
    bins: int = BINS,
) -> float:
    """The mean distance of promise and truth over all cells (Naeini et al. 2015), 0..1.

    Shapes as in `reliability`; NaN without a cell.
    """
    count, mean, share = reliability(probabilities, truth, ignore, bins)
    if not count.sum():
        return float("nan")
    return float(np.nansum(count * np.abs(mean - share)) / count.sum())
