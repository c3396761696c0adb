"""python -m benchmarks.export_variants RUN --records VOC: the variants of an export in one table.

Size, time to load, median latency of `classify` (of `encode_text` without pictures) at batches of 1
and 16, and zero-shot mAP on a packed Pascal VOC split with one prompt and one view. Each variant is
opened in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

VARIANTS = {
    "all signatures": [],
    "`--image-only`": ["--image-only"],
    "`--text-only`": ["--text-only"],
    "`--precision bfloat16`": ["--precision", "bfloat16"],
    "`--precision float16`": ["--precision", "float16"],
    "`--image-only --precision float16`": ["--image-only", "--precision", "float16"],
}
LITERT = "LiteRT, float16 (image tower)"
COLUMNS = ("size, MB", "load, s", "p50 at 1, ms", "p50 at 16, ms", "mAP")


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.export_variants", description=__doc__
    )
    add = parser.add_argument
    add("run", type=Path, help="a run directory")
    add("--records", type=Path, required=True, help="packed Pascal VOC")
    add("--split", default="val", help="A+B counts as one")
    add("--rounds", type=int, default=15, help="of each latency")
    add(
        "--work", type=Path, default=Path("runs/benchmark-export"), help="exports; kept, and reused"
    )
    add("--json", action="store_true", help="the result as the last line on standard output")
    add("--one", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.one:
        print(json.dumps(measure(flags.one, flags)))
        return 0
    from tfclip.export import main as export

    rows, lite = {}, flags.work / "tower.tflite"
    print(f"| | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for number, (name, words) in enumerate(VARIANTS.items(), start=1):
        if not (flags.work / str(number)).is_dir():
            labels = [] if "--text-only" in words else ["--labels", "voc", "--thresholds", "none"]
            lite_words = [] if lite.exists() else ["--litert", str(lite)]
            if export([str(flags.run), "--out", str(flags.work), *labels, *words, *lite_words]):
                return 1
        rows[name] = in_a_process(flags.work / str(number), flags)
        print(row(name, rows[name]), flush=True)
    rows[LITERT] = in_a_process(lite, flags)
    print(row(LITERT, rows[LITERT]))
    if flags.json:
        print(json.dumps(rows))
    return 0


def row(name: str, figures: dict) -> str:
    """A line of the table."""
    cells = (
        f"{figures['megabytes']:.1f}",
        f"{figures['load_seconds']:.1f}",
        *(f"{figures['milliseconds'][batch]:.0f}" for batch in ("1", "16")),
        "" if figures["map"] is None else f"{100 * figures['map']:.2f}",
    )
    return f"| {name} | {' | '.join(cells)} |"


def in_a_process(path: Path, flags: argparse.Namespace) -> dict:
    """Measure one variant where nothing else was loaded."""
    words = ["--records", str(flags.records), "--split", flags.split]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.export_variants", str(flags.run), *words]
        + ["--rounds", str(flags.rounds), "--one", str(path)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(path: Path, flags: argparse.Namespace) -> dict:
    """The figures of an exported version, or of a `.tflite` file."""
    import numpy as np

    from tfclip.evaluation.datasets.multilabel_images import labelled_records
    from tfclip.evaluation.metrics.multilabel import average_precision

    pictures = labelled_records(flags.records, flags.split)
    opened = open_litert if path.suffix == ".tflite" else open_saved_model
    seconds, ask, inputs, has_scores = opened(path, flags, pictures)
    milliseconds = {}
    for batch in (1, 16):
        ask(inputs[:batch])
        times = [timed(ask, inputs[:batch]) for _ in range(flags.rounds)]
        milliseconds[batch] = 1000 * statistics.median(times)
    figure = None
    if has_scores:
        scores = [ask(inputs[at : at + 16]) for at in range(0, len(inputs), 16)]
        each = average_precision(np.concatenate(scores), pictures.present)
        figure = float(np.nanmean(each))
    files = path.rglob("*") if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files if file.is_file())
    return {
        "megabytes": size / 1e6,
        "load_seconds": seconds,
        "milliseconds": milliseconds,
        "map": figure,
    }


def timed(ask, inputs) -> float:
    """Seconds that one request takes."""
    started = time.perf_counter()
    ask(inputs)
    return time.perf_counter() - started


def open_saved_model(path: Path, flags: argparse.Namespace, pictures):
    """Seconds to load, `classify` (or `encode_text`) as a function, its inputs."""
    import tensorflow as tf

    from tfclip.records import schema
    from tfclip.records.reader import read_split
    from tfclip.serving import signatures as names
    from tfclip.serving.saved_model import load_signatures

    started = time.perf_counter()
    served = load_signatures(path)
    seconds = time.perf_counter() - started
    if names.CLASSIFY not in served:
        texts = ["a photo of a dog on the grass."] * 16
        encode = served[names.ENCODE_TEXT]
        return seconds, lambda rows: encode(text=tf.constant(rows)), texts, False
    classify = served[names.CLASSIFY]
    inputs = [
        record[schema.IMAGE]
        for split in flags.split.split("+")
        for record in read_split(flags.records, split, features=(schema.IMAGE,)).as_numpy_iterator()
    ]
    score = lambda rows: classify(image_bytes=tf.constant(rows))[names.SCORES].numpy()  # noqa: E731
    return seconds, score, inputs, True


def open_litert(path: Path, flags: argparse.Namespace, pictures):
    """As `open_saved_model`, on pictures that are decoded already; classes by the run's model."""
    import numpy as np

    from tfclip.evaluation.datasets.views import WHOLE_PICTURE
    from tfclip.evaluation.embedding.embed import class_embeddings
    from tfclip.evaluation.embedding.prompts import readable_names, templates_by_name
    from tfclip.models.saving import load_model
    from tfclip.serving.litert import LiteRtEncoder

    started = time.perf_counter()
    encoder = LiteRtEncoder(path.read_bytes())
    seconds = time.perf_counter() - started
    model = load_model(flags.run)
    names = readable_names(pictures.class_names)
    classes = class_embeddings(model, names, templates_by_name("single"))
    views = pictures.views(model.config.image_size, WHOLE_PICTURE).as_numpy_iterator()
    pixels = np.stack([view[0] for _, view in views])
    return seconds, lambda rows: encoder(rows) @ classes.T, pixels, True


if __name__ == "__main__":
    sys.exit(main())
