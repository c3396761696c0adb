"""The output of `evaluate --dry-run`: resolved flags, inputs and outputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tfclip.records.manifest import load_manifest, records_reference

FILES = {
    "voc": ("thresholds.json", "report.html", "embeddings/"),
    "retrieval": ("metrics/retrieval.json", "report.html", "embeddings/"),
    "classification": ("metrics/classification.json", "report.html"),
    "sts": ("metrics/sts.json", "report.html"),
}


def plan(benchmark: str, flags: Any) -> dict:
    """Return what the command would do; nothing is written and TensorFlow is not imported.

    Args:
        benchmark: a key of `FILES`, or multilabel.
        flags: of that benchmark, validated.
    """
    return {
        "benchmark": benchmark,
        "flags": dataclasses.asdict(flags),
        "reads": {"model": flags.run, **_pictures(flags)},
        "writes": [flags.run / name for name in _files(benchmark, flags)],
    }


def _files(benchmark: str, flags: Any) -> tuple[str, ...]:
    if benchmark not in ("voc", "multilabel"):
        return FILES[benchmark]
    own = (f"metrics/{flags.benchmark}.json", f"thresholds/{flags.benchmark}.json")
    return (*own, *FILES["voc"])


def _pictures(flags: Any) -> dict[str, Any]:
    """Return the number of pictures by split for packed records, else the path of the data."""
    records = getattr(flags, "records", None)
    if records is None:
        return {"data": getattr(flags, "data", None) or getattr(flags, "tfds", None)}
    directory, split = records_reference(str(records))
    manifest = load_manifest(directory)
    if split is not None:
        wanted = {"pictures": split}
    elif hasattr(flags, "split"):
        wanted = {"pictures": flags.split, "calibration_pictures": flags.calibrate}
    else:
        return {"data": Path(directory)}
    return {
        name: sum(manifest.splits[one].images for one in splits.split("+"))
        for name, splits in wanted.items()
        if all(one in manifest.splits for one in splits.split("+"))
    }
