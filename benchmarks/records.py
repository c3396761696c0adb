"""python -m benchmarks.records: packing and reading with tfclip beside what others use for it.

Packing, on Flickr8k: tfclip with two workers and with one, webdataset's writer in one process and
with two workers, a TFDS builder, and a script in the manner of the TF Model Garden. Every picture
is read, decoded completely as a check and stored with its captions; then the same with a resize.
Reading, on Pascal VOC: pictures packed with --image-size 256 become batches (64,224,224,3) uint8,
antialiased, on two threads; beside them webdataset + Pillow + a DataLoader with two workers, on the
pictures as they were and on the shrunk ones, and tf.io.decode_jpeg alone.

All sides work in processes of their own, in turns.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.side import Side, side
from benchmarks.timing import Timing, compared
from tfclip.console import Command, progress, run, say
from tfclip.sources.registry import open_source
from tfclip.sources.sample import Sample, SourceOptions

SIZE = 224
BATCH_SIZE = 64
PACKED_SIZE = 256
"""--image-size of the pictures that are read."""
RESIZED = 160
"""--image-size of packing with a resize: the pictures of Flickr8k here have 224 pixels."""
SHARDS = 4
WORKERS = 2
COMPARED = 128
"""Pictures whose pixels are compared between the two readers."""

Call = Callable[[], Timing]


@dataclass(frozen=True)
class RecordsFlags:
    """Measure packing and reading speed beside webdataset, TFDS, a Model Garden script, Pillow."""

    data: Path = Path(os.environ.get("TFCLIP_DATA", "../shared/data"))
    """The folder that holds flickr8k/ and voc/; by default $TFCLIP_DATA, or else ../shared/data."""
    parts: tuple[str, ...] = ("packing", "resizing", "reading")
    """What to measure."""
    rounds: int = 5
    """Timings of every side, taken in turns."""
    pictures: int = 2400
    """Pictures to pack and to read, those of the data set again and again."""

    def __post_init__(self):
        for name in ("rounds", "pictures"):
            if getattr(self, name) < 1:
                raise ValueError(f"received --{name} {getattr(self, name)}; allowed: 1 or more")
        known = RecordsFlags.parts
        if not self.parts or set(self.parts) - set(known):
            raise ValueError(f"received --parts {self.parts}; allowed: {', '.join(known)}")


def measure(flags: RecordsFlags) -> dict:
    """Run the benchmark; return the figures."""
    needed = ("torch", "webdataset", "tensorflow_datasets")
    missing = [name for name in needed if not importlib.util.find_spec(name)]
    if missing:
        raise ValueError(
            f"missing: {', '.join(missing)}; run pip install -e '.[benchmarks,datasets]'"
        )
    captioned = _samples(flags, "flickr8k", "train")
    labelled = _samples(flags, "voc", "trainval")
    os.environ["TQDM_DISABLE"] = "1"  # in the processes: this one has loaded tqdm
    result: dict[str, Any] = {"pictures": flags.pictures, "rounds": flags.rounds}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as processes:
        ours, tars, scripts = (
            processes.enter_context(side(f"benchmarks.{name}"))
            for name in ("tfclip_side", "webdataset_side", "packing_sides")
        )
        for part, image_size in (("packing", None), ("resizing", RESIZED)):
            if part in flags.parts:
                calls = _packing(captioned, image_size, ours, tars, scripts, Path(folder, part))
                result[part] = _packing_figures(part, _timed(calls, flags.rounds))
        if "reading" in flags.parts:
            result["reading"] = _reading(labelled, flags.rounds, ours, tars, Path(folder))
    return result


def _samples(flags: RecordsFlags, name: str, split: str) -> list[Sample]:
    source = open_source(name, flags.data / name, SourceOptions(splits=(split,)))
    found = [sample for sample in source.read(split) if isinstance(sample, Sample)]
    repeated = (found[at % len(found)] for at in range(flags.pictures))
    return [replace(sample, key=f"{sample.key}_{at}") for at, sample in enumerate(repeated)]


def _packing(
    samples: list[Sample], size: int | None, ours: Side, tars: Side, scripts: Side, folder: Path
) -> dict[str, Call]:
    folder.mkdir()
    given = (SHARDS, size)
    return {
        "tfclip, 2 workers": partial(
            ours.do, "pack_records", samples, folder / "two", *given, WORKERS
        ),
        "tfclip, 1 worker": partial(ours.do, "pack_records", samples, folder / "one", *given, 1),
        "webdataset": partial(tars.do, "pack_tars", samples, folder / "tars", *given, 0),
        "webdataset, 2 workers": partial(
            tars.do, "pack_tars", samples, folder / "tars2", *given, WORKERS
        ),
        "TFDS builder": partial(scripts.do, "pack_tfds", samples, folder / "tfds", *given),
        "Model Garden": partial(scripts.do, "pack_model_garden", samples, folder / "tf", *given),
    }


def _packing_figures(part: str, timings: dict[str, list[Timing]]) -> dict:
    pairs = {name: compared(timings["tfclip, 2 workers"], timings[name]) for name in timings}
    say(f"{part}, Flickr8k")
    for name, pair in pairs.items():
        _tell(name, pair["theirs"])
    alone = ("webdataset", "TFDS builder", "Model Garden")
    fastest = min(alone, key=lambda name: pairs[name]["ratio"])
    figures = {
        "fastest": fastest,
        "two_workers": pairs[fastest]["ratio"],
        "one_worker": compared(timings["tfclip, 1 worker"], timings[fastest])["ratio"],
        "equal_workers": pairs["webdataset, 2 workers"]["ratio"],
        "sides": {name: pair["theirs"] for name, pair in pairs.items()},
    }
    say(f"  tfclip with 2 workers: {figures['two_workers']:.2f} x {fastest} in one process")
    say(f"  tfclip with 1 worker: {figures['one_worker']:.2f} x {fastest} in one process")
    say(f"  with 2 workers each: {figures['equal_workers']:.2f} x webdataset")
    return figures


def _reading(
    samples: list[Sample], rounds: int, ours: Side, tars: Side, folder: Path
) -> dict[str, Any]:
    records, found, shrunk = folder / "records", folder / "found", folder / "shrunk"
    ours.do("pack_records", samples, records, SHARDS, PACKED_SIZE, WORKERS)
    tars.do("pack_tars", samples, found, SHARDS, None, WORKERS)
    ours.do("write_pictures", records, folder / "pictures")
    small = [replace(s, image=folder / f"pictures/{at}.jpg") for at, s in enumerate(samples)]
    tars.do("pack_tars", small, shrunk, SHARDS, None, WORKERS)
    calls: dict[str, Call] = {
        "tfclip": partial(ours.do, "read_records", records, SIZE, BATCH_SIZE),
        "tfclip, crops": partial(ours.do, "read_crops", records, SIZE, BATCH_SIZE),
        "decode_jpeg alone": partial(ours.do, "decode_records", records),
    }
    for name, place in (("pictures as found", found), ("the same pictures", shrunk)):
        for how, lean in (("", False), (", lean", True)):
            calls[f"webdataset, {name}{how}"] = partial(
                tars.do, "read_tars", place, SIZE, BATCH_SIZE, WORKERS, lean
            )
    timings = _timed(calls, rounds)
    say(f"reading to {SIZE} px, VOC packed with --image-size {PACKED_SIZE}")
    pairs = {name: compared(timings["tfclip"], timings[name]) for name in timings}
    for name, pair in pairs.items():
        _tell(name, pair["theirs"])
    bare = timings["decode_jpeg alone"]
    ratios = {name: pair["ratio"] for name, pair in pairs.items() if name.startswith("web")}
    ratios["decode_jpeg alone"] = pairs["decode_jpeg alone"]["ratio"]
    ratios["decode_jpeg alone, crops"] = compared(timings["tfclip, crops"], bare)["ratio"]
    for name, ratio in ratios.items():
        say(f"  tfclip: {ratio:.2f} x {name}")
    pixels = _pixels(ours, tars, records, shrunk)
    say(
        "mean absolute difference of pixels, 0..255: tfclip from Pillow's bilinear {bilinear:.2f}, "
        "from its bicubic {bicubic:.2f}; these two from each other {between:.2f}".format(**pixels)
    )
    sides = {name: pair["theirs"] for name, pair in pairs.items()}
    return {"ratios": ratios, "sides": sides, "pixels": pixels}


def _timed(calls: dict[str, Call], rounds: int) -> dict[str, list[Timing]]:
    timings: dict[str, list[Timing]] = {name: [] for name in calls}
    # The first round warms up imports, file cache and memory, and is not counted.
    for at in progress(range(rounds + 1), total=rounds + 1, what="measuring"):
        for name, call in calls.items():
            timing = call()
            if at:
                timings[name].append(timing)
    return timings


def _tell(name: str, figures: dict) -> None:
    say(
        f"  {name:36} {figures['images_per_second']:8,.0f} images/s"
        f" {figures['images_per_cpu_second']:8,.0f} per second of processor time"
    )


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
