"""Atomic writes: after a kill or a power failure a file or folder is the old one or the new one.

Content is written beside its target under a name of its own, flushed to the disk, and renamed; then
the folder that holds the name is flushed. A folder that replaces another takes two renames, between
which the old one is called NAME.before: `complete_folder` finds it there, and the next write keeps
it until the new one is in place.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What is being written is called .NAME.TOKEN.writing: no other process writes to that name.
WRITING = ".writing"
BEFORE = ".before"


@contextmanager
def new_file(path: Path | str) -> Iterator[Path]:
    """Give the path to write a file to; it becomes `path` when the block ends without an error.

    The folder of `path` is made. After an error nothing is left but what was there before.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
    try:
        yield beside
        publish(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path | str, text: str, errors: str = "strict") -> None:
    """Write a text file in UTF-8, atomically; line ends stay as they are."""
    with new_file(path) as beside:
        beside.write_text(text, encoding="utf-8", errors=errors, newline="")


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a file atomically."""
    with new_file(path) as beside:
        beside.write_bytes(content)


@contextmanager
def new_folder(path: Path | str, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes `path` when the block ends without an error.

    Args:
        path: the folder; its parents are made.
        replace: whether another folder may be in its place; it is removed when all is written.

    Raises:
        OSError: it cannot be written, or there is a folder with files and `replace` is not given.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
    beside.mkdir()
    try:
        yield beside
        if replace:
            _replace_folder(beside, path)
        else:
            publish(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def publish(beside: Path | str, path: Path | str) -> None:
    """Flush a finished file or folder to the disk, and rename it to `path`.

    A file takes the place of a file, a folder that of an empty folder or of none.

    Raises:
        OSError: it cannot be renamed, as where a folder with files is in the way.
    """
    flush(beside)
    rename(beside, path)


def rename(old: Path | str, new: Path | str) -> None:
    """Rename a file or folder that is on the disk already, and flush the folder of its new name."""
    os.replace(old, new)
    _flush_one(Path(new).parent)


def flush(path: Path | str) -> None:
    """Flush a file, or a folder and all that is in it, to the disk; links are not followed."""
    path = Path(path)
    if path.is_dir():
        for entry in sorted(path.iterdir()):
            if not entry.is_symlink():
                flush(entry)
    _flush_one(path)


def complete_folder(path: Path | str) -> Path:
    """Return where the folder that `path` names is: beside, where a kill came between two renames.

    Nothing is renamed here: the process that replaces the folder may still be at work.
    """
    path = Path(path)
    before = _before(path)
    return before if before.is_dir() and not path.exists() else path


def remove_unfinished(folder: Path | str, name: str = "*") -> None:
    """Remove from a folder what killed processes were writing, as NAME.writing in earlier versions.

    Args:
        folder: where no other process writes now.
        name: of the files that were to be, as a glob pattern.
    """
    folder = Path(folder)
    for path in (*folder.glob(f".{name}.*{WRITING}"), *folder.glob(f"{name}{WRITING}")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _replace_folder(beside: Path, path: Path) -> None:
    """Put a folder in the place of another, which is there until then under one of two names."""
    before = _before(path)
    flush(beside)
    if path.exists():
        shutil.rmtree(before, ignore_errors=True)
        rename(path, before)
    rename(beside, path)
    shutil.rmtree(before, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{WRITING}")


def _before(path: Path) -> Path:
    return path.with_name(path.name + BEFORE)


def _flush_one(path: Path) -> None:
    if os.name != "posix" and path.is_dir():  # Windows cannot open a folder
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
