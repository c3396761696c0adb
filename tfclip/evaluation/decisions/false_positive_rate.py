"""Thresholds for a false-positive rate, from captioned pictures without class labels.

A picture counts as a negative of a class when none of its captions names the class. The threshold
bounds the false-positive rate; recall is not guaranteed. It follows split conformal prediction
(Vovk et al. 2005): of n negative scores, the threshold is just above the ceil((n + 1) (1 -
rate))-th smallest, so that a further negative picture from the same distribution is predicted with
probability at most `rate`. A picture that shows a class its captions do not name only raises the
threshold.
"""

import math

import numpy as np

from tfclip.evaluation.decisions.thresholds import MARGIN, Thresholds


def negatives_threshold(scores: np.ndarray, rate: float) -> float:
    """Return the lowest threshold that predicts a further negative with probability <= `rate`.

    Args:
        scores: (N,) scores of negatives, finite.
        rate: above 0 and below 1.

    Returns:
        A value of the scores' dtype, as float. With fewer than 1 / rate - 1 negatives, which cannot
        guarantee the rate, it is above all scores.

    Raises:
        ValueError: no scores, or a rate outside 0..1.

    >>> round(negatives_threshold(np.arange(0.0, 1.0, 0.01), rate=0.05), 6)
    0.95
    """
    scores = np.asarray(scores)
    if not 0 < rate < 1 or not scores.size or not np.isfinite(scores).all():
        raise ValueError(
            f"received {scores.size} scores and rate {rate}; allowed: finite scores, 0 < rate < 1"
        )
    # Rounding: 100 * 0.95 must not become 95.00000000000001.
    rank = math.ceil(round((scores.size + 1) * (1 - rate), 9))
    if rank > scores.size:
        return float(scores.max() + MARGIN)
    # A class is predicted at score >= threshold, so the threshold is just above that score.
    return float(np.nextafter(np.sort(scores)[rank - 1], scores.dtype.type(np.inf)))


def negatives_thresholds(scores: np.ndarray, related: np.ndarray, rate: float) -> Thresholds:
    """Fit one threshold per class and one for all on pictures whose captions lack the class.

    Args:
        scores: (N,C).
        related: (N,C) bool, cells left out because the captions name the class.
        rate: the bound of the false-positive rate.

    Raises:
        ValueError: every picture names a class; see `negatives_threshold`.
    """
    columns = range(scores.shape[1])
    return Thresholds(
        np.array([negatives_threshold(scores[~related[:, c], c], rate) for c in columns]),
        negatives_threshold(scores[~related], rate),
        (),
    )
