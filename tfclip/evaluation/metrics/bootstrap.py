"""Bootstrap resamples of pictures, and the intervals that they give."""

import numpy as np

from tfclip.evaluation.metrics.multilabel import mean_defined


def bootstrap_weights(pictures: int, resamples: int, seed: int) -> np.ndarray:
    """How often each picture is drawn in each of R resamples with replacement: (N,R) int16.

    The same seed gives the same resamples, so two measurements on them are paired.
    """
    rng = np.random.default_rng(seed)
    weights = np.empty((pictures, resamples), np.int16)
    for r in range(resamples):
        drawn = rng.integers(0, pictures, pictures)
        weights[:, r] = np.bincount(drawn, minlength=pictures)
    return weights


def interval(samples: np.ndarray) -> list[float]:
    """The 95 % percentile interval [low, high] of samples (R,); NaNs where none is defined."""
    defined = samples[~np.isnan(samples)]
    if not defined.size:
        return [float("nan"), float("nan")]
    low, high = np.percentile(defined, (2.5, 97.5))
    return [float(low), float(high)]


def recentred_bootstrap_interval(figure: float, resampled: np.ndarray) -> list[float]:
    """The 95 % interval of resamples (R,), moved so that their mean is the figure.

    A resample holds pictures twice, which lifts average precision where positives are few: left
    where it is, the interval may not even hold the figure.
    """
    return interval(resampled - mean_defined(resampled) + figure)
