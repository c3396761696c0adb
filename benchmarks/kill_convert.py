"""python -m benchmarks.kill_convert SOURCE: convert killed at random moments leaves all or nothing.

Converts SOURCE once without a disturbance. Then the command is killed with SIGKILL at moments drawn
over its time, half of them over its last third, in which the run is written. Afterwards the run
must not exist, or have the same weights and the same files as the undisturbed one, and the next
conversion must remove what the killed one left. Every run is a process forked from one that has
imported TensorFlow, so that the moments lie in the work and not in imports.
"""

import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import h5py
import numpy as np
from tyro.conf import Positional

from tfclip.console import Command, CommandFailed, progress, run, say
from tfclip.convert import main as main_of_convert

_FORKS = get_context("forkserver")


@dataclass(frozen=True)
class KillFlags:
    """Kill convert at random moments, and compare what comes of it with an undisturbed run."""

    source: Positional[Path]
    """A folder that convert takes."""
    kills: int = 20
    """How many times."""
    seed: int = 0
    """Decides the moments."""

    def __post_init__(self):
        if self.kills < 1:
            raise ValueError(f"received --kills {self.kills}; allowed: 1 or more")


def measure(flags: KillFlags) -> dict:
    """Run the benchmark; return the counts."""
    rng = random.Random(flags.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, out = Path(folder, "whole"), Path(folder, "out")
        _FORKS.set_forkserver_preload(["tfclip.models.weights.clip.convert"])
        _convert(flags, whole)  # the server of forks imports TensorFlow meanwhile
        shutil.rmtree(whole)
        started = time.monotonic()
        _convert(flags, whole)
        seconds = time.monotonic() - started
        say(f"undisturbed: {seconds:.1f} s")
        expected = _content(whole)
        counts = {"whole": 0, "none": 0, "ended": 0}
        for number in progress(range(flags.kills), total=flags.kills, what="killing"):
            process = _start(flags, out)
            begin = 0.66 if number % 2 else 0.0
            process.join(seconds * (begin + rng.random() * (1.05 - begin)))
            counts["ended"] += not process.is_alive()
            process.kill()
            process.join()
            counts["whole" if out.exists() else "none"] += 1
            if out.exists() and not _same(_content(out), expected):
                raise CommandFailed(f"after kill {number + 1} the run {out} is not whole")
            shutil.rmtree(out, ignore_errors=True)
        _convert(flags, out)
        left = sorted(path.name for path in Path(folder).iterdir())
        if left != ["out", "whole"] or not _same(_content(out), expected):
            raise CommandFailed(f"the last conversion left {', '.join(left)}")
    say(
        f"{flags.kills} kills: {counts['none']} times there was no run, {counts['whole']} times "
        f"the whole one ({counts['ended']} of them after its end); nothing was left behind"
    )
    return {"kills": flags.kills, "seconds": round(seconds, 2), **counts}


def _start(flags: KillFlags, out: Path) -> BaseProcess:
    process = _FORKS.Process(target=_quietly, args=(str(flags.source), str(out)))
    process.start()
    return process


def _quietly(source: str, out: str) -> None:
    with open("/dev/null", "w") as nothing:
        sys.stderr = nothing
        sys.exit(main_of_convert([source, "--run", out]))


def _convert(flags: KillFlags, out: Path) -> None:
    process = _start(flags, out)
    process.join()
    if process.exitcode:
        raise CommandFailed(f"converting {flags.source} failed: run python -m tfclip.convert")


def _content(folder: Path) -> dict:
    """Return the arrays of the weights, and the bytes of the other files."""
    found: dict = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                arrays: dict = {}
                file.visititems(lambda key, item, arrays=arrays: _add(arrays, key, item))
            found[name] = arrays
        else:
            found[name] = path.read_bytes()
    return found


def _add(arrays: dict, key: str, item) -> None:
    if isinstance(item, h5py.Dataset):
        arrays[key] = np.asarray(item)


def _same(one: dict, other: dict) -> bool:
    if one.keys() != other.keys():
        return False
    for name, value in one.items():
        if isinstance(value, dict):
            if not _same(value, other[name]):
                return False
        elif not np.array_equal(value, other[name]):
            return False
    return True


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("benchmarks.kill_convert", Command(KillFlags, measure), argv)


if __name__ == "__main__":
    sys.exit(main())
