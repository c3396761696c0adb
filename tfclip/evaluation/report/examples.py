"""Pictures that the report page shows: small JPEGs with what was decided, in a JSON file."""

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
    """Return where in a run the pictures of a multi-label measurement are, with decisions."""
    return Path("metrics") / f"{benchmark}_examples.json"


RETRIEVAL_EXAMPLES = Path("metrics") / "retrieval_examples.json"
SIDE = 160
"""Of an example, in pixels: as large as it is shown."""


def jpeg_of(pixels: np.ndarray) -> bytes:
    """Encode (S,S,3) uint8 as a JPEG of `SIDE` pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((SIDE, SIDE)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def write_examples(path: Path, examples: Iterable[Mapping]) -> None:
    """Write examples; the bytes under "jpeg" as base64 text."""
    rows = [{**example, "jpeg": base64.b64encode(example["jpeg"]).decode()} for example in examples]
    write_json(path, {"examples": rows})


def read_examples(path: Path) -> list[dict]:
    """Read what `write_examples` wrote; an empty list where there is none."""
    if not path.is_file():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))["examples"]
    return [{**row, "jpeg": base64.b64decode(row["jpeg"])} for row in rows]


def decisions_of(
    names: Sequence[str], present: np.ndarray, difficult: np.ndarray, predicted: np.ndarray
) -> dict[str, list[str]]:
    """What one picture shows, and which of it was found: names by kind.

    Args:
        names: C classes.
        present, difficult, predicted: (C,) bool.
    """
    known = present & ~difficult
    kinds = {
        "shown": known,
        "found": known & predicted,
        "missed": known & ~predicted,
        "wrong": predicted & ~present,
        "difficult": difficult,
    }
    return {
        kind: [names[c] for c in np.flatnonzero(cells).tolist()] for kind, cells in kinds.items()
    }
