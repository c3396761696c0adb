"""Correlation of similarities with human scores, computed by SciPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from scipy import stats


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Return the linear correlation of x (N,) and y (N,), -1..1; NaN where one is constant.

    >>> round(pearson(np.array([1, 2, 3]), np.array([2, 4, 6])), 6)
    1.0
    """
    return _statistic(stats.pearsonr, x, y)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Return the rank correlation of x (N,) and y (N,), -1..1; ties have their mean rank.

    NaN where one of them is constant.

    >>> spearman(np.array([1, 2, 3]), np.array([30, 20, 10]))
    -1.0
    """
    return _statistic(stats.spearmanr, x, y)


def _statistic(correlate: Callable, x: np.ndarray, y: np.ndarray) -> float:
    with warnings.catch_warnings():  # constant input gives NaN
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(correlate(np.asarray(x, np.float64), np.asarray(y, np.float64)).statistic)
