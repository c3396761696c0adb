"""Sensitivity and specificity on the calibration split, for a range of thresholds.

They are written into an export for the page of `serve run`, where thresholds can be changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfclip.serving.classifier import THRESHOLDS_FILE

# In the version's directory; TensorFlow Serving only reads warm-up requests there.
OPERATING_POINTS = "assets.extra/operating_points.json"
# The scores and labels of each picture, which `tfclip evaluate` stores.
_SCORES = "metrics/{}_scores.npz"
_POINTS = 41


def read_operating_points(run: Path, labels: Sequence[str]) -> dict | None:
    """Return the operating points of these labels in the evaluation that fitted thresholds.json.

    Returns:
        `thresholds` (K,) in ascending order, the same for all; `all` and `per_class.<label>`, each
        with `sensitivity` (K,) and `specificity` (K,), None without such pictures; and `pictures`.
        None if the run has no stored evaluation of these classes.
    """
    path = Path(run) / _SCORES.format(_measured_set(Path(run)))
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            names = [str(name) for name in kept["class_names"]]
            scores, present = kept["calibration_scores"], kept["calibration_present"]
            difficult = kept["calibration_difficult"]
    except (OSError, ValueError, KeyError):
        return None
    if not set(labels) <= set(names) or scores.shape != present.shape or not scores.size:
        return None
    columns = [names.index(label) for label in labels]
    return operating_points(
        labels, scores[:, columns], present[:, columns] != 0, difficult[:, columns] != 0
    )


def _measured_set(run: Path) -> str:
    """Return the set that the run's thresholds were fitted for; "voc" if the file has no name."""
    try:
        content = json.loads((run / THRESHOLDS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "voc"
    return str(content.get("set", "voc")) if isinstance(content, dict) else "voc"


def operating_points(
    labels: Sequence[str], scores: np.ndarray, present: np.ndarray, difficult: np.ndarray
) -> dict:
    """Return the points of `_POINTS` thresholds over the range of the scores.

    Args:
        labels: C names.
        scores, present, difficult: (N,C); difficult objects count as neither positive nor negative.
    """
    low, high = float(scores.min()), float(scores.max())
    thresholds = np.linspace(low, high, _POINTS)

    def rates(column) -> dict:
        counted = ~difficult[:, column]
        positive = np.sort(scores[:, column][counted & present[:, column]])
        negative = np.sort(scores[:, column][counted & ~present[:, column]])
        return {
            "sensitivity": _rates_from(positive, thresholds, above=True),
            "specificity": _rates_from(negative, thresholds, above=False),
        }

    return {
        "pictures": len(scores),
        "thresholds": thresholds.tolist(),
        "all": rates(slice(None)),
        "per_class": {label: rates(column) for column, label in enumerate(labels)},
    }


def _rates_from(ordered: np.ndarray, thresholds: np.ndarray, above: bool) -> list | None:
    """Return the fraction of scores at or above each threshold, or below it."""
    if not len(ordered):
        return None
    below = np.searchsorted(ordered, thresholds, "left") / len(ordered)
    return np.round(1 - below if above else below, 4).tolist()
