"""python -m benchmarks.kill_packing: packing killed with SIGKILL at random moments loses nothing.

Packs a data set once without a disturbance. Then the same command, with two workers, is killed
again and again, at moments drawn over the time it takes, renames of the last step included, until
so many kills are done; whenever a set becomes complete, every byte is compared and packing starts
anew. A shard that was finished when the command was killed must be the same file afterwards (the
same inode, time of change and bytes): it was not packed again.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tfclip.console import Command, CommandFailed, progress, run, say
from tfclip.records.journal import JOURNAL


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
        started = time.monotonic()
        _pack(flags, whole)
        seconds = time.monotonic() - started
        # Nearly a half of the time goes by before the first picture: imports.
        early = _seconds_to_first_shard(flags, out)
        say(f"undisturbed: {seconds:.1f} s, {early:.1f} s to the first shard")
        kills = runs = sets = kept = 0
        phases: dict[str, int] = {}
        for _ in progress(range(flags.kills), total=flags.kills, what="killing"):
            while True:  # until a moment lies within the run
                runs += 1
                before = _finished(out)
                at = rng.uniform(0.9 * early, 1.05 * seconds) if runs % 5 else rng.uniform(0, early)
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
        if not (out / "manifest.json").exists():
            _pack(flags, out)
        else:  # killed in the last step: the refusal to pack it again tidies up
            subprocess.run(_command(flags, out), capture_output=True)
        kept += _still_there(before, out)
        sets += _complete(whole, out)
    result = {"kills": kills, "runs": runs, "sets": sets, "kept_shards": kept, "phases": phases}
    say(
        f"{kills} kills in {runs} runs; {sets} sets completed after kills, each byte for byte that "
        f"of an undisturbed run; {kept} times a finished shard was found and not packed again"
    )
    say(f"killed in: {', '.join(f'{what} {times}' for what, times in sorted(phases.items()))}")
    return result


def _command(flags: KillFlags, out: Path) -> list[str]:
    command = [sys.executable, "-m", "tfclip.make_records", "flickr8k", "--workers=2"]
    command += [f"--data={flags.data / 'flickr8k'}", f"--out={out}", f"--shards={flags.shards}"]
    return [*command, f"--max-images={flags.pictures}"]


def _pack(flags: KillFlags, out: Path) -> None:
    ended = subprocess.run(_command(flags, out), capture_output=True, text=True)
    if ended.returncode:
        raise CommandFailed(f"packing ended with {ended.returncode}: {ended.stderr[-500:]}")


def _seconds_to_first_shard(flags: KillFlags, out: Path) -> float:
    started = time.monotonic()
    with subprocess.Popen(_command(flags, out), stderr=subprocess.DEVNULL) as process:
        while not _finished(out) and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    seconds = time.monotonic() - started
    for left in (out, out.with_name("out.partial")):
        shutil.rmtree(left, ignore_errors=True)
    return seconds


def _killed_after(flags: KillFlags, out: Path, seconds: float) -> bool:
    """Start the command and kill it after so many seconds; False: it was done before."""
    with subprocess.Popen(
        _command(flags, out), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        try:
            _, told = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return True
    finished = (out / "manifest.json").exists() and "holds finished records" in told
    if process.returncode and not finished:
        raise CommandFailed(f"packing ended with {process.returncode}: {told[-500:]}")
    return False


def _finished(out: Path) -> dict[str, tuple]:
    """Return what identifies the file of every finished shard."""
    building = out.with_name(f"{out.name}.partial")
    place = building if building.is_dir() else out
    listed = (place / JOURNAL).read_text() if (place / JOURNAL).exists() else ""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in place.glob("*.tfrecord")
        if path.name in listed
    }


def _still_there(before: dict[str, tuple], out: Path) -> int:
    building = out.with_name(f"{out.name}.partial")
    for name, identity in before.items():
        path = building / name if (building / name).exists() else out / name
        if (path.stat().st_ino, path.stat().st_mtime_ns) != identity:
            raise CommandFailed(f"{name} was finished, and was packed again")
    return len(before)


def _phase(out: Path) -> str:
    building = out.with_name(f"{out.name}.partial")
    if (out / "manifest.json").exists():
        return "the last step"
    if not building.is_dir():
        return "imports"
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
