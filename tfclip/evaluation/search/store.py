"""The files of an index: a folder whose `index.json` names the files that belong together.

FOLDER/index.json is replaced atomically as the last step of every change; it names, by a token,
`embeddings-TOKEN.npy` (N x T, D) float32, `pictures-TOKEN.npy` (N,) of `PICTURE` and
`names-TOKEN.bin`, the names in UTF-8 one after another. A process that is killed leaves files that
no index.json names; the next change removes them. One process at a time may write.
"""

from __future__ import annotations

import json
import re
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tfclip import files
from tfclip.evaluation.report.json_files import write_json

DESCRIPTION = "index.json"
FORMAT = "tfclip search index"
VERSION = 2
PICTURE = np.dtype(
    [
        ("source", "<i4"),
        ("shard", "<i4"),
        ("offset", "<i8"),
        ("name_at", "<i8"),
        ("name_bytes", "<i4"),
        ("bytes", "<i8"),
        ("modified", "<i8"),
        ("digest", "<u8", (2,)),
    ]
)
"""A picture: its source; the shard and byte offset of its record; where its name is in the file of
names; the size and time of its file (nanoseconds); the BLAKE2b digest of its bytes."""
# The CRC-32 of this many first pictures is in the description, to detect files of two indexes.
_FIRST = 16
_LOCK = ".lock"
_DATA = re.compile(r"(embeddings|pictures|names)-[0-9a-f]{12}\.(npy|bin)")


def data_files(folder: Path, token: str) -> tuple[Path, Path, Path]:
    """Return the files of embeddings, pictures and names."""
    return (
        folder / f"embeddings-{token}.npy",
        folder / f"pictures-{token}.npy",
        folder / f"names-{token}.bin",
    )


class IndexWriter:
    """Writes the data of an index, batch by batch; `finish` makes it the index.

    Args:
        folder: of the index; it exists.
        embed_dim: D.
        views: T, the number of views of a picture.
    """

    def __init__(self, folder: Path, embed_dim: int, views: int = 1):
        self._folder, self._width, self.views = folder, embed_dim, views
        self._token = secrets.token_hex(6)
        self._paths = data_files(folder, self._token)
        self._files = [path.open("xb") for path in self._paths]
        self.count = self._name_bytes = 0
        self._first = b""
        self._headers()

    def add(self, embeddings: np.ndarray, pictures: np.ndarray, names: Sequence[bytes]) -> None:
        """Append pictures.

        Args:
            embeddings: (B,T,D) of unit norm.
            pictures: (B,) of `PICTURE`; the place of the name is set here.
            names: the name of each, in UTF-8.
        """
        if embeddings.shape != (len(pictures), self.views, self._width):
            raise ValueError(f"embeddings {embeddings.shape} of {len(pictures)} pictures")
        rows = pictures.copy()
        lengths = np.fromiter(map(len, names), np.int64, len(pictures))
        rows["name_bytes"] = lengths
        rows["name_at"] = self._name_bytes + np.cumsum(lengths) - lengths
        self._files[0].write(np.ascontiguousarray(embeddings, "<f4").tobytes())
        self._files[1].write(rows.tobytes())
        self._files[2].write(b"".join(names))
        self._name_bytes += int(lengths.sum())
        self._first += rows[: max(0, _FIRST - self.count)].tobytes()
        self.count += len(pictures)

    def finish(self, description: Mapping[str, Any]) -> None:
        """Flush everything, and make it the index by replacing index.json.

        Args:
            description: what index.json holds besides the keys that are added here.
        """
        self._headers()
        for file in self._files:
            file.close()
        for path in self._paths:
            files.flush(path)
        added = {
            "format": FORMAT,
            "version": VERSION,
            "token": self._token,
            "pictures": self.count,
            "views": self.views,
            "first_pictures": zlib.crc32(self._first),
        }
        write_json(self._folder / DESCRIPTION, added | dict(description))

    def discard(self) -> None:
        """Close and remove the files."""
        for file, path in zip(self._files, self._paths, strict=True):
            try:
                file.close()
            except OSError:  # A full disk: what was not written is removed anyway.
                pass
            path.unlink(missing_ok=True)

    def _headers(self) -> None:
        """Write the headers of both arrays; NumPy leaves room in them for the final length."""
        shapes = ((self.count * self.views, self._width), (self.count,))
        for file, shape, kind in zip(self._files, shapes, (np.dtype("<f4"), PICTURE), strict=False):
            file.seek(0)
            descr = np.lib.format.dtype_to_descr(kind)
            header = {"descr": descr, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)


@contextmanager
def new_data(folder: Path, embed_dim: int, views: int = 1) -> Iterator[IndexWriter]:
    """Yield a writer; its files are removed when the block ends without `finish`.

    Afterwards the files of the former index, and those of killed processes, are removed.
    """
    writer = IndexWriter(folder, embed_dim, views)
    finished = False
    try:
        yield writer
        finished = read_description(folder).get("token") == writer._token
    finally:
        if not finished:
            writer.discard()
    remove_unused(folder)


def renew(folder: Path, changes: Mapping[str, Any]) -> None:
    """Change entries of index.json; its data stay."""
    write_json(folder / DESCRIPTION, read_description(folder) | dict(changes))


def is_own(name: str) -> bool:
    """Return whether a file in the folder of an index is part of one."""
    return (
        bool(_DATA.fullmatch(name)) or name in (DESCRIPTION, _LOCK) or name.endswith(files.WRITING)
    )


def remove_unused(folder: Path) -> None:
    """Remove data files that index.json does not name; no other process may be writing."""
    try:
        token = read_description(folder).get("token", "")
    except (OSError, ValueError):
        token = ""
    kept = {path.name for path in data_files(folder, token)}
    for path in folder.iterdir():
        if _DATA.fullmatch(path.name) and path.name not in kept:
            path.unlink(missing_ok=True)
    files.remove_unfinished(folder, DESCRIPTION)


def read_description(folder: Path) -> dict[str, Any]:
    """Read index.json.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or of another version.
    """
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["version"] if content["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no search index: {' '.join(str(error).split())}") from None
    if version != VERSION:
        raise ValueError(f"{path} has version {version!r}; this tfclip reads {VERSION}")
    return content


def map_data(
    folder: Path, description: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Map the embeddings, the pictures and the bytes of the names of an index.

    Raises:
        FileNotFoundError: a file is missing, for instance because another process has just replaced
            the index.
        ValueError: the files do not belong together.
    """
    paths = data_files(folder, description["token"])
    count, views = description["pictures"], description["views"]
    embeddings, pictures = (np.load(path, mmap_mode="r", allow_pickle=False) for path in paths[:2])
    if embeddings.ndim != 2 or len(embeddings) != count * views or pictures.shape != (count,):
        raise ValueError(f"{len(embeddings)} rows, {count} x {views} described")
    if embeddings.dtype != np.dtype("<f4") or pictures.dtype != PICTURE:
        raise ValueError(f"arrays of {embeddings.dtype} and {pictures.dtype}")
    if zlib.crc32(pictures[:_FIRST].tobytes()) != description["first_pictures"]:
        raise ValueError("its pictures are not those that are described")
    size = paths[2].stat().st_size
    names = np.memmap(paths[2], np.uint8, "r") if size else np.zeros(0, np.uint8)
    if count and int(pictures[-1]["name_at"]) + int(pictures[-1]["name_bytes"]) != size:
        raise ValueError(f"names of {size} bytes")
    return embeddings, pictures, names


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the right to write an index; a killed process loses it.

    Raises:
        ValueError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(files.locked(folder / _LOCK, wait=False))
        except BlockingIOError:
            raise ValueError(
                f"another process is writing the index {folder}; run this again when it is done"
            ) from None
        yield
