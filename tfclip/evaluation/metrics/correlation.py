"""Correlation of similarities with people's scores, as SciPy computes it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from scipy import stats


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Linear correlation of x (N,) and y (N,), in -1..1; NaN where one of them is constant."""
    return _statistic(stats.pearsonr, x, y)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation of x (N,) and y (N,), in -1..1; equal values share the mean of their ranks.

    NaN where one of them is constant.
    """
    return _statistic(stats.spearmanr, x, y)


def _statistic(correlate: Callable, x: np.ndarray, y: np.ndarray) -> float:
    with warnings.catch_warnings():  # of constant input, for which the result is NaN
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        return float(correlate(np.asarray(x, np.float64), np.asarray(y, np.float64)).statistic)
