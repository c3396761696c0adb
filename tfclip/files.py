"""Atomic writes: after a kill or power failure a file or folder is either the old or the new one.

Content is written under a temporary name in the same folder, flushed to the disk, and renamed; then
the folder is flushed. Replacing a folder takes two renames, between which the old one is called
NAME.before: `complete_folder` returns it, and the next write keeps it until the new one is
complete.
"""

from __future__ import annotations

import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

_BLOCK = 1 << 24

# The temporary name is .NAME.TOKEN.writing, which no other process uses.
WRITING = ".writing"
BEFORE = ".before"


@contextmanager
def new_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path; the file there becomes `path` when the block ends without an error.

    The parent folder is created. After an error an existing file is unchanged.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_path(path)
    try:
        yield temporary
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str, errors: str = "strict") -> None:
    """Write a text file in UTF-8, atomically; line ends are not converted."""
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors, newline="")


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a file atomically."""
    with new_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def new_folder(path: Path | str, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder; it becomes `path` when the block ends without an error.

    Args:
        path: the folder; its parents are created.
        replace: replace an existing folder, which is removed when the new one is complete.

    Raises:
        OSError: it cannot be written, or `path` has files and `replace` is false.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_path(path)
    temporary.mkdir()
    try:
        yield temporary
        if replace:
            _replace_folder(temporary, path)
        else:
            publish(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish(temporary: Path | str, path: Path | str) -> None:
    """Flush a finished file or folder to the disk, and rename it to `path`.

    A file may replace a file, a folder only an empty folder.

    Raises:
        OSError: it cannot be renamed, for instance because `path` is a folder with files.
    """
    flush(temporary)
    rename(temporary, path)


def rename(old: Path | str, new: Path | str) -> None:
    """Rename a flushed file or folder, and flush the parent folder of its new name."""
    os.replace(old, new)
    _flush_one(Path(new).parent)


def flush(path: Path | str) -> None:
    """Flush a file, or a folder with its content, to the disk; links are not followed."""
    path = Path(path)
    if path.is_dir():
        for entry in sorted(path.iterdir()):
            if not entry.is_symlink():
                flush(entry)
    _flush_one(path)


@contextmanager
def locked(path: Path | str, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file, which is made if need be; a killed process loses it.

    Raises:
        BlockingIOError: without `wait`, another process holds it.
        OSError: the file cannot be written.
    """
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError as error:
                if wait:
                    raise
                raise BlockingIOError(*error.args) from None
        yield
    finally:
        # Explicitly: a process that was forked meanwhile holds the lock as long as it lives.
        if fcntl is not None:
            fcntl.flock(number, fcntl.LOCK_UN)
        os.close(number)


def checksum(path: Path | str) -> list[int]:
    """Return the size of a file and its CRC-32, which takes a fraction of a second per gigabyte."""
    crc = 0
    with Path(path).open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return [Path(path).stat().st_size, crc]


def complete_folder(path: Path | str) -> Path:
    """Return `path`, or NAME.before if a process was killed between the two renames.

    Nothing is renamed here: the process that replaces the folder may still be running.
    """
    path = Path(path)
    before = _before(path)
    return before if before.is_dir() and not path.exists() else path


def remove_unfinished(folder: Path | str, name: str = "*") -> None:
    """Remove temporary files of killed processes (NAME.writing in earlier versions) from a folder.

    Args:
        folder: a folder that no other process writes to now.
        name: a glob pattern of the final names.
    """
    folder = Path(folder)
    for path in (*folder.glob(f".{name}.*{WRITING}"), *folder.glob(f"{name}{WRITING}")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _replace_folder(temporary: Path, path: Path) -> None:
    """Replace a folder; until the end the old one exists as `path` or as NAME.before."""
    before = _before(path)
    flush(temporary)
    if path.exists():
        shutil.rmtree(before, ignore_errors=True)
        rename(path, before)
    rename(temporary, path)
    shutil.rmtree(before, ignore_errors=True)


def _temporary_path(path: Path) -> Path:
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
