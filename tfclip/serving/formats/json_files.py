"""Writes the JSON files of an export."""

import json
from pathlib import Path


def write_json(path: Path, content: dict) -> None:
    """Write an indented object in UTF-8; the folder is published as a whole, so not atomically."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
