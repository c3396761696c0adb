"""python -m benchmarks.records: packing and reading with tfclip beside webdataset and PyTorch.

Both sides work in processes of their own, in turns, on the photographs of Pascal VOC. Packing:
every picture is read, decoded completely by Pillow as a check, and stored with its labels.
Reading: stored pictures become batches (64,224,224,3) uint8, antialiased; on two threads here,
in two worker processes there.
"""

import importlib.util
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import compared
from tfclip.console import Command, progress, run, say
from tfclip.sources.sample import Sample, SourceOptions
from tfclip.sources.voc import open_voc

SIZE = 224
BATCH_SIZE = 64
SHARDS = 4
WORKERS = 2
COMPARED = 128
"""Pictures whose pixels are compared between the two readers."""


@dataclass(frozen=True)
class RecordsFlags:
    """Measure packing and reading speed beside webdataset + Pillow + a PyTorch DataLoader."""

    data: Path = Path(os.environ.get("TFCLIP_DATA", "../shared/data"))
    """The folder that holds voc/; by default $TFCLIP_DATA, or else ../shared/data."""
    rounds: int = 5
    """Timings of either side, taken in turns."""
    pictures: int = 2355
    """Pictures to pack, those of the data set again and again."""

    def __post_init__(self):
        for name in ("rounds", "pictures"):
            if getattr(self, name) < 1:
                raise ValueError(f"received --{name} {getattr(self, name)}; allowed: 1 or more")


@dataclass(frozen=True)
class Side:
    """One way of doing the work: a function of a module that only its own process imports."""

    process: ProcessPoolExecutor
    module: str

    def do(self, function: str, *arguments) -> Any:
        return self.process.submit(_call, self.module, function, arguments).result()


def _call(module: str, function: str, arguments: tuple) -> Any:
    return getattr(import_module(module), function)(*arguments)


def measure(flags: RecordsFlags) -> dict:
    """Run the benchmark; return the figures."""
    missing = [name for name in ("torch", "webdataset") if not importlib.util.find_spec(name)]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}; run pip install -e '.[benchmarks]'")
    samples = _samples(flags)
    os.environ["TQDM_DISABLE"] = "1"  # in the processes: this one has loaded tqdm
    spawn = get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn) as our_process,
        ProcessPoolExecutor(1, spawn) as their_process,
    ):
        ours = Side(our_process, "benchmarks.tfclip_side")
        theirs = Side(their_process, "benchmarks.webdataset_side")
        return _measure(flags, samples, ours, theirs, Path(folder))


def _samples(flags: RecordsFlags) -> list[Sample]:
    source = open_voc(flags.data / "voc", SourceOptions(splits=("trainval",)))
    found = list(source.read("trainval"))
    repeated = (found[at % len(found)] for at in range(flags.pictures))
    return [replace(sample, key=f"{sample.key}_{at}") for at, sample in enumerate(repeated)]


def _measure(
    flags: RecordsFlags, samples: list[Sample], ours: Side, theirs: Side, folder: Path
) -> dict:
    records, tars = folder / "records", folder / "tars"
    # What is compared: a line about it, then tfclip's call and webdataset's.
    pairs = {
        "packing": (
            f"packing, either side with {WORKERS} processes that check and one that writes",
            ("pack_records", samples, records, SHARDS, WORKERS),
            ("pack_tars", samples, tars, SHARDS, WORKERS),
        ),
        "packing_one": (
            "packing, either side with 1 process that checks and one that writes",
            ("pack_records", samples, records, SHARDS, 1),
            ("pack_tars", samples, tars, SHARDS, 1),
        ),
        "reading": (
            f"reading, {WORKERS} threads; webdataset: decode('pil') and Pillow's default resize "
            f"(bicubic, as CLIP's) in a DataLoader with {WORKERS} workers",
            ("read_records", records, SIZE, BATCH_SIZE),
            ("read_tars", tars, SIZE, BATCH_SIZE, WORKERS, False),
        ),
        "reading_lean": (
            "reading, the same; webdataset at its leanest: bilinear resize, and a decoder of our "
            "own without two copies of every picture",
            ("read_records", records, SIZE, BATCH_SIZE),
            ("read_tars", tars, SIZE, BATCH_SIZE, WORKERS, True),
        ),
    }
    timings: dict[str, list] = {name: [] for name in pairs}
    # The first round warms up imports, file cache and memory, and is not counted.
    for at in progress(range(flags.rounds + 1), total=flags.rounds + 1, what="measuring"):
        for name, (_, our_call, their_call) in pairs.items():
            timing = ours.do(*our_call), theirs.do(*their_call)
            if at:
                timings[name].append(timing)
    result: dict[str, Any] = {"pictures": len(samples), "rounds": flags.rounds}
    for name, (line, *_) in pairs.items():
        result[name] = compared(*zip(*timings[name], strict=True))
        _tell(line, result[name])
    result["pixels"] = _pixels(ours, theirs, records, tars)
    say(
        "mean absolute difference of pixels, 0..255: tfclip from Pillow's bilinear {bilinear:.2f}, "
        "from its bicubic {bicubic:.2f}; these two from each other {between:.2f}".format(
            **result["pixels"]
        )
    )
    return result


def _tell(line: str, pair: dict) -> None:
    say(line)
    for name, side in (("tfclip", pair["ours"]), ("webdataset", pair["theirs"])):
        say(
            f"  {name:10} {side['images_per_second']:8,.0f} images/s"
            f" {side['images_per_cpu_second']:8,.0f} per second of processor time"
            f" {side['seconds']:8.2f} s"
        )
    pairs = " ".join(f"{ratio:.2f}" for ratio in pair["ratios"])
    say(f"  ratio      {pair['ratio']:8.2f} x         (pair by pair: {pairs})")


def _pixels(ours: Side, theirs: Side, records: Path, tars: Path) -> dict[str, float]:
    """Return how far the readers' pixels of the same pictures are apart."""
    read = {
        "tfclip": ours.do("first_pictures", records, SIZE, COMPARED),
        "bilinear": theirs.do("first_pictures", tars, SIZE, COMPARED, True),
        "bicubic": theirs.do("first_pictures", tars, SIZE, COMPARED, False),
    }
    tfclip, bilinear, bicubic = (
        np.stack([pictures[key] for key in sorted(read["tfclip"])]).astype(np.float32)
        for pictures in read.values()
    )
    return {
        "bilinear": round(float(np.abs(tfclip - bilinear).mean()), 3),
        "bicubic": round(float(np.abs(tfclip - bicubic).mean()), 3),
        "between": round(float(np.abs(bilinear - bicubic).mean()), 3),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("benchmarks.records", Command(RecordsFlags, measure), argv)


if __name__ == "__main__":
    sys.exit(main())
