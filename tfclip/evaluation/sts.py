"""Correlation of similarities with people's scores, by numpy alone, and the table of a run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Linear correlation of x (N,) and y (N,), in -1..1; NaN where one of them is constant."""
    x, y = (np.asarray(values, np.float64) - np.mean(values) for values in (x, y))
    # Values that differ by rounding alone do not vary.
    spread = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / spread) if spread > 0 else float("nan")


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation of x (N,) and y (N,), in -1..1; equal values share the mean of their ranks.

    Spearman 1904, in the form for ties: Pearson's correlation of the ranks.
    """
    return pearson(average_ranks(x), average_ranks(y))


def average_ranks(values: np.ndarray) -> np.ndarray:
    """The ranks (N,) of values (N,), the least is 1; equal values share the mean of theirs."""
    _, which, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[which]


def sts_table(figures: Mapping) -> str:
    """The figures of `sts_run.evaluate_sts` as lines of text; correlations in percent."""
    lines = [f"{'':8}{'Spearman':>10}{'Pearson':>10}{'pairs':>8}{'unscored':>10}"]
    for name, row in figures.items():
        if isinstance(row, Mapping) and "spearman" in row:
            spearman_, pearson_ = (_percent(row[key]) for key in ("spearman", "pearson"))
            lines.append(f"{name:8}{spearman_}{pearson_}{row['pairs']:>8}{row['unscored']:>10}")
    lines.append(f"{'mean':8}{_percent(figures['mean_spearman'])}  (STS12 to STS16 and STS-B)")
    return "\n".join([*lines, f"cosine of {figures['text']}"])


def _percent(value: float | None) -> str:
    return f"{'-':>10}" if value is None or value != value else f"{100 * value:>10.2f}"
