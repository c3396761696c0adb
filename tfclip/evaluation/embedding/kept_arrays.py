"""Arrays that are kept in a run, in `embeddings/`: one file for each set of them."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from tfclip import files
from tfclip.console import say

FOLDER = "embeddings"


def file_name(kind: str, *parts: object) -> str:
    """Return the name of a file whose content depends on `parts`, by their representation."""
    return f"{kind}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:24]}.npz"


def read_kept(path: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays of a file, or None when it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, BadZipFile):
        return None


def keep(path: Path, content: Mapping) -> None:
    """Write arrays; where the directory may not be written, they are only not kept."""
    try:
        with files.new_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **content)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        say(f"note: {path.parent} cannot be written, so that embeddings are not kept")


def joined_bytes(parts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Return N parts, one after the other, uint8, and where each ends, (N,)."""
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum([len(part) for part in parts])


def bytes_at(joined: np.ndarray, ends: np.ndarray, at: int) -> bytes:
    """Return one part of the result of `joined_bytes`."""
    return joined[ends[at - 1] if at else 0 : ends[at]].tobytes()
