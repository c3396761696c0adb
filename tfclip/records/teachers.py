"""The embeddings of teachers beside the records: where they are, and whether they fit.

`make_records embed` writes them to `RECORDS/teachers/NAME/`: for each shard SHARD of the records
`SHARD.images.npy` (N, V, D), of V views; `SHARD.texts.npy` (M, D), the captions and phrases of its
records in order; `SHARD.starts.npy` (N + 1,), the first text of each record; and for all shards
`empty.npy` (D,), the empty text; if words were embedded, `words.npy` (W, D), a prompt for each, and
`words.txt`, the words. `teacher.json` describes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfclip import files
from tfclip.naming import unknown
from tfclip.records.manifest import load_manifest

FOLDER = "teachers"
DESCRIPTION = "teacher.json"
FORMAT = 1
EMPTY = "empty.npy"
WORDS = "words.npy"
WORD_LIST = "words.txt"
KINDS = ("images", "texts", "starts")


def teacher_folder(records: Path, name: str) -> Path:
    """Return the folder of a teacher beside its records."""
    return files.complete_folder(Path(records) / FOLDER / name)


def stored_teachers(records: Path) -> list[str]:
    """Return the names of the teachers that are stored beside these records."""
    found = Path(records).glob(f"{FOLDER}/*/{DESCRIPTION}")
    return sorted(path.parent.name for path in found if not path.parent.name.startswith("."))


def read_description(records: Path, name: str) -> dict[str, Any]:
    """Return the description of a teacher, checked against the records.

    Raises:
        FileNotFoundError: there is no such teacher.
        ValueError: it is damaged, or the records have changed since.
    """
    folder, known = teacher_folder(records, name), stored_teachers(records)
    again = f"python -m tfclip.make_records embed {records} --teacher RUN --name {name}"
    if not (folder / DESCRIPTION).is_file():
        if known:
            raise unknown("teacher", name, known)
        raise FileNotFoundError(f"no teacher is stored beside {records}; run {again}")
    try:
        described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        version, records_then = described["format"], described["records"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{folder / DESCRIPTION} is damaged; run {again} --overwrite") from error
    if version != FORMAT:
        raise ValueError(f"{folder} has format {version}; this tfclip reads {FORMAT}")
    if records_then != load_manifest(records).fingerprint():
        raise ValueError(
            f"{records} has changed since teacher {name} embedded it; run {again} --overwrite"
        )
    return described


def check_teachers(
    records: Path, split: str, names: Sequence[str], views: Sequence[Mapping]
) -> list[dict[str, Any]]:
    """Check that teachers have embedded this split and these views; return their descriptions.

    Args:
        records: a directory of packed records.
        split: the split that is trained on.
        names: the teachers.
        views: the views that are trained on, as JSON types; the stored ones must begin with them.

    Raises:
        FileNotFoundError, ValueError: see `read_description`; or the split or views are missing.
    """
    found = []
    for name in names:
        described = read_description(records, name)
        again = f"python -m tfclip.make_records embed {records} --teacher RUN --name {name}"
        if split not in described["splits"]:
            raise ValueError(
                f"teacher {name} has not embedded the split {split} of {records}; run {again} "
                f"--splits {split} --overwrite"
            )
        wanted = json.loads(json.dumps(list(views)))
        if wanted != described["views"][: len(wanted)]:
            raise ValueError(
                f"teacher {name} has embedded {len(described['views'])} views of {records}, but "
                f"--views {len(wanted)} trains on others; run {again} --views {len(wanted)} "
                "--overwrite"
            )
        found.append(described)
    return found
