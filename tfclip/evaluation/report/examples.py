"""Example pictures of the report page: small JPEGs with their decisions, in a JSON file."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tfclip.evaluation.report.json_files import write_json


def examples_file(benchmark: str) -> Path:
    """Return the path, within a run, of the examples of a multi-label measurement."""
    return Path("metrics") / f"{benchmark}_examples.json"


RETRIEVAL_EXAMPLES = Path("metrics") / "retrieval_examples.json"
SIDE = 160
"""Side length of an example in pixels, as displayed."""


def jpeg_of(pixels: np.ndarray) -> bytes:
    """Encode (S,S,3) uint8 as a JPEG of `SIDE` pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((SIDE, SIDE)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def write_examples(path: Path, examples: Iterable[Mapping]) -> None:
    """Write examples; the bytes under "jpeg" become base64 text."""
    rows = [{**example, "jpeg": base64.b64encode(example["jpeg"]).decode()} for example in examples]
    write_json(path, {"examples": rows})


def read_examples(path: Path) -> list[dict]:
    """Read the file of `write_examples`; an empty list if there is none."""
    if not path.is_file():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))["examples"]
    return [{**row, "jpeg": base64.b64decode(row["jpeg"])} for row in rows]


def decisions_of(
    names: Sequence[str], present: np.ndarray, difficult: np.ndarray, predicted: np.ndarray
) -> dict[str, list[str]]:
    """Return the class names of one picture by the kind of decision.

    Args:
        names: C classes.
        present, difficult, predicted: (C,) bool.
    """
    truth = present & ~difficult
    kinds = {
        "shown": truth,
        "found": truth & predicted,
        "missed": truth & ~predicted,
        "wrong": predicted & ~present,
        "difficult": difficult,
    }
    return {
        kind: [names[c] for c in np.flatnonzero(cells).tolist()] for kind, cells in kinds.items()
    }
