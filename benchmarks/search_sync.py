"""python -m benchmarks.search_sync RUN: what does it cost to bring a search index up to date?

Makes a collection of photographs (crops of those of --pictures, each another file), indexes it,
adds a fraction of new pictures and calls `search sync`, in new processes, as a shell does it. The
same sync in a process forked from one that has imported TensorFlow shows what imports cost; this
time is subtracted from that of indexing, too. Then the collection is moved, with its index and
alone, and found again: nothing may be embedded.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median

from PIL import Image
from tyro.conf import Positional

from tfclip.console import Command, CommandFailed, run, say

FORKS = get_context("forkserver")
PRELOADED = ["tensorflow", "tfclip.evaluation.search.contents", "tfclip.search"]
_FILES_OF_A_FOLDER = 500


@dataclass(frozen=True)
class SyncFlags:
    """Compare the time of adding pictures to an index with that of indexing all."""

    run: Positional[Path]
    """A trained run."""
    pictures: Path = Path(os.environ.get("TFCLIP_DATA", "../shared/data")) / "flickr8k"
    """Photographs that the collection is made from."""
    count: int = 10_000
    """Pictures of the collection."""
    added: float = 0.01
    """The fraction that is added."""
    rounds: int = 3
    """How many times."""
    work: Path | None = None
    """Where the collection is made; by default in a temporary folder."""

    def __post_init__(self):
        for name in ("count", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"received --{name} {getattr(self, name)}; allowed: 1 or more")
        if not 0 < self.added <= 1:
            raise ValueError(f"received --added {self.added}; allowed: above 0, at most 1")


class Collection:
    """A folder of crops of photographs, which grows; `seed` decides them.

    Attributes:
        folder: of the pictures.
        count: how many were made.
    """

    def __init__(self, folder: Path, photographs: Path, seed: int = 0):
        self.folder, self._rng, self.count = folder, random.Random(seed), 0
        self._photographs = sorted(photographs.rglob("*.jpg"))
        if not self._photographs:
            raise CommandFailed(f"no photographs (*.jpg) in {photographs}")

    def add(self, count: int) -> list[str]:
        """Make further pictures; return their names."""
        names = []
        for number in range(self.count, self.count + count):
            name = f"{number // _FILES_OF_A_FOLDER:04d}/{number:06d}.jpg"
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._crop())
            names.append(name)
        self.count += count
        return names

    def _crop(self) -> bytes:
        with Image.open(self._rng.choice(self._photographs)) as image:
            side = self._rng.uniform(0.5, 0.9) * min(image.size)
            left, top = (self._rng.uniform(0, length - side) for length in image.size)
            box = (left, top, left + side, top + side)
            crop = image.convert("RGB").resize((160, 160), Image.Resampling.BILINEAR, box)
        content = io.BytesIO()
        crop.save(content, "JPEG", quality=80)
        return content.getvalue()


def in_shell(words: Sequence[str]) -> tuple[float, dict]:
    """Run tfclip.search as a shell does; return the seconds and its result."""
    started = time.monotonic()
    command = [sys.executable, "-m", "tfclip.search", *words, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True)
    seconds = time.monotonic() - started
    if ended.returncode:
        raise CommandFailed(f"{' '.join(words)}: {ended.stderr[-500:]}")
    return seconds, json.loads(ended.stdout.splitlines()[-1])


def forked(words: Sequence[str], log: Path) -> tuple[float, dict]:
    """Run tfclip.search in a fork of a process with TensorFlow; return the seconds and result."""
    started = time.monotonic()
    process = start_fork(words, log)
    process.join()
    seconds = time.monotonic() - started
    lines = log.read_text(encoding="utf-8").splitlines()
    if process.exitcode:
        raise CommandFailed(f"{' '.join(words)}: {' '.join(lines)[-500:]}")
    return seconds, json.loads(lines[-1])


def start_fork(words: Sequence[str], log: Path) -> BaseProcess:
    """Start tfclip.search in a fork; standard output goes to the log."""
    process = FORKS.Process(target=_search, args=([*words, "--json"], log))
    process.start()
    return process


def prepare_forks() -> None:
    """Start the process that imports TensorFlow and is forked afterwards."""
    FORKS.set_forkserver_preload(PRELOADED)
    first = FORKS.Process(target=time.monotonic)
    first.start()
    first.join()


def _search(words: list[str], log: Path) -> None:
    from tfclip.search import main

    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(os.open(log.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), 2)
        code = main(words)
        sys.stdout.flush()
        sys.exit(code)


def measure(flags: SyncFlags) -> dict:
    """Run the benchmark; return its figures."""
    with tempfile.TemporaryDirectory(dir=flags.work) as folder:
        prepare_forks()
        work = Path(folder)
        made = Collection(work / "a" / "pictures", flags.pictures)
        made.add(flags.count)
        say(f"{flags.count:,} pictures in {made.folder}")
        result = _times(flags, work, made)
        result |= _moves(work, made.count)
    return result


def _times(flags: SyncFlags, work: Path, made: Collection) -> dict:
    index, log = work / "a" / "index", work / "log"
    make = ["index", str(flags.run), str(made.folder), "--out", str(index)]
    whole, told = in_shell(make)
    check(told, embedded=flags.count)
    new = max(1, round(flags.added * flags.count))
    times: dict[str, list[float]] = {"shell": [], "forked": [], "unchanged": []}
    for _ in range(flags.rounds):
        for name in ("shell", "forked"):
            made.add(new)
            words = ["sync", str(index)]
            seconds, told = in_shell(words) if name == "shell" else forked(words, log)
            check(told, embedded=new)
            times[name].append(seconds)
        seconds, told = in_shell(["sync", str(index)])
        check(told, embedded=0)
        times["unchanged"].append(seconds)
    result = {"pictures": flags.count, "added": new, "whole": whole}
    for name, each in times.items():
        result[name] = median(each)
        result[f"{name}_all"] = [round(seconds, 2) for seconds in each]
    whole_forked = result["whole_forked"] = whole - (result["shell"] - result["forked"])
    result["ratio"] = result["shell"] / whole
    result["ratio_forked"] = result["forked"] / whole_forked
    say(
        f"indexing {flags.count:,} pictures: {whole:.1f} s, without imports {whole_forked:.1f} s; "
        f"adding {new}: {result['shell']:.2f} s ({100 * result['ratio']:.1f} %), without imports "
        f"{result['forked']:.2f} s ({100 * result['ratio_forked']:.1f} %); a sync without changes: "
        f"{result['unchanged']:.2f} s"
    )
    return result


def _moves(work: Path, count: int) -> dict:
    """Move the collection with its index, and then alone."""
    (work / "a").rename(work / "b")
    _, told = in_shell(["sync", str(work / "b" / "index")])
    check(told, embedded=0, pictures=count)
    (work / "b" / "pictures").rename(work / "elsewhere")
    try:
        in_shell(["sync", str(work / "b" / "index")])
    except CommandFailed as error:
        refusal = str(error)
    else:
        raise CommandFailed("a sync without its collection did not fail")
    if "--moved-to" not in refusal:
        raise CommandFailed(f"the refusal does not name --moved-to: {refusal}")
    words = ["sync", str(work / "b" / "index"), "--moved-to", str(work / "elsewhere")]
    seconds, told = in_shell(words)
    check(told, embedded=0, pictures=count)
    say(f"moved with its index and alone: found again, {count:,} pictures, none embedded")
    return {"moved": seconds}


def check(told: dict, **expected: int) -> None:
    """Raise CommandFailed if a number of the result is not the expected one."""
    for name, value in expected.items():
        if told[name] != value:
            raise CommandFailed(f"{name} is {told[name]}, expected {value}: {told}")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("benchmarks.search_sync", Command(SyncFlags, measure), argv)


if __name__ == "__main__":
    sys.exit(main())
