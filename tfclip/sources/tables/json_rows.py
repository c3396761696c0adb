"""Rows of a .json file, as pandas and the Hugging Face hub write it, for random access."""

import json
import tempfile
from pathlib import Path
from typing import Any

from tfclip.sources.json_arrays import walk_arrays
from tfclip.sources.safe_paths import stand_in

_MOST_BEGINNING = 1 << 20


def json_rows(path: Path) -> Any | None:
    """Return a temporary JSON-lines file of the rows of a .json file: an array of objects, or one
    object that holds such an array. None for a file that has one object per line already.

    Raises:
        ValueError: another layout, several arrays, or no row.
    """
    with path.open("rb") as file:
        beginning = file.read(_MOST_BEGINNING)
    if instead := stand_in(beginning):
        raise ValueError(f"{path} is {instead}")
    if _has_objects_in_lines(beginning):
        return None
    lines = tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8")
    arrays: dict[str, int] = {}
    for element in walk_arrays(path):
        arrays[element.array] = arrays.get(element.array, 0) + 1
        if len(arrays) > 1:
            raise ValueError(
                f"{path} holds several arrays ({', '.join(sorted(arrays))}); a table is one array "
                "of objects. Annotations of COCO are read by the source coco"
            )
        # A row that is no object stays a line, and is rejected with its reason.
        lines.write(json.dumps(element.value) + "\n")
    if not arrays:
        raise ValueError(f"{path} holds no array of objects, one for each row")
    lines.flush()
    return lines


def _has_objects_in_lines(beginning: bytes) -> bool:
    first, _, rest = beginning.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")
    if not rest.strip():
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False
