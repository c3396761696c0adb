"""Thresholds without a calibration split: from pictures that do not show a class.

Nobody labelled them: a picture counts as unrelated to a class when none of its captions names it.
What such a threshold promises is a false-positive rate, and nothing about what it finds. It is that
of split conformal prediction (Vovk et al. 2005): of n scores of negatives, the threshold lies above
the ceil((n + 1) (1 - rate))-th smallest, so that one more negative picture, drawn alike, is
predicted with a probability of at most `rate`, whatever the distribution is. A picture that shows
a class its captions do not name only lifts the threshold.
"""

import math

import numpy as np

from tfclip.evaluation.decisions.thresholds import MARGIN, Thresholds


def negatives_threshold(scores: np.ndarray, rate: float) -> float:
    """Return the least threshold that predicts a further negative with probability <= `rate`.

    Args:
        scores: (N,) of negatives, finite.
        rate: above 0 and below 1.

    Returns:
        A number of the scores' own type, as float; above everything where there are too few
        negatives (fewer than 1 / rate - 1) to promise the rate.

    Raises:
        ValueError: no scores, or a rate that is not between 0 and 1.
    """
    scores = np.asarray(scores)
    if not 0 < rate < 1 or not scores.size or not np.isfinite(scores).all():
        raise ValueError(
            f"received {scores.size} scores and rate {rate}; allowed: finite scores, 0 < rate < 1"
        )
    # A share like 0.95 of 100 must not become 95.00000000000001.
    rank = math.ceil(round((scores.size + 1) * (1 - rate), 9))
    if rank > scores.size:
        return float(scores.max() + MARGIN)
    # Predicted is score >= threshold: the threshold lies just above the score of that rank.
    return float(np.nextafter(np.sort(scores)[rank - 1], scores.dtype.type(np.inf)))


def negatives_thresholds(scores: np.ndarray, related: np.ndarray, rate: float) -> Thresholds:
    """Fit one threshold per class, and one for all, on pictures that do not name the class.

    Args:
        scores: (N,C).
        related: (N,C) bool, cells left out: the captions name the class.
        rate: the false-positive rate to promise.

    Raises:
        ValueError: a class without an unrelated picture; see `negatives_threshold`.
    """
    columns = range(scores.shape[1])
    return Thresholds(
        np.array([negatives_threshold(scores[~related[:, c], c], rate) for c in columns]),
        negatives_threshold(scores[~related], rate),
        (),
    )
