"""Reads picture files as the graph decodes them, and says why one cannot be indexed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tfclip.records.check import MAX_BYTES, BadPicture, check_picture

# First bytes of the formats that the graph decodes; the others are converted, as in packing.
_DECODED = re.compile(rb"\xff\xd8\xff|\x89PNG|GIF8|BM|RIFF....WEBP", re.DOTALL)


def decodable(data: bytes) -> bytes:
    """Return the bytes of a picture as the graph decodes them: other formats become JPEG.

    Raises:
        BadPicture: the file is empty, or of a format that cannot be converted.
    """
    if not data:
        raise BadPicture("is empty")
    return data if _DECODED.match(data) else check_picture(data).jpeg


def read_file(path: Path, size: int) -> tuple[bytes, tuple[int, int]]:
    """Read a file: the picture as the graph decodes it, and the digest of the file.

    Raises:
        BadPicture: it is no picture.
        OSError: it cannot be read.
    """
    if size > MAX_BYTES:
        raise BadPicture(f"has {size:,} bytes, more than {MAX_BYTES:,}")
    data = path.read_bytes()
    return decodable(data), digest_of(data)


def digest_of(data: bytes) -> tuple[int, int]:
    """Return the BLAKE2b digest of 16 bytes as two numbers."""
    whole = hashlib.blake2b(data, digest_size=16).digest()
    return int.from_bytes(whole[:8], "little"), int.from_bytes(whole[8:], "little")


def why_not(data: bytes) -> str:
    """Say why the graph did not decode a picture."""
    try:
        check_picture(data)
    except BadPicture as error:
        return str(error)
    return "is no picture that decodes"
