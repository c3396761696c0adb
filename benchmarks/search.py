"""python -m benchmarks.search: what does exact search cost over millions of pictures?

Writes an index of random unit vectors by the class that `search index` writes with, beside records
of a few bytes, and asks it for the nearest rows. Says the size of the file, the time to
write it and of a query, and the most memory that the process itself held: pages of the mapped file
are the system's, which takes them back when it needs them. Every answer is compared with the sorted
similarities of all rows, computed in float64 from the vectors that were drawn, not from the file.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.process_memory import anonymous_megabytes
from tfclip.evaluation.search import store
from tfclip.evaluation.search.index import open_index
from tfclip.evaluation.search.nearest import DECIMALS, nearest_rows
from tfclip.evaluation.search.records_file import read_record, record_offsets

BATCH, SHARDS = 4096, 4


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code: 1 when an answer is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    add = parser.add_argument
    add("--rows", type=int, default=2_000_000)
    add("--width", type=int, default=256, help="of an embedding")
    add("--queries", type=int, default=5)
    add("--top", type=int, default=10)
    add("--chunks", type=int, nargs="+", default=[4096, 65_536], help="rows in memory at a time")
    add("--work", type=Path, help="a folder for the index; one that is removed when not given")
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=flags.work) as folder:
        result = measure(flags, Path(folder))
    print(
        f"{result['rows']} rows x {flags.width}: {result['bytes'] / 1e9:.2f} GB, written in "
        f"{result['write_seconds']:.1f} s with {result['write_peak_mb']:.0f} MB",
        file=sys.stderr,
    )
    for chunk, found in result["chunks"].items():
        times = " ".join(f"{seconds:.2f}" for seconds in found["seconds"])
        print(
            f"--chunk {chunk}: {median(found['seconds']):.2f} s a query ({times}), "
            f"{found['peak_mb']:.0f} MB",
            file=sys.stderr,
        )
    print(f"{result['equal']} of {result['asked']} answers are brute force's", file=sys.stderr)
    if flags.json:
        print(json.dumps(result))
    return int(result["equal"] != result["asked"])


def measure(flags: argparse.Namespace, folder: Path) -> dict:
    """Write the index, ask it, and compare."""
    shards = write_shards(folder, flags.rows)
    started = time.perf_counter()
    with Peak() as written:
        write(folder, shards, flags)
    result = {
        "rows": flags.rows,
        "width": flags.width,
        "bytes": sum(path.stat().st_size for path in (folder / "index").iterdir()),
        "write_seconds": time.perf_counter() - started,
        "write_peak_mb": written.megabytes,
        "chunks": {},
    }
    index = open_index(folder / "index")
    queries = unit(np.random.default_rng(1).normal(size=(flags.queries, flags.width)))
    expected = brute_force(queries, flags)
    equal = 0
    for chunk in flags.chunks:
        seconds = []
        with Peak() as held:
            for query, rows in zip(queries, expected, strict=True):
                started = time.perf_counter()
                found, _ = nearest_rows(index.embeddings, query, flags.top, chunk)
                seconds.append(time.perf_counter() - started)
                place, source = index.pictures[found[0]], index.source(int(found[0]))
                shard = source.path / source.shards[place["shard"]]
                record = read_record(shard, int(place["offset"]))
                equal += found.tolist() == rows.tolist() and record == b"%d" % found[0]
        result["chunks"][chunk] = {"seconds": seconds, "peak_mb": held.megabytes}
    return result | {"asked": len(queries) * len(flags.chunks), "equal": equal}


def write(folder: Path, shards: tuple[str, ...], flags: argparse.Namespace) -> None:
    """Write the index, batch by batch."""
    places = (
        (number, offset)
        for number, shard in enumerate(shards)
        for offset in record_offsets(folder / shard)
    )
    (folder / "index").mkdir()
    with store.new_data(folder / "index", flags.width) as writer:
        for batch in drawn(flags.rows, flags.width):
            pictures = np.zeros(len(batch), store.PICTURE)
            of_batch = np.array(list(islice(places, len(batch))))
            pictures["shard"], pictures["offset"] = of_batch.T
            names = [b"%d" % (writer.count + row) for row in range(len(batch))]
            writer.add(batch[:, None], pictures, names)
        source = {"kind": "records", "path": str(folder), "relative": "..", "shards": shards}
        rest = {"run": "none", "model": "none", "tiles": "1", "sources": [source]}
        writer.finish(rest | {"synced": 0, "excluded": [], "problems": []})


def unit(rows: np.ndarray) -> np.ndarray:
    """The rows at length one."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def drawn(count: int, width: int) -> Iterator[np.ndarray]:
    """Random unit vectors, (B,width) float32 at a time; every call draws the same."""
    rng = np.random.default_rng(0)
    for start in range(0, count, BATCH):
        yield unit(rng.standard_normal((min(BATCH, count - start), width), np.float32))


def brute_force(queries: np.ndarray, flags: argparse.Namespace) -> np.ndarray:
    """The nearest rows of every query, (Q,top), of ties the lower one."""
    similar = np.concatenate(
        [batch.astype(np.float64) @ queries.T for batch in drawn(flags.rows, flags.width)]
    )
    return np.argsort(-np.round(similar, DECIMALS), axis=0, kind="stable")[: flags.top].T


def write_shards(folder: Path, count: int) -> tuple[str, ...]:
    """Write records that hold their own number, framed as TFRecords are, without checksums."""
    names = [f"all-{shard:05}-of-{SHARDS:05}.tfrecord" for shard in range(SHARDS)]
    for name, numbers in zip(names, np.array_split(np.arange(count), SHARDS), strict=True):
        with (folder / name).open("wb") as file:
            for number in numbers:
                data = b"%d" % number
                file.write(struct.pack("<Q4x", len(data)) + data + bytes(4))
    return tuple(names)


class Peak:
    """The most anonymous memory of this process between entering and leaving, over that before."""

    def __enter__(self) -> Peak:
        self._before = self._most = anonymous_megabytes()
        self._over = threading.Event()
        self._watching = threading.Thread(target=self._watch)
        self._watching.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._watching.join()
        self.megabytes = self._most - self._before

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self._most = max(self._most, anonymous_megabytes())


if __name__ == "__main__":
    sys.exit(main())
