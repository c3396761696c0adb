"""Bootstrap resamples of pictures, and confidence intervals from them."""

import numpy as np

from tfclip.evaluation.metrics.multilabel import mean_defined


def bootstrap_weights(pictures: int, resamples: int, seed: int) -> np.ndarray:
    """Return how often each picture occurs in each of R resamples with replacement: (N,R) int16.

    The same seed gives the same resamples, so that two measurements can be paired.

    >>> bootstrap_weights(pictures=5, resamples=3, seed=0).sum(axis=0).tolist()
    [5, 5, 5]
    """
    rng = np.random.default_rng(seed)
    weights = np.empty((pictures, resamples), np.int16)
    for r in range(resamples):
        sample = rng.integers(0, pictures, pictures)
        weights[:, r] = np.bincount(sample, minlength=pictures)
    return weights


def interval(samples: np.ndarray) -> list[float]:
    """Return the 95 % percentile interval [low, high] of samples (R,); NaNs are left out.

    Both ends are NaN when no sample is defined.

    >>> interval(np.arange(101.0))
    [2.5, 97.5]
    """
    defined = samples[~np.isnan(samples)]
    if not defined.size:
        return [float("nan"), float("nan")]
    low, high = np.percentile(defined, (2.5, 97.5))
    return [float(low), float(high)]


def recentred_bootstrap_interval(figure: float, resampled: np.ndarray) -> list[float]:
    """Return the 95 % interval of resamples (R,), shifted so that their mean is `figure`.

    Resamples hold some pictures twice, which biases average precision upwards where positives are
    few: without the shift the interval may not even contain the figure.

    >>> recentred_bootstrap_interval(0.5, np.linspace(0.5, 0.7, 101))
    [0.405, 0.595]
    """
    return interval(resampled - mean_defined(resampled) + figure)
