"""Top-k accuracy and mean per-class recall of single-label classification."""

from collections.abc import Sequence

import numpy as np


def top_k(
    scores: np.ndarray, truth: np.ndarray, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Return the fraction of pictures whose true class is among the k highest scores.

    Classes that tie with the true one rank ahead of it, so constant scores have an accuracy of 0.
    With k classes or fewer it is 1.

    Args:
        scores: (N,C) float, higher is more likely.
        truth: (N,) int, the index of the true class.
        ks: the values of k, each 1 or more.

    Returns:
        "top1", "top5", ... for each of `ks`, 0..1.

    Raises:
        ValueError: no pictures, shapes that do not match, a class index out of range, or scores
            that are not finite.

    >>> top_k(np.array([[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]]), np.array([2, 1]), ks=(1, 2))
    {'top1': 0.5, 'top2': 1.0}
    """
    scores, truth = np.asarray(scores), np.asarray(truth)
    if scores.ndim != 2 or not len(scores) or truth.shape != scores.shape[:1]:
        raise ValueError(
            f"received scores {scores.shape}, truth {truth.shape}; allowed: (N,C), (N,), N above 0"
        )
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise ValueError(f"received a class outside 0..{scores.shape[1] - 1}")
    if not np.isfinite(scores).all():
        # Comparisons with NaN are false: the true class would get rank 1.
        raise ValueError("scores must be finite; received NaN or infinity: the model diverged")
    ranks = true_ranks(scores, truth)
    return {f"top{k}": float(np.mean(ranks <= k)) for k in ks}


def mean_per_class_recall(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean over the classes that occur of the fraction of their pictures with rank 1.

    Shapes as in `top_k`.

    >>> mean_per_class_recall(np.array([[1, 0], [1, 0], [1, 0]]), np.array([0, 0, 1]))
    0.5
    """
    first = true_ranks(scores, truth) == 1
    return float(np.mean([first[truth == c].mean() for c in np.unique(truth)]))


def true_ranks(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the rank (N,) of the true class, from 1; ties rank ahead of it.

    >>> true_ranks(np.array([[0.2, 0.5, 0.5]]), np.array([1]))
    array([2])
    """
    own = np.take_along_axis(scores, truth[:, None], axis=1)
    return np.sum(scores >= own, axis=1)
