"""A memory-mapped index of picture embeddings, and exact nearest-neighbour search in it.

`NAME.npy` is a NumPy file of N rows: the embedding (D float32), the shard, and the byte offset of
the picture's record. `NAME.json` describes the model and the records. The search is exact: every
row is compared, `chunk` rows at a time, and rows that may be among the nearest are compared in
float64.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tfclip import files
from tfclip.evaluation.report.json_files import write_json

INDEX_FILE = "search.npy"
CHUNK = 65_536
# Similarities are rounded to this many decimals, far above float64 rounding, so that copies of one
# picture tie wherever they are.
DECIMALS = 12
# The CRC-32 of this many first rows is in the description, to detect files that do not match.
_FIRST = 16
_LENGTH = struct.Struct("<Q")
# A TFRecord has its length and a checksum before the data, and a checksum after it.
_BEFORE, _AFTER = 12, 4


@dataclass(frozen=True)
class SearchIndex:
    """An opened index.

    Attributes:
        rows: (N,) structured and memory-mapped: `embedding` (D,) float32, `shard` int32, `offset`
            int64.
        run: the run directory of the model.
        model: the model's fingerprint.
        records: the directory of packed records.
        fingerprint: of its manifest.
        shards: file names by shard number.
    """

    rows: np.ndarray
    run: Path
    model: str
    records: Path
    fingerprint: str
    shards: tuple[str, ...]


def row_type(embed_dim: int) -> np.dtype:
    """Return the dtype of a row of the index."""
    return np.dtype([("embedding", "<f4", (embed_dim,)), ("shard", "<i4"), ("offset", "<i8")])


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


def write_index(
    out: Path,
    embeddings: Iterable[np.ndarray],
    embed_dim: int,
    total: int,
    *,
    run: Path,
    model: str,
    records: Path,
    fingerprint: str,
    shards: tuple[str, ...],
) -> None:
    """Write an index batch by batch, with one batch in memory.

    Args:
        out: NAME.npy; it is replaced when everything is written.
        embeddings: batches (B,D) of unit norm, in the order of the records.
        embed_dim: D.
        total: N.
        run, model, records, fingerprint, shards: see `SearchIndex`.

    Raises:
        ValueError: the numbers of embeddings and records differ.
    """
    places = (
        (number, offset)
        for number, shard in enumerate(shards)
        for offset in record_offsets(records / shard)
    )
    written, kind, first = 0, row_type(embed_dim), b""
    header = {"descr": kind.descr, "fortran_order": False, "shape": (total,)}
    with files.new_file(out) as temporary:
        with temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for batch in embeddings:
                rows = np.zeros(len(batch), kind)
                rows["embedding"] = batch
                written += len(batch)
                if written > total:
                    raise ValueError(f"more than {total} pictures in {records}")
                rows["shard"], rows["offset"] = np.array(list(islice(places, len(batch)))).T
                file.write(rows.tobytes())
                first += rows[: max(0, _FIRST - len(first) // kind.itemsize)].tobytes()
        if written != total:
            raise ValueError(f"{written} of {total} pictures of {records} could be embedded")
        described: dict[str, Any] = {
            "run": str(run.resolve()),
            "model": model,
            "records": str(records.resolve()),
        }
        described |= {"fingerprint": fingerprint, "shards": list(shards), "pictures": total}
        described["first_rows"] = zlib.crc32(first)
        write_json(out.with_suffix(".json"), described)


def open_index(path: Path) -> SearchIndex:
    """Open an index, memory-mapped.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    path = Path(path)
    described = path.with_suffix(".json")
    if not path.is_file() or not described.is_file():
        raise FileNotFoundError(
            f"no index at {path}; make one with: python -m tfclip.search index RUN RECORDS"
        )
    try:
        content = json.loads(described.read_text(encoding="utf-8"))
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        if rows.dtype != row_type(rows.dtype["embedding"].shape[0]):
            raise ValueError(f"rows of {rows.dtype}")
        if len(rows) != content["pictures"]:
            raise ValueError(f"{len(rows)} rows, {content['pictures']} described")
        # Indexes of earlier versions have no checksum.
        first = zlib.crc32(rows[:_FIRST].tobytes())
        if content.get("first_rows", first) != first:
            raise ValueError(
                f"its rows are not those of {described.name}, as after a kill between the two; "
                "index again"
            )
        return SearchIndex(
            rows,
            Path(content["run"]),
            content["model"],
            Path(content["records"]),
            content["fingerprint"],
            tuple(content["shards"]),
        )
    except (ValueError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"{path} is no search index: {' '.join(str(error).split())}") from None


def nearest_rows(
    embeddings: np.ndarray, query: np.ndarray, top: int, chunk: int = CHUNK
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `top` rows most similar to a query, the most similar first; ties by row number.

    A float32 product, whose error is at most (D + 2) roundings (Higham 2002, 3.5), excludes rows
    that cannot be among them. The remaining rows are compared in float64.

    Args:
        embeddings: (N,D) of unit norm, may be memory-mapped.
        query: (D,) of unit norm.
        top: the number of rows; all N if there are fewer.
        chunk: rows in memory at a time; the result does not depend on it.

    Returns:
        rows (K,) int64, and cosines (K,) float64.

    Raises:
        ValueError: the query has another size or is not finite, or top or chunk is below 1.
    """
    query = np.asarray(query, np.float64)
    if query.shape != embeddings.shape[1:] or not np.isfinite(query).all():
        raise ValueError(f"received a query {query.shape}; allowed: {embeddings.shape[1:]}, finite")
    if top < 1 or chunk < 1:
        raise ValueError(f"received top {top}, chunk {chunk}; allowed: 1 or more")
    rows, cosines = np.empty(0, np.int64), np.empty(0)
    about, width = query.astype(np.float32), embeddings.shape[1]
    slack = 2 * (width + 2) * np.finfo(np.float32).eps * max(1.0, np.linalg.norm(query))
    for start in range(0, len(embeddings), chunk):
        part = embeddings[start : start + chunk]
        rough = part @ about
        least = np.partition(rough, -top)[-top] if len(rough) > top else -np.inf
        if len(cosines) == top:
            least = max(least, cosines[-1])
        near = np.flatnonzero(rough >= least - slack)
        similar = np.round(part[near].astype(np.float64) @ query, DECIMALS)
        rows, cosines = np.append(rows, start + near), np.append(cosines, similar)
        best = np.lexsort((rows, -cosines))[:top]
        rows, cosines = rows[best], cosines[best]
    return rows, cosines
