"""python -m benchmarks.start: how long do commands take that have little to compute?

`predict` for one picture, `search query` for one text, `evaluate` from stored embeddings, and
thresholds for another objective, each as a process of its own, in turns with a process that only
imports TensorFlow. Printed are seconds of wall time and of processor time, medians over the rounds,
and what a command takes longer than the import. The run is copied, so that nothing of it changes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

IMPORT = "import tensorflow"
# The most seconds: after the import of TensorFlow, or in all.
LONGER, IN_ALL = 1.5, 1.5


@dataclass(frozen=True)
class Work:
    """A command to time, and whether it should do without TensorFlow."""

    name: str
    words: Sequence[str]
    without_tensorflow: bool = False


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    add = parser.add_argument
    add("run", type=Path, help="a run")
    add("--picture", type=Path, required=True, help="a picture file")
    add("--voc", type=Path, help="packed records with labels, splits train and val")
    add("--captions", help="packed records with captions, DIR:SPLIT")
    add("--rounds", type=int, default=3)
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(flags.run, run)
        result = measure(works(flags, run), flags.rounds, Path(folder))
    for name, row in result.items():
        aim = f", aim {row['aim']}" if "aim" in row else ""
        print(
            f"{name:28} {row['seconds']:6.2f} s, {row['cpu_seconds']:6.2f} s of processor time"
            f"{row['compared']}{aim}",
            file=sys.stderr,
        )
    if flags.json:
        print(json.dumps(result))
    return 0


def works(flags: argparse.Namespace, run: Path) -> list[Work]:
    """Return the commands for which there are data, the slow first call of each left out."""
    picture = str(flags.picture.resolve())
    found = [Work("predict", ["predict", str(run), picture, "--labels", "a dog", "a cat"])]
    if flags.captions:
        index = str(run / "search" / "captions")
        records = str(Path(flags.captions).resolve())
        _command(["search", "index", str(run), records, "--out", index], run.parent)
        found += [
            Work("search query", ["search", "query", "a dog on the beach", "--index", index]),
            Work(
                "evaluate retrieval",
                ["evaluate", str(run), "retrieval", "--records", records],
                without_tensorflow=True,
            ),
        ]
    if flags.voc:
        words = ["evaluate", str(run), "multilabel", "--records", str(flags.voc.resolve())]
        words += ["--split", "val", "--calibrate", "train"]
        found += [
            Work("evaluate multilabel", words, without_tensorflow=True),
            Work("another objective", [*words, "--objective", "youden"], without_tensorflow=True),
        ]
    for work in found:
        _command(work.words, run.parent)
    return found


def measure(found: Sequence[Work], rounds: int, folder: Path) -> dict[str, dict]:
    """Return the medians of all commands, and how they compare with the import of TensorFlow."""
    timings: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        timings.setdefault(IMPORT, []).append(_timed([sys.executable, "-c", IMPORT], folder))
        for work in found:
            words = [sys.executable, "-m", "tfclip", *work.words]
            timings.setdefault(work.name, []).append(_timed(words, folder))
    result: dict[str, dict] = {}
    for name, rows in timings.items():
        seconds, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
        result[name] = {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "compared": ""}
    for work in found:
        row = result[work.name]
        if work.without_tensorflow:
            row["aim"] = f"{IN_ALL} s in all"
            continue
        row["longer"] = round(row["seconds"] - result[IMPORT]["seconds"], 2)
        cpu = row["cpu_seconds"] - result[IMPORT]["cpu_seconds"]
        row["compared"] = f"; {row['longer']:+.2f} s and {cpu:+.2f} s more than the import"
        row["aim"] = f"{LONGER} s more"
    return result


def _command(words: Sequence[str], folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "tfclip", *words], cwd=folder, check=True, capture_output=True
    )


def _timed(words: Sequence[str], folder: Path) -> tuple[float, float]:
    """Return the seconds of wall time and of processor time of a process."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    seconds, after = time.perf_counter() - started, os.times()
    used = after.children_user + after.children_system
    return seconds, used - before.children_user - before.children_system


if __name__ == "__main__":
    sys.exit(main())
