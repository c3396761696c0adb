"""Reads JSON files of folders of weights; errors name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(path: Path, kind: type = dict) -> Any:
    """Read a JSON object, or with `kind` a list; FileNotFoundError or ValueError names the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no {path.name}")
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the bytes, or of the JSON
        raise ValueError(f"{path} is not JSON: {error}") from None
    rows = content if isinstance(content, list) else []
    if not isinstance(content, kind) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path} holds no JSON {'object' if kind is dict else 'list of objects'}")
    return content
