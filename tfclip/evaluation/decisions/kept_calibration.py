"""Thresholds for another objective, from the calibration scores that a measurement kept. NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfclip.evaluation.decisions.fit import shrunk_thresholds
from tfclip.evaluation.decisions.thresholds import fit_thresholds, parse_objective

_REMEDY = (
    "measure again with: python -m tfclip.evaluate RUN voc|multilabel --records DIR --calibrate "
    "SPLIT --objective OBJECTIVE"
)


def refitted_thresholds(run: Path, content: Mapping, objective: str) -> dict[str, float]:
    """Fit the thresholds of a thresholds file anew, as `evaluate --objective` would have done.

    Args:
        run: the run directory, which keeps the scores of its calibration split.
        content: of the thresholds file.
        objective: see `thresholds.parse_objective`.

    Returns:
        The threshold of each class by its name.

    Raises:
        ValueError: the thresholds were fitted without labels, or no scores are kept that give them.
    """
    if content.get("objective") is None:
        raise ValueError(
            f"received objective {objective}, but these thresholds were fitted without labels, "
            f"for a false-positive rate; {_REMEDY}"
        )
    names = list(content["class_names"])
    scores, known, ignore = _kept(Path(run), content, names)
    seed = int(content.get("seed", 0)) if content.get("shrink", True) else None
    used, _, _ = shrunk_thresholds(scores, known, parse_objective(objective), ignore, seed)
    return dict(zip(names, used.per_class.tolist(), strict=True))


def _kept(run: Path, content: Mapping, names: list[str]) -> tuple[np.ndarray, ...]:
    """Scores, positives that count and cells that do not (N,C), of the measurement that these
    thresholds come from: fitted for the same objective, they must give the same ones."""
    folder = run / "metrics"
    named = folder / f"{content.get('set', 'voc')}_scores.npz"
    for path in dict.fromkeys([named, *sorted(folder.glob("*_scores.npz"))]):
        try:
            with np.load(path, allow_pickle=False) as kept:
                if [str(name) for name in kept["class_names"]] != names:
                    continue
                scores, difficult = kept["calibration_scores"], kept["calibration_difficult"] != 0
                known = (kept["calibration_present"] != 0) & ~difficult
            alone = fit_thresholds(scores, known, content["objective"], difficult).per_class
        except (OSError, ValueError, KeyError):
            continue
        written = [content["unshrunk_per_class"][name] for name in names]
        if np.array_equal(alone, written):
            return scores, known, difficult
    raise ValueError(
        f"{run} keeps no calibration scores that give these thresholds, so they cannot be fitted "
        f"for another objective; {_REMEDY}"
    )
