"""The files within zip and tar archives, in order, each read on demand."""

import os
import stat
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tfclip.sources.safe_paths import MAX_PICTURE_BYTES, is_name

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")

_END, _END_64, _LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_ENTRY, _LOCAL = b"PK\1\2", b"PK\3\4"
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF8 = 0x1, 0x800
_WINDOWS = (0, 10, 14)  # the systems FAT, NTFS and VFAT
_FULL, _FULL_SHORT = 0xFFFFFFFF, 0xFFFF
_DAMAGE = (tarfile.TarError, ValueError, OverflowError, EOFError, OSError)


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: its path in the archive.
        problem: why it must not be used, or "".
        read: returns its content; raises ValueError with the reason when it is damaged.
        respelled: whether the archive separates the folders of the path by backslashes.
    """

    name: str
    problem: str
    read: Callable[[], bytes]
    respelled: bool = False


def is_archive(path: Path) -> bool:
    """Return whether the extension is that of a supported archive."""
    return path.name.lower().endswith(ENDINGS)


def archive_members(path: Path) -> Iterator[Member]:
    """Yield the files of an archive in order; if it is damaged, finally a member with the
    problem.

    A member has a `problem` when its path leads out of the archive, or when it is a link, encrypted
    or not a regular file. Folders are skipped. Contents are read by `Member.read` only, and never
    more than `MAX_PICTURE_BYTES`, whatever the headers say. Memory does not grow with the number of
    members.
    """
    with path.open("rb") as file:
        read = _zip_members if path.name.lower().endswith(".zip") else _tar_members
        try:
            yield from read(file)
        except (*_DAMAGE, struct.error) as error:
            reason = " ".join(str(error).split())[:100]
            problem = f"{path.name} is damaged; the rest of it is not read: {reason}"
            yield Member(path.name, problem, bytes)


def _path_problem(name: str) -> str:
    if not is_name(name):
        return "a name with a control character or invalid UTF-8"
    if (
        name.startswith(("/", "\\"))
        or name[1:2] == ":"
        or ".." in name.replace("\\", "/").split("/")
    ):
        return "a path that leads out of the archive"
    return ""


def tar_entries(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of an uncompressed tar archive in order, in constant memory.

    The caller may move the position of `file` between two entries.

    Raises ValueError or `tarfile.TarError` when the archive is damaged or truncated.
    """
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while entry := tar.next():
            # tarfile keeps every header in this list, which its type stubs do not declare.
            tar.members.clear()  # type: ignore[attr-defined]
            yield entry
        # tarfile takes an invalid header in the middle of the archive for its end.
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise ValueError("the end-of-archive marker is missing")


def _tar_members(file: BinaryIO) -> Iterator[Member]:
    for entry in tar_entries(file):
        if entry.isdir():
            continue
        problem = _path_problem(entry.name)
        if entry.issym() or entry.islnk():
            problem = problem or "a link"
        elif not entry.isreg() or entry.issparse():
            problem = problem or "not a regular file"
        elif entry.size > MAX_PICTURE_BYTES:
            problem = problem or f"more than {MAX_PICTURE_BYTES:,} bytes"

        def read(start: int = entry.offset_data, size: int = entry.size) -> bytes:
            file.seek(start)
            content = file.read(size)
            if len(content) < size:
                raise ValueError("truncated: the archive ends within it")
            return content

        yield Member(entry.name, problem, read)


def _zip_members(file: BinaryIO) -> Iterator[Member]:
    """Read the central directory entry by entry (PKWARE APPNOTE 6.3, sections 4.3.12 to 4.3.16)."""
    at, count = _directory(file)
    for _ in range(count):
        file.seek(at)
        header = file.read(_CENTRAL.size)
        if len(header) < _CENTRAL.size:
            raise ValueError("the central directory is truncated")
        signature, made_by, _, flags, method, _, _, crc, packed, size, *rest = _CENTRAL.unpack(
            header
        )
        name_length, extra_length, comment_length, _, _, attributes, offset = rest
        if signature != _ENTRY:
            raise ValueError("an invalid entry in the central directory")
        raw = file.read(name_length)
        extra = file.read(extra_length)
        at += _CENTRAL.size + name_length + extra_length + comment_length
        name = raw.decode(errors="surrogateescape")
        if not flags & _UTF8 and not is_name(name):
            name = raw.decode("cp437")
        # Some programs on Windows write backslashes, against the specification (4.4.17.1).
        respelled = made_by >> 8 in _WINDOWS and "\\" in name and "/" not in name
        if respelled:
            name = name.replace("\\", "/")
        if name.endswith("/"):
            continue
        size, packed, offset = _zip64_sizes(extra, size, packed, offset)
        mode = attributes >> 16 if made_by >> 8 == 3 else 0
        problem = _path_problem(name)
        if flags & _ENCRYPTED:
            problem = problem or "encrypted"
        elif mode and stat.S_ISLNK(mode):
            problem = problem or "a link"
        elif method not in (_STORED, _DEFLATED):
            problem = problem or f"compression method {method}; allowed: stored (0), deflated (8)"
        elif max(size, packed) > MAX_PICTURE_BYTES:
            problem = problem or f"more than {MAX_PICTURE_BYTES:,} bytes"

        def read(
            offset: int = offset,
            packed: int = packed,
            size: int = size,
            crc: int = crc,
            method: int = method,
        ) -> bytes:
            return _unpacked(file, offset, packed, size, crc, method)

        yield Member(name, problem, read, respelled)


def _unpacked(file: BinaryIO, offset: int, packed: int, size: int, crc: int, method: int) -> bytes:
    file.seek(offset)
    header = file.read(30)
    if header[:4] != _LOCAL or len(header) < 30:
        raise ValueError("damaged: no local header where the central directory points")
    name_length, extra_length = struct.unpack("<2H", header[26:])
    file.seek(offset + 30 + name_length + extra_length)
    content = file.read(packed)
    if method == _DEFLATED:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
        except zlib.error as error:
            raise ValueError(f"damaged: {error}") from None
    if len(content) != size:
        relation = "more" if len(content) > size else "fewer"
        raise ValueError(f"damaged: {relation} than the {size:,} bytes in the central directory")
    if zlib.crc32(content) != crc:
        raise ValueError("damaged: wrong checksum")
    return content


def _directory(file: BinaryIO) -> tuple[int, int]:
    """Return the offset of the central directory and the number of its entries."""
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - (1 << 16) - 22))
    start, tail = file.tell(), file.read()
    end_at = tail.rfind(_END)
    if end_at < 0 or len(tail) < end_at + 22:
        raise ValueError("the end of the central directory is missing")
    count, _, at = struct.unpack("<H2L", tail[end_at + 10 : end_at + 20])
    locator = tail[end_at - 20 : end_at] if end_at >= 20 else b""
    if locator[:4] == _LOCATOR_64:
        file.seek(struct.unpack("<Q", locator[8:16])[0])
        end = file.read(56)
        if end[:4] != _END_64 or len(end) < 56:
            raise ValueError("the end of the central directory is missing")
        count, _, at = struct.unpack("<3Q", end[32:56])
    if at > start + end_at:
        raise ValueError("the central directory is outside the archive")
    return at, count


def _zip64_sizes(extra: bytes, *values: int) -> list[int]:
    """Return size, packed size and offset; the Zip64 extra field replaces those that are 2^32 -
    1."""
    place, sizes = 0, list(values)
    while place + 4 <= len(extra):
        kind, length = struct.unpack("<2H", extra[place : place + 4])
        if kind == 1:
            numbers = extra[place + 4 : place + 4 + length]
            for at, value in enumerate(values):
                if value == _FULL and len(numbers) >= 8:
                    sizes[at], numbers = int.from_bytes(numbers[:8], "little"), numbers[8:]
            break
        place += 4 + length
    return sizes
