"""What other readers get out of a damaged file: Python's csv, json and tarfile, read at once.

Each function takes the content and returns the texts of every picture, or None when it refuses the
file.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

from benchmarks.fuzzing.outcomes import Texts


def _decoded(content: bytes) -> str:
    return content.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")


def table(separator: str, quoted: bool = True) -> Callable[[bytes], Texts | None]:
    """Return a reader of a table with the columns path and caption."""

    def read(content: bytes) -> Texts | None:
        lines = io.StringIO(_decoded(content), newline="\n")
        quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        rows = csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)
        found: dict[str, list[str]] = {}
        columns: list[str] = []
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return found
            except csv.Error:
                if not columns:
                    return None
                continue
            columns = columns or row
            if not {"path", "caption"} <= set(columns):
                return None
            if row != columns and len(row) == len(columns):
                cells = dict(zip(columns, row, strict=True))
                found.setdefault(cells["path"], []).append(cells["caption"])

    return read


def json_lines(content: bytes) -> Texts | None:
    """Read objects with path (or file_name) and captions (or text), one on each line."""
    found: dict[str, list[str]] = {}
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        try:
            row = json.loads(_decoded(line))
            name = row.get("path", row.get("file_name"))
            usual = [k for k in ("captions", "text") if k in row]
            others = [k for k in row if k.startswith(("caption", "text"))]
            texts = next((row[k] for k in usual + others), None)
        except (ValueError, AttributeError, RecursionError):
            continue
        texts = texts if isinstance(texts, list) else [texts]
        if isinstance(name, str):
            found.setdefault(name, []).extend(t for t in texts if isinstance(t, str))
    return found


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
        return int(number) if number.is_integer() and 0 <= number < 1 << 53 else None
    except (ValueError, OverflowError):
        return None


def _merged(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object in which arrays of the same name are one after the other."""
    merged: dict[str, Any] = {}
    for name, value in pairs:
        both = isinstance(value, list) and isinstance(merged.get(name), list)
        merged[name] = merged[name] + value if both else value
    return merged


def _object(content: bytes) -> dict | None:
    try:
        value = json.loads(_decoded(content), object_pairs_hook=_merged)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _listed(told: dict, name: str) -> list[dict]:
    entries = told.get(name)
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def coco(content: bytes) -> Texts | None:
    """Read captions by image id."""
    told = _object(content)
    if told is None:
        return None
    numbers = [_whole(entry.get("id")) for entry in _listed(told, "images")]
    found: dict[str, list[str]] = {str(n): [] for n in numbers if n is not None}
    for caption in _listed(told, "annotations"):
        if (key := str(_whole(caption.get("image_id")))) in found:
            found[key].append(caption.get("caption"))
    return {key: [t for t in texts if isinstance(t, str)] for key, texts in found.items()}


def karpathy(content: bytes) -> Texts | None:
    """Read sentences by file name without .jpg."""
    told = _object(content)
    if told is None:
        return None
    found: dict[str, list[str]] = {}
    for entry in _listed(told, "images"):
        sentences = [one.get("raw") for one in _listed(entry, "sentences")]
        found.setdefault(
            str(entry.get("filename")).removesuffix(".jpg"),
            [text for text in sentences if isinstance(text, str)],
        )
    return found


def webdataset(content: bytes) -> Texts | None:
    """Read the texts of the samples of a tar file."""
    found: dict[str, list[str]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            for member in tar:
                stem, _, ending = member.name.partition(".")
                if ending not in ("txt", "json") or not member.isreg():
                    continue
                file = tar.extractfile(member)
                text = _decoded(file.read()) if file else ""
                if ending == "txt":
                    found[stem] = [text]
                else:
                    captions = json.loads(text).get("caption")
                    found[stem] = captions if isinstance(captions, list) else [captions]
    except (tarfile.TarError, ValueError, AttributeError, OverflowError, EOFError):
        return None
    return found
