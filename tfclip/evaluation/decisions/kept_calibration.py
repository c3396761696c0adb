"""Fits thresholds for another objective to the stored calibration scores of a run. NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfclip.console import say
from tfclip.evaluation.decisions.fit import shrunk_thresholds
from tfclip.evaluation.decisions.thresholds import fit_thresholds, parse_objective

_REMEDY = (
    "measure again with: python -m tfclip.evaluate RUN voc|multilabel --records DIR --calibrate "
    "SPLIT --objective OBJECTIVE"
)


def refitted_thresholds(run: Path, content: Mapping, objective: str) -> dict[str, float]:
    """Refit the thresholds of a thresholds file, with the result of `evaluate --objective`.

    Args:
        run: the run directory, which holds the scores of the calibration split.
        content: of the thresholds file.
        objective: see `thresholds.parse_objective`.

    Returns:
        The thresholds by class name.

    Raises:
        ValueError: the thresholds were fitted without labels, or the run has no scores for them.
    """
    if content.get("objective") is None:
        raise ValueError(
            f"received objective {objective}, but these thresholds were fitted without labels, "
            f"for a false-positive rate; {_REMEDY}"
        )
    names = list(content["class_names"])
    scores, truth, ignore = _kept(Path(run), content, names)
    seed = int(content.get("seed", 0)) if content.get("shrink", True) else None
    used, _, _ = shrunk_thresholds(scores, truth, parse_objective(objective), ignore, seed)
    return dict(zip(names, used.per_class.tolist(), strict=True))


def _kept(run: Path, content: Mapping, names: list[str]) -> tuple[np.ndarray, ...]:
    """Return scores, truth and ignored cells (N,C) of the measurement that the thresholds are from.

    It is recognised by fitting for the same objective, which must give the same thresholds.
    """
    folder = run / "metrics"
    named = folder / f"{content.get('set', 'voc')}_scores.npz"
    for path in dict.fromkeys([named, *sorted(folder.glob("*_scores.npz"))]):
        try:
            with np.load(path, allow_pickle=False) as kept:
                if [str(name) for name in kept["class_names"]] != names:
                    continue
                scores, difficult = kept["calibration_scores"], kept["calibration_difficult"] != 0
                truth = (kept["calibration_present"] != 0) & ~difficult
            alone = fit_thresholds(scores, truth, content["objective"], difficult).per_class
        except (OSError, ValueError, KeyError):
            continue
        written = [content["unshrunk_per_class"][name] for name in names]
        if np.array_equal(alone, written):
            say(f"thresholds are fitted to the calibration scores of {path}")
            return scores, truth, difficult
    raise ValueError(
        f"{run} keeps no calibration scores that give these thresholds, so they cannot be fitted "
        f"for another objective; {_REMEDY}"
    )
