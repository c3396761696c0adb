"""Writes measurements as JSON files of a run, also in the format of CLIP_benchmark."""

import os
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tfclip import files
from tfclip.console import json_text
from tfclip.naming import unknown
from tfclip.version import __version__

CLIP_BENCHMARK = "clip-benchmark"
FORMATS = ("tfclip", CLIP_BENCHMARK)
# CLIP_benchmark's names of the task and of each figure, with the figure's keys in tfclip.
_CLIP_BENCHMARK: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "voc": ("zeroshot_classification", {"mean_average_precision": ("map",)}),
    "classification": (
        "zeroshot_classification",
        {"acc1": ("top1",), "acc5": ("top5",), "mean_per_class_recall": ("mean_per_class_recall",)},
    ),
    "retrieval": (
        "zeroshot_retrieval",
        {
            "image_retrieval_recall@1": ("text_to_image", "r1"),
            "image_retrieval_recall@5": ("text_to_image", "r5"),
            "image_retrieval_recall@10": ("text_to_image", "r10"),
            "text_retrieval_recall@1": ("image_to_text", "r1"),
            "text_retrieval_recall@5": ("image_to_text", "r5"),
            "text_retrieval_recall@10": ("image_to_text", "r10"),
        },
    ),
}


def check_format(name: str) -> None:
    """Raise ValueError for an unknown format of figures."""
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)


def own_thresholds_file(benchmark: str) -> Path:
    """Return where in a run the thresholds of one measured set are kept for themselves."""
    return Path("thresholds") / f"{benchmark}.json"


def circumstances(started: float, command: str) -> dict:
    """When, by which command and version, on what, and for how long something was measured.

    Args:
        started: `time.monotonic()` at the beginning.
        command: as one would type it.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "version": __version__,
        "seconds": round(time.monotonic() - started, 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def write_json(path: Path, content: Mapping) -> Path:
    """Write a JSON file atomically."""
    files.write_text(path, json_text(content, indent=2) + "\n")
    return path


def write_clip_benchmark(run: Path, benchmark: str, figures: Mapping) -> Path:
    """Write metrics/<benchmark>.clip_benchmark.json: an object as CLIP_benchmark's `eval` writes.

    Args:
        run: the run directory; its name is written as the model.
        benchmark: "voc", "multilabel-NAME", "classification" or "retrieval".
        figures: as measured.
    """
    kind = "voc" if benchmark.startswith("multilabel-") else benchmark
    task, names = _CLIP_BENCHMARK[kind]

    def figure(keys: tuple[str, ...]) -> float:
        value: Any = figures
        for key in keys:
            value = value[key]
        return value

    content = {
        "dataset": str(figures.get("data", figures.get("records"))),
        "model": run.resolve().name,
        "pretrained": str(run),
        "task": task,
        "metrics": {name: figure(keys) for name, keys in names.items()},
        "language": "en",
    }
    return write_json(run / "metrics" / f"{benchmark}.clip_benchmark.json", content)
