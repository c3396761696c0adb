"""The files within zip and tar archives, one after the other, each read when it is asked for."""

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
_FULL, _FULL_SHORT = 0xFFFFFFFF, 0xFFFF
_DAMAGE = (tarfile.TarError, ValueError, OverflowError, EOFError, OSError)


@dataclass(frozen=True)
class Member:
    """A file in an archive: its path, what forbids its use (or ""), and what reads it, which
    raises ValueError with the reason."""

    name: str
    problem: str
    read: Callable[[], bytes]


def is_archive(path: Path) -> bool:
    """Return whether the name is that of an archive that can be read."""
    return path.name.lower().endswith(ENDINGS)


def archive_members(path: Path) -> Iterator[Member]:
    """Yield the files of an archive, in its order, and last what damage ends it, if any.

    A member whose path leads elsewhere, a link, an encrypted one and one that is no plain file has
    a `problem`; folders are passed over. Only what `read` asks for is read, and never more than
    `MAX_PICTURE_BYTES`, whatever a header says. Memory does not grow with the members.
    """
    with path.open("rb") as file:
        read = _zip_members if path.name.lower().endswith(".zip") else _tar_members
        try:
            yield from read(file)
        except (*_DAMAGE, struct.error) as error:
            told = " ".join(str(error).split())[:100]
            problem = f"{path.name} is damaged, and what follows is not read: {told}"
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


def _tar_members(file: BinaryIO) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while one := tar.next():
            tar.members.clear()  # tarfile keeps them all
            if one.isdir():
                continue
            problem = _path_problem(one.name)
            if one.issym() or one.islnk():
                problem = problem or "a link"
            elif not one.isreg() or one.issparse():
                problem = problem or "no plain file"
            elif one.size > MAX_PICTURE_BYTES:
                problem = problem or f"more than {MAX_PICTURE_BYTES:,} bytes"
            start, size, place = one.offset_data, one.size, file.tell()

            def read(start: int = start, size: int = size) -> bytes:
                back = file.tell()
                file.seek(start)
                content = file.read(size)
                file.seek(back)
                if len(content) < size:
                    raise ValueError("cut off: the archive ends within it")
                return content

            yield Member(one.name, problem, read)
            file.seek(place)
        file.seek(tar.offset)  # in the middle tarfile takes what is no header for the end
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise ValueError("no end of the archive")


def _zip_members(file: BinaryIO) -> Iterator[Member]:
    """PKWARE's APPNOTE 6.3, sections 4.3.12 to 4.3.16: the central directory, entry by entry."""
    at, count = _directory(file)
    for _ in range(count):
        file.seek(at)
        header = file.read(_CENTRAL.size)
        if len(header) < _CENTRAL.size:
            raise ValueError("the directory ends too early")
        sign, made, _, flags, method, _, _, crc, packed, size, *rest = _CENTRAL.unpack(header)
        name_length, extra_length, comment_length, _, _, attributes, offset = rest
        if sign != _ENTRY:
            raise ValueError("no entry of the directory")
        raw = file.read(name_length)
        extra = file.read(extra_length)
        at += _CENTRAL.size + name_length + extra_length + comment_length
        name = raw.decode(errors="surrogateescape")
        if not flags & _UTF8 and not is_name(name):
            name = raw.decode("cp437")
        if name.endswith("/"):
            continue
        size, packed, offset = _wide(extra, size, packed, offset)
        mode = attributes >> 16 if made >> 8 == 3 else 0
        problem = _path_problem(name)
        if flags & _ENCRYPTED:
            problem = problem or "encrypted"
        elif mode and stat.S_ISLNK(mode):
            problem = problem or "a link"
        elif method not in (_STORED, _DEFLATED):
            problem = problem or f"compressed by method {method}, allowed are stored and deflated"
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

        yield Member(name, problem, read)


def _unpacked(file: BinaryIO, offset: int, packed: int, size: int, crc: int, method: int) -> bytes:
    file.seek(offset)
    header = file.read(30)
    if header[:4] != _LOCAL or len(header) < 30:
        raise ValueError("damaged: no header where the directory says")
    name_length, extra_length = struct.unpack("<2H", header[26:])
    file.seek(offset + 30 + name_length + extra_length)
    content = file.read(packed)
    if method == _DEFLATED:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, size + 1)
        except zlib.error as error:
            raise ValueError(f"damaged: {error}") from None
    if len(content) != size:
        told = "more" if len(content) > size else "less"
        raise ValueError(f"damaged: {told} than the {size:,} bytes that the directory says")
    if zlib.crc32(content) != crc:
        raise ValueError("damaged: its checksum is another")
    return content


def _directory(file: BinaryIO) -> tuple[int, int]:
    """Return where the directory begins, and how many entries it has."""
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - (1 << 16) - 22))
    start, tail = file.tell(), file.read()
    found = tail.rfind(_END)
    if found < 0 or len(tail) < found + 22:
        raise ValueError("no end of the archive")
    count, _, at = struct.unpack("<H2L", tail[found + 10 : found + 20])
    locator = tail[found - 20 : found] if found >= 20 else b""
    if locator[:4] == _LOCATOR_64:
        file.seek(struct.unpack("<Q", locator[8:16])[0])
        end = file.read(56)
        if end[:4] != _END_64 or len(end) < 56:
            raise ValueError("no end of the archive")
        count, _, at = struct.unpack("<3Q", end[32:56])
    if at > start + found:
        raise ValueError("the directory lies outside the archive")
    return at, count


def _wide(extra: bytes, *values: int) -> list[int]:
    """Return size, packed size and offset, where they are full from the extra field of Zip64."""
    place, found = 0, list(values)
    while place + 4 <= len(extra):
        kind, length = struct.unpack("<2H", extra[place : place + 4])
        if kind == 1:
            numbers = extra[place + 4 : place + 4 + length]
            for at, value in enumerate(values):
                if value == _FULL and len(numbers) >= 8:
                    found[at], numbers = int.from_bytes(numbers[:8], "little"), numbers[8:]
            break
        place += 4 + length
    return found
