"""Reads single records of a TFRecord file by their byte offset, without TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_LENGTH = struct.Struct("<Q")
# A TFRecord has its length and a checksum before the data, and a checksum after it.
_BEFORE, _AFTER = 12, 4


def record_offsets(path: Path) -> Iterator[int]:
    """Yield the byte offset of each record of a TFRecord file."""
    with path.open("rb") as file:
        size, at = path.stat().st_size, 0
        while at < size:
            file.seek(at)
            yield at
            (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
            at += _BEFORE + length + _AFTER


def read_record(path: Path, offset: int) -> bytes:
    """Read the data of the record at `offset`."""
    with path.open("rb") as file:
        file.seek(offset)
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        file.seek(offset + _BEFORE)
        return file.read(length)
