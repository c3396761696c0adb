"""python -m benchmarks.kill_packing: packing killed with SIGKILL at random moments loses nothing.

Packs a data set once without a disturbance. Then the same command, with two workers, is killed
again and again, until so many kills are done: three times of four at a moment drawn over the time
until the last shard is finished, else over all, learning the vocabulary and the renames included.
Whenever a set becomes complete, every byte is compared and packing starts anew. A shard that was
finished when the command was killed must be the same file afterwards (the same inode, time of
change and bytes): it was not packed again. Every run is a process forked from one that has imported
TensorFlow, so that the moments lie in the work and not in imports.
"""

import os
import random
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from tqdm import tqdm

from tfclip.console import Command, CommandFailed, progress, run, say
from tfclip.make_records import main as main_of_packing
from tfclip.records.manifest import SKIPPED
from tfclip.records.packing.journal import JOURNAL

_FORKS = get_context("forkserver")


@dataclass(frozen=True)
class KillFlags:
    """Kill packing at random moments, and compare what comes of it with an undisturbed run."""

    data: Path = Path(os.environ.get("TFCLIP_DATA", "../shared/data"))
    """The folder that holds flickr8k/; by default $TFCLIP_DATA, or else ../shared/data."""
    kills: int = 50
    """How many times."""
    pictures: int = 3000
    """Pictures of every split; the fewer, the faster."""
    shards: int = 12
    """Shards of every split."""
    seed: int = 0
    """Decides the moments."""

    def __post_init__(self):
        for name in ("kills", "pictures", "shards"):
            if getattr(self, name) < 1:
                raise ValueError(f"received --{name} {getattr(self, name)}; allowed: 1 or more")


def measure(flags: KillFlags) -> dict:
    """Run the benchmark; return the counts."""
    rng = random.Random(flags.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, out = Path(folder, "whole"), Path(folder, "out")
        _FORKS.set_forkserver_preload(
            ["tfclip.records.packing.writer", "tfclip.inputs.tokenizers.vocabulary"]
        )
        _pack(flags, whole)  # the server of forks imports TensorFlow meanwhile
        shutil.rmtree(whole)
        started = time.monotonic()
        _pack(flags, whole)
        seconds = time.monotonic() - started
        packing = _seconds_of_packing(flags, out)
        say(f"undisturbed: {seconds:.1f} s, {packing:.1f} s until the last shard was finished")
        kills = runs = sets = kept = 0
        phases: dict[str, int] = {}
        for _ in progress(range(flags.kills), total=flags.kills, what="killing"):
            while True:  # until a moment lies within the run
                runs += 1
                before = _finished(out)
                at = rng.uniform(0, packing if runs % 4 else seconds)
                killed = _killed_after(flags, out, at)
                kept += _still_there(before, out)
                if killed:
                    kills += 1
                    phase = _phase(out)
                    phases[phase] = phases.get(phase, 0) + 1
                    break
                sets += _complete(whole, out)
        runs += 1
        before = _finished(out)
        _pack(flags, out)  # where the last step was killed, the refusal to pack again tidies up
        kept += _still_there(before, out)
        sets += _complete(whole, out)
    result = {"kills": kills, "runs": runs, "sets": sets, "kept_shards": kept, "phases": phases}
    say(
        f"{kills} kills in {runs} runs; {sets} sets completed after kills, each byte for byte that "
        f"of an undisturbed run; {kept} times a finished shard was found and not packed again"
    )
    say(f"killed in: {', '.join(f'{what} {times}' for what, times in sorted(phases.items()))}")
    return result


def _arguments(flags: KillFlags, out: Path) -> list[str]:
    told = ["flickr8k", "--workers=2", f"--shards={flags.shards}"]
    told += [f"--data={flags.data / 'flickr8k'}", f"--out={out}"]
    return [*told, f"--max-images={flags.pictures}"]


def _start(flags: KillFlags, out: Path) -> BaseProcess:
    process = _FORKS.Process(target=_packing, args=(_arguments(flags, out), _told(out)))
    process.start()
    return process


def _packing(arguments: list[str], told: Path) -> None:
    with open(told, "w") as file:
        os.dup2(file.fileno(), 2)
        tqdm.set_lock(threading.RLock())  # one for processes would be left behind by a kill
        sys.exit(main_of_packing(arguments))


def _told(out: Path) -> Path:
    return out.with_name(f"{out.name}.told")


def _ended(process: BaseProcess, out: Path) -> None:
    """See that a run which was not killed ended well, or found that all was done."""
    told = _told(out).read_text()
    finished = (out / "manifest.json").exists() and "holds finished records" in told
    if process.exitcode and not finished:
        raise CommandFailed(f"packing ended with {process.exitcode}: {told[-500:]}")


def _pack(flags: KillFlags, out: Path) -> None:
    process = _start(flags, out)
    process.join()
    _ended(process, out)


def _seconds_of_packing(flags: KillFlags, out: Path) -> float:
    started = time.monotonic()
    process = _start(flags, out)
    while not (_building(out) / SKIPPED).exists() and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    seconds = time.monotonic() - started
    for left in (out, _building(out)):
        shutil.rmtree(left, ignore_errors=True)
    return seconds


def _killed_after(flags: KillFlags, out: Path, seconds: float) -> bool:
    """Start the command and kill it after so many seconds; False: it was done before."""
    process = _start(flags, out)
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return True
    _ended(process, out)
    return False


def _building(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def _finished(out: Path) -> dict[str, tuple]:
    """Return what identifies the file of every finished shard."""
    place = _building(out) if _building(out).is_dir() else out
    listed = (place / JOURNAL).read_text() if (place / JOURNAL).exists() else ""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in place.glob("*.tfrecord")
        if path.name in listed
    }


def _still_there(before: dict[str, tuple], out: Path) -> int:
    building = _building(out)
    for name, identity in before.items():
        path = building / name if (building / name).exists() else out / name
        if (path.stat().st_ino, path.stat().st_mtime_ns) != identity:
            raise CommandFailed(f"{name} was finished, and was packed again")
    return len(before)


def _phase(out: Path) -> str:
    building = _building(out)
    if (out / "manifest.json").exists():
        return "the last step"
    if not building.is_dir():
        return "opening the source"
    names = {path.name for path in building.iterdir()}
    if "manifest.json" in names:
        return "the rename"
    if "skipped.jsonl" in names:
        return "the vocabulary"
    return "packing"


def _complete(whole: Path, out: Path) -> int:
    """Compare a finished set with the undisturbed one, and make room for the next: 1."""
    names = sorted(path.name for path in whole.iterdir())
    if sorted(path.name for path in out.iterdir()) != names:
        raise CommandFailed(f"{out} holds other files than {whole}")
    for name in names:
        if (whole / name).read_bytes() != (out / name).read_bytes():
            raise CommandFailed(f"{name} differs from that of an undisturbed run")
    shutil.rmtree(out)
    return 1


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("benchmarks.kill_packing", Command(KillFlags, measure), argv)


if __name__ == "__main__":
    sys.exit(main())
