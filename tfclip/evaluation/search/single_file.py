"""Reads indexes of earlier versions: NAME.npy, and NAME.json which describes it.

NAME.npy has a row for each record: the embedding (D float32), the shard, and the byte offset.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

# The CRC-32 of this many first rows is in the description.
_FIRST = 16


def row_type(embed_dim: int) -> np.dtype:
    """Return the dtype of a row."""
    return np.dtype([("embedding", "<f4", (embed_dim,)), ("shard", "<i4"), ("offset", "<i8")])


def read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the rows, memory-mapped, and the description.

    Raises:
        FileNotFoundError: the description is missing.
        ValueError: the index is damaged.
    """
    described = path.with_suffix(".json")
    if not described.is_file():
        raise FileNotFoundError(
            f"no index at {path}: {described.name} is missing; make one with: python -m "
            "tfclip.search index RUN DIR"
        )
    try:
        content = json.loads(described.read_text(encoding="utf-8"))
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        if rows.dtype != row_type(rows.dtype["embedding"].shape[0]):
            raise ValueError(f"rows of {rows.dtype}")
        if len(rows) != content["pictures"]:
            raise ValueError(f"{len(rows)} rows, {content['pictures']} described")
        # The first versions wrote no checksum.
        first = zlib.crc32(rows[:_FIRST].tobytes())
        if content.get("first_rows", first) != first:
            raise ValueError(
                f"its rows are not those of {described.name}, as after a kill between the two; "
                "index again"
            )
        for key in ("run", "model", "records", "fingerprint", "shards"):
            content[key]
        return rows, content
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"{path} is no search index: {' '.join(str(error).split())}") from None
