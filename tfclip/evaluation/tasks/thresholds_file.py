"""Writes the thresholds of a measured set, and keeps those of other sets that it replaces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tfclip.console import say
from tfclip.evaluation.report.json_files import own_thresholds_file, write_json

THRESHOLDS_FILE = "thresholds.json"
_UNNAMED = "earlier"
"""What the set of a file is called that an earlier version wrote without its name."""


def write_thresholds(run: Path, benchmark: str, content: Mapping) -> Path:
    """Write thresholds.json, which `predict` and `export` use, and a copy named as its set.

    Where thresholds.json holds those of another set, it is kept under that set's name, and a line
    says so.

    Args:
        run: the run directory.
        benchmark: the measured set, "voc" or "multilabel-NAME".
        content: what is written, to which the set is added.

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
        former = replaced_set if "set" in replaced else "a set that it does not name"
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
