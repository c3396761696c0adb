"""Writes the thresholds of an evaluated set, and keeps a copy of those that it replaces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tfclip.console import say
from tfclip.evaluation.report.json_files import own_thresholds_file, write_json

THRESHOLDS_FILE = "thresholds.json"
_UNNAMED = "earlier"
"""The name of the set of files from earlier versions, which did not write it."""


def write_thresholds(run: Path, benchmark: str, content: Mapping) -> Path:
    """Write thresholds.json, which `predict` and `export` use, and a copy with the set's name.

    If thresholds.json contains those of another set, they are kept under that set's name, and a
    message is printed.

    Args:
        run: the run directory.
        benchmark: the evaluated set, "voc" or "multilabel-NAME".
        content: the content, without the name of the set.

    Returns:
        The path of thresholds.json.
    """
    path = run / THRESHOLDS_FILE
    replaced = _content(path)
    replaced_set = str(replaced.get("set", _UNNAMED))
    if replaced and replaced_set != benchmark:
        kept = run / own_thresholds_file(replaced_set)
        if _content(kept).get("per_class") != replaced.get("per_class"):
            write_json(kept, replaced)
        former = replaced_set if "set" in replaced else "an unnamed set"
        say(
            f"{path} contained the thresholds of {former} and now contains those of {benchmark}; "
            f"the former are in {kept}, for export --thresholds"
        )
    named = {"set": benchmark, **content}
    write_json(run / own_thresholds_file(benchmark), named)
    return write_json(path, named)


def _content(path: Path) -> dict:
    """Return the content of a file; an empty dict if it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
