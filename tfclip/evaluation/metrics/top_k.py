"""Single-label accuracy: is the true class among the k best?"""

from collections.abc import Sequence

import numpy as np


def top_k(
    scores: np.ndarray, truth: np.ndarray, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Return the share of pictures whose true class is among the k highest scores.

    A class that ties with the true one stands before it, so constant scores are right about
    nothing. With k classes or fewer every picture is a hit.

    Args:
        scores: (N,C) float, the higher the likelier.
        truth: (N,) int, the index of the true class.
        ks: how many classes count, each 1 or more.

    Returns:
        "top1", "top5", ... for each of `ks`, 0..1.

    Raises:
        ValueError: no pictures, shapes that do not fit, a class that is not there, or a score that
            is not finite.
    """
    scores, truth = np.asarray(scores), np.asarray(truth)
    if scores.ndim != 2 or not len(scores) or truth.shape != scores.shape[:1]:
        raise ValueError(
            f"received scores {scores.shape}, truth {truth.shape}; allowed: (N,C), (N,), N above 0"
        )
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise ValueError(f"received a class outside 0..{scores.shape[1] - 1}")
    if not np.isfinite(scores).all():
        # NaN loses every comparison: the true class would come out first.
        raise ValueError("scores must be finite; received NaN or infinity: the model diverged")
    ranks = true_ranks(scores, truth)
    return {f"top{k}": float(np.mean(ranks <= k)) for k in ks}


def mean_per_class_recall(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean, over the classes that occur, of the share of its pictures with rank 1.

    Shapes as in `top_k`.
    """
    first = true_ranks(scores, truth) == 1
    return float(np.mean([first[truth == c].mean() for c in np.unique(truth)]))


def true_ranks(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the rank (N,) of the true class, from 1; a class that ties with it stands before."""
    own = np.take_along_axis(scores, truth[:, None], axis=1)
    return np.sum(scores >= own, axis=1)
