"""How many classes a batch holds when the data are sorted, and how fast they are read.

python -m benchmarks.order [--work DIR]

100 class folders of 400 drawn pictures, packed in the order of the folders and shuffled; batches of
128 as training reads them, with pictures and (as for stored features) without. A uniform shuffle
gives 100 (1 - 0.99^128) = 72.4 classes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, EACH, BATCH = 100, 400, 128


def draw(folder: Path) -> None:
    """Draw the pictures, noise of 32 x 32 pixels."""
    rng = np.random.default_rng(0)
    for c in range(CLASSES):
        (folder / f"class {c:03}").mkdir(parents=True)
        for n in range(EACH):
            pixels = rng.integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"class {c:03}" / f"{n:03}.jpg")


def measure(records: Path, with_pictures: bool) -> dict:
    """Return the classes in a batch over an epoch, and the records read in a second."""
    from tfclip.records import schema
    from tfclip.records.reader import endless_shards, shard_counts, split_files

    names = [record[schema.LABEL][0] for record in _labels(records)]
    features = (schema.IMAGE, schema.ID) if with_pictures else ()
    read = endless_shards(
        split_files(records, "train"),
        shuffle_seed=0,
        features=features,
        counts=shard_counts(records, "train"),
        then=lambda number, record: record["row"],
    )
    started = time.monotonic()
    batches = list(read.batch(BATCH).take(CLASSES * EACH // BATCH).as_numpy_iterator())
    seconds = time.monotonic() - started
    classes = [len({names[row] for row in batch}) for batch in batches]
    return {
        "classes_in_a_batch": round(float(np.mean(classes)), 1),
        "fewest": min(classes),
        "records_per_second": round(BATCH * len(batches) / seconds),
    }


def _labels(records: Path):
    from tfclip.records import schema
    from tfclip.records.reader import read_split

    return read_split(records, "train", features=(schema.LABEL,)).as_numpy_iterator()


def main() -> None:
    """Measure both orders, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = flags.work or Path(folder)
        draw(work / "data")
        from tfclip import make_records

        figures = {}
        for order in ("source", "shuffled"):
            words = ["image_folder", "--data", work / "data", "--out", work / order]
            started = time.monotonic()
            if make_records.main([*map(str, words), "--order", order]):
                raise SystemExit(1)
            figures[order] = {"packing_seconds": round(time.monotonic() - started, 1)}
        for order in ("source", "shuffled", "source", "shuffled"):  # the first one warms up
            figures[order]["as training reads"] = measure(work / order, True)
            figures[order]["rows of stored features"] = measure(work / order, False)
        figures["uniform"] = round(CLASSES * (1 - (1 - 1 / CLASSES) ** BATCH), 1)
        print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
