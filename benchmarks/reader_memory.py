"""Peak memory and speed of the readers at 2,000 and at 200,000 rows.

python -m benchmarks.reader_memory [--rows 2000 200000] [--work DIR]

Each source is opened and read to its end in a process of its own; pictures are one small JPEG. The
table of captions is what the others are compared with.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

from PIL import Image

KINDS = ("csv", "parquet", "arrow", "zip", "tar", "instances", "open images", "karpathy")
SOURCES = {
    "csv": "caption_table",
    "parquet": "parquet",
    "arrow": "parquet",
    "zip": "image_folder",
    "tar": "image_folder",
    "instances": "coco",
    "open images": "open_images",
    "karpathy": "flickr8k",
}


def jpeg() -> bytes:
    """Return one small picture."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(out, "JPEG")
    return out.getvalue()


def make(kind: str, rows: int, folder: Path) -> Path:
    """Write a data set of that many rows, and return what to open."""
    folder.mkdir(parents=True)
    picture = jpeg()
    if kind in ("parquet", "arrow"):
        return _table(kind, rows, folder, picture)
    if kind in ("zip", "tar"):
        return _archive(kind, rows, folder, picture)
    pictures = {"csv": "", "instances": "val", "open images": "val", "karpathy": "Images"}[kind]
    (folder / pictures).mkdir(exist_ok=True)
    for n in range(rows):
        path = folder / pictures / f"{n}.jpg"
        # A file system allows some ten thousand links to one file.
        if n % 10_000 == 0:
            path.write_bytes(picture)
        else:
            path.hardlink_to(folder / pictures / f"{n - n % 10_000}.jpg")
    if kind == "csv":
        lines = (f"{n}.jpg,a picture with the number {n}\n" for n in range(rows))
        with (folder / "train.csv").open("w") as file:
            file.writelines(["image,caption\n", *lines])
    elif kind == "open images":
        lines = (f"{n},/m/{n % 500},1\n" for n in range(rows))
        with (folder / "val-labels.csv").open("w") as file:
            file.writelines(["ImageID,LabelName,Confidence\n", *lines])
    elif kind == "instances":
        images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(rows)]
        objects = [{"image_id": n, "category_id": n % 80, "iscrowd": 0} for n in range(rows)]
        names = [{"id": n, "name": f"class {n}"} for n in range(80)]
        told = {"images": images, "annotations": objects, "categories": names}
        (folder / "annotations").mkdir()
        (folder / "annotations/instances_val.json").write_text(json.dumps(told))
    else:
        images = [
            {"filename": f"{n}.jpg", "split": "train", "sentences": [{"raw": f"number {n}"}]}
            for n in range(rows)
        ]
        (folder / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    return folder


def _table(kind: str, rows: int, folder: Path, picture: bytes) -> Path:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([("image", pyarrow.binary()), ("text", pyarrow.string())])
    path = folder / f"train.{kind}"
    if kind == "parquet":
        writer = pyarrow.parquet.ParquetWriter(path, schema)
    else:
        writer = pyarrow.ipc.new_stream(str(path), schema)
    with writer:
        for start in range(0, rows, 1000):
            numbers = range(start, min(start + 1000, rows))
            columns = {
                "image": [picture for _ in numbers],
                "text": [f"number {n}" for n in numbers],
            }
            writer.write_table(pyarrow.table(columns, schema=schema))
    return folder


def _archive(kind: str, rows: int, folder: Path, picture: bytes) -> Path:
    path = folder / f"classes.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for n in range(rows):
                archive.writestr(f"class {n % 100}/{n}.jpg", picture)
    else:
        with tarfile.open(path, "w") as archive:
            for n in range(rows):
                member = tarfile.TarInfo(f"class {n % 100}/{n}.jpg")
                member.size = len(picture)
                archive.addfile(member, io.BytesIO(picture))
                archive.members.clear()  # type: ignore[attr-defined]
    return path


def read(kind: str, data: Path) -> dict:
    """Open and read all; return what it took."""
    import tensorflow  # noqa: F401  as in the process that packs

    from tfclip.sources.registry import open_source

    started = time.monotonic()
    source = open_source(SOURCES[kind], data)
    items = sum(1 for split in source.counts for _ in source.read(split))
    seconds = time.monotonic() - started
    # Not getrusage's maximum, which a child has from the process that started it.
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
    return {"items": items, "peak_mib": round(peak, 1), "per_second": round(items / seconds)}


def main() -> None:
    """Measure every kind, and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 200_000])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--read", nargs=2)
    flags = parser.parse_args()
    if flags.read:
        print(json.dumps(read(flags.read[0], Path(flags.read[1]))))
        return
    with tempfile.TemporaryDirectory() as work:
        for kind in flags.kinds:
            for rows in flags.rows:
                data = make(kind, rows, Path(work, f"{kind}-{rows}"))
                words = [
                    sys.executable,
                    "-m",
                    "benchmarks.reader_memory",
                    "--read",
                    kind,
                    str(data),
                ]
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                print(f"{kind:12} {rows:8,} rows {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
