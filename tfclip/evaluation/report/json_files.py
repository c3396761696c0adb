"""Writes what was measured: JSON files of a run, also in the form of CLIP_benchmark."""

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

from tfclip import files
from tfclip.console import json_text
from tfclip.naming import unknown

CLIP_BENCHMARK = "clip-benchmark"
FORMATS = ("tfclip", CLIP_BENCHMARK)
# CLIP_benchmark's names: of the task, and of each figure by the key it has here.
_CLIP_BENCHMARK = {
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


def circumstances(started: float) -> dict:
    """How long it took since `started`, of `time.monotonic()`, and on what."""
    return {
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
        run: the run directory; its name stands as the model.
        benchmark: "voc", "multilabel-NAME", "classification" or "retrieval".
        figures: as measured.
    """
    kind = "voc" if benchmark.startswith("multilabel-") else benchmark
    task, names = _CLIP_BENCHMARK[kind]

    def figure(keys: tuple[str, ...]) -> float:
        value = figures
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
