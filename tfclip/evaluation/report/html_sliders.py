"""Prepares the scores and labels behind the threshold sliders of the report page.

Scores are kept in float32, so that the page counts exactly what `score >= threshold` decides.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfclip.evaluation.report.json_files import own_thresholds_file

MOST_CELLS = 600_000
"""Limit of pictures times classes; above it every k-th picture is used, and the page says so."""


def slider_data(
    run: Path,
    benchmark: str,
    figures: Mapping,
    arrays: Mapping[str, np.ndarray],
    example_keys: Sequence[str],
) -> dict:
    """Return what `templates/sliders.js` reads.

    Args:
        run: the run directory.
        benchmark: of the measurement.
        figures: as measured.
        arrays: what was kept of every picture, `test_scores` (N,C) and so on.
        example_keys: the keys of the example pictures on the page.
    """
    scores, present, difficult, keys = (
        arrays[f"test_{name}"] for name in ("scores", "present", "difficult", "keys")
    )
    step = -(-scores.size // MOST_CELLS)
    row_of_key = {str(key): row for row, key in enumerate(keys)}
    example_row = {key: row_of_key[key] for key in example_keys if key in row_of_key}
    shown = np.fromiter(example_row.values(), np.int64)
    rows = np.union1d(np.arange(0, len(keys), step), shown)
    return {
        "benchmark": benchmark,
        "split": figures["split"],
        "classes": [str(name) for name in arrays["class_names"]],
        "pictures": len(rows),
        "all_pictures": len(keys),
        # Class after class, little-endian.
        "scores": _base64(scores[rows].T.astype("<f4")),
        "present": _base64(np.packbits(present[rows].T.astype(bool))),
        "difficult": _base64(np.packbits(difficult[rows].T.astype(bool))),
        "examples": {key: int(np.searchsorted(rows, row)) for key, row in example_row.items()},
        "fitted": [row["threshold"] for row in figures["per_class"].values()],
        "fitted_for_all": figures["global"]["threshold"],
        "thresholds": _thresholds_of(run, benchmark, figures),
    }


def _thresholds_of(run: Path, benchmark: str, figures: Mapping) -> dict | None:
    """Return the thresholds file of this measurement; None if it was replaced since."""
    for path in (run / own_thresholds_file(benchmark), run / "thresholds.json"):
        if path.is_file():
            content = json.loads(path.read_text(encoding="utf-8"))
            fitted = {name: row["threshold"] for name, row in figures["per_class"].items()}
            if content.get("per_class") == fitted:
                return content
    return None


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
