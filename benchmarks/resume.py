"""python -m benchmarks.resume: kill runs at random moments until they end, and compare the results.

Each kind of run is trained once without interruption. Then the same command is begun, killed with
SIGKILL and begun again, over and over: after a random number of steps, at a random moment of the
next ones or while a checkpoint is being written. When a run has come to its end, its last
checkpoint (every variable, the optimizer, the averages, the metrics, what callbacks remember: among
it the loss of every step), its models and its log must be those of the uninterrupted run, bit for
bit; times apart.

A process is forked from one that has imported all libraries but has not started TensorFlow: it
begins as a fresh one does, eight seconds sooner. Runs on two workers are the command itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.compared_runs import differences, result_of
from tfclip.console import Command, CommandFailed, run, say

STEPS, KILLED_WITHIN = 48, 12
TINY = {
    "image_size": 16,
    "batch_size": 8,
    "steps": STEPS,
    "evaluate_every": 10,
    "warmup_steps": 4,
    "average": 0.9,
    "patience": 40,
    "checkpoint_every": "2",
    "learning_rate": 1e-3,
    "region_share": 0.0,
    "image_head": "projection",
    "text_head": "projection",
}
LOCKED = {"lock": "image,text", "captions": 2, "views": "4"}
# The kinds of runs, and how many of a hundred kills each one gets.
KINDS = {
    "one replica": ({}, 40),
    "one replica, validation": ({"val": "dev"}, 5),
    "two replicas": ({"replicas": 2}, 30),
    "locked towers": (LOCKED, 15),
    "towers freed after 24 steps": ({**LOCKED, "unlock_after": 24}, 10),
}


@dataclass(frozen=True)
class ResumeFlags:
    """Kill runs at random moments, let them go on, and compare them to uninterrupted ones."""

    kills: int = 100
    """In all, over the kinds of runs."""
    worker_kills: int = 0
    """Kills of a run on two worker processes, beside those."""
    seed: int = 0
    """Of the moments."""
    folder: Path = Path("runs/resume")
    """Where records and runs are made; what is there is replaced."""


@dataclass
class Counts:
    """What happened to the runs of one kind."""

    kills: int = 0
    while_writing: int = 0
    ended: int = 0
    differ: int = 0

    def told(self) -> str:
        return (
            f"{self.kills} kills, {self.while_writing} of them while a checkpoint was written; "
            f"{self.ended} runs ended, {self.differ} of them different"
        )


def resume(flags: ResumeFlags) -> dict:
    """Kill and compare; say the counts."""
    import tfclip.fit
    import tfclip.training.run  # noqa: F401 - what every process would import again

    folder = flags.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    records = folder / "records"
    wait(forked(lambda: _records(folder, records), folder / "log.txt"))
    moments = random.Random(flags.seed)
    every = [
        Series(round(flags.kills * share / 100), _forking(records, given, folder / "log.txt"))
        for given, share in KINDS.values()
    ]
    every.append(Series(flags.worker_kills, _starting(records, folder / "log.txt")))
    series = dict(zip([*KINDS, "two workers"], every, strict=True))
    for number, one in enumerate(every):
        one.folder = folder / f"kind-{number}"
    # In turns, so that each kind has had its share whenever this is ended.
    while left := {kind: one for kind, one in series.items() if one.share_left > 0}:
        kind = max(left, key=lambda kind: left[kind].share_left)
        series[kind].one_run(moments)
        say(f"{kind}: {series[kind].counts.told()}")
    result = {kind: asdict(one.counts) for kind, one in series.items() if one.kills}
    total = {name: sum(counts[name] for counts in result.values()) for name in asdict(Counts())}
    say(f"in all: {Counts(**total).told()}")
    if total["differ"] or not total["ended"]:
        raise CommandFailed(f"{total['differ']} of {total['ended']} runs differ", result=result)
    return {**result, "all": total}


def _records(folder: Path, records: Path) -> None:
    """Draw and pack a few pictures with captions."""
    from tfclip.make_records import main as make_records
    from tfclip.sources.shapes import draw_shapes

    drawn = folder / "drawn"
    draw_shapes(drawn, visual_genome=1, flickr8k=(60, 12, 1), coco=(1, 1), voc=(1, 1, 1))
    words = ["flickr8k", "--data", f"{drawn}/flickr8k", "--out", str(records), "--workers", "1"]
    if make_records(words):
        raise CommandFailed("the records could not be made")


class Series:
    """Runs of one kind: killed until there were so many kills, and compared at their ends.

    Args:
        kills: how many are wanted.
        begin: begins a run in a folder, or goes on with it.
    """

    def __init__(self, kills: int, begin: Callable[[Path], Running]):
        self.kills, self.begin = kills, begin
        self.folder = Path()
        self.counts = Counts()
        self.expected: dict = {}

    @property
    def share_left(self) -> float:
        """The share of the kills that is still to be made."""
        return 1 - self.counts.kills / self.kills if self.kills else 0.0

    def one_run(self, moments: random.Random) -> None:
        """Kill one run over and over, until it or the kills have come to their end."""
        if not self.expected:
            self.begin(self.folder / "whole").to_the_end()
            self.expected = result_of(self.folder / "whole")
        at = self.folder / f"run-{self.counts.ended}"
        while self.share_left > 0:
            writing = moments.random() < 0.3
            if not self.begin(at).reaches(moments.randrange(KILLED_WITHIN), moments, writing):
                break
            self.counts.kills += 1
            self.counts.while_writing += any((at / "checkpoints").glob("*.writing"))
        else:
            self.begin(at).to_the_end()
        self.counts.ended += 1
        differing = differences(self.expected, result_of(at))
        if differing:
            self.counts.differ += 1
            say(f"{at} differs in {', '.join(differing[:5])}")
        else:
            shutil.rmtree(at)


class Running:
    """A process that trains, and tells each of its steps through a pipe.

    Args:
        process: its id; it leads a group of processes.
        steps: the end of the pipe to read from.
        folder: the run.
    """

    def __init__(self, process: int, steps: int, folder: Path):
        self.process, self.steps, self.folder = process, steps, folder

    def reaches(self, steps: int, moments: random.Random, writing: bool) -> bool:
        """Kill it after so many steps; false when it ended before.

        With `writing`, wait for the writing of a checkpoint; otherwise for up to two steps' time.
        """
        last, step_seconds = time.monotonic(), 0.05
        for _ in range(steps):
            if not os.read(self.steps, 1):
                return self._ended()
            now = time.monotonic()
            last, step_seconds = now, min(now - last, 1.0)
        if writing:
            while not any((self.folder / "checkpoints").glob("*.writing")):
                if select.select([self.steps], [], [], 0)[0] and not os.read(self.steps, 1):
                    return self._ended()
        else:
            time.sleep(moments.random() * 2 * step_seconds)
        os.killpg(self.process, signal.SIGKILL)
        _, status = os.waitpid(self.process, 0)
        os.close(self.steps)
        return os.WIFSIGNALED(status)

    def to_the_end(self) -> None:
        """Let it end."""
        while os.read(self.steps, 4096):
            pass
        self._ended()

    def _ended(self) -> bool:
        os.close(self.steps)
        wait(self.process)
        return False


def _forking(records: Path, given: Mapping, log: Path) -> Callable[[Path], Running]:
    """Returns what begins a run in a process forked from this one."""

    def begin(folder: Path) -> Running:
        read, write = os.pipe()

        def work() -> None:
            os.close(read)
            _train(records, folder, given, write)

        process = forked(work, log)
        os.close(write)
        return Running(process, read, folder)

    return begin


def _train(records: Path, folder: Path, given: Mapping, write: int) -> None:
    import keras

    from tfclip.training.options.recipes import RECIPES
    from tfclip.training.run import train

    class Steps(keras.callbacks.Callback):
        """Remembers the loss of every step, and tells it."""

        def __init__(self):
            super().__init__()
            self.losses = []

        def on_train_batch_end(self, batch, logs=None):
            self.losses.append(logs["batch_loss"])
            os.write(write, b".")

    small = replace(
        RECIPES["shapes"],
        image_options={"widths": (8, 16), "stem": 2},
        text_options={"width": 16, "blocks": 1, "heads": 2},
    )
    options = {**TINY, **given, "records": f"{records}:train", "run": folder}
    if "val" in options:
        options["val"] = f"{records}:{options['val']}"
    train("shapes", small.flags(**options), [Steps()], small)


def _starting(records: Path, log: Path) -> Callable[[Path], Running]:
    """Returns what begins a run of the command on two workers."""
    begun = []
    options = {**TINY, "checkpoint_every": "2", "workers": 2}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]

    def begin(folder: Path) -> Running:
        read, write = os.pipe()
        command = [sys.executable, "-m", "tfclip.fit", "shapes", f"--records={records}:train"]
        command += [f"--run={folder}", *words]
        code = (
            # Each new checkpoint counts as a step.
            "import subprocess, sys, time, pathlib, os\n"
            "write, folder, *command = sys.argv[1:]\n"
            "done = subprocess.Popen(command)\n"
            "seen = set()\n"
            "while done.poll() is None:\n"
            "    now = {p.name for p in pathlib.Path(folder).glob('checkpoints/*.npz')}\n"
            "    os.write(int(write), b'.' * len(now - seen))\n"
            "    seen |= now\n"
            "    time.sleep(0.02)\n"
            "sys.exit(done.returncode)\n"
        )
        with log.open("a") as file:
            started = subprocess.Popen(
                [sys.executable, "-c", code, str(write), str(folder), *command],
                stdout=file,
                stderr=file,
                pass_fds=[write],
                start_new_session=True,
            )
        os.close(write)
        begun.append(started)  # else Python itself might wait for it
        return Running(started.pid, read, folder)

    return begin


def forked(work: Callable[[], None], log: Path) -> int:
    """Do `work` in a process of its own, forked from this one; return its id."""
    process = os.fork()
    if process:
        # Here too, since it may be killed before it has done so.
        with contextlib.suppress(OSError):
            os.setpgid(process, process)
        return process
    os.setpgid(0, 0)
    code = 1
    try:
        with log.open("a") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
            work()
            code = 0
    except BaseException as error:  # whatever it is, this process must not go on as its parent
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(code)


def wait(process: int) -> None:
    """Wait for a process to end well.

    Raises:
        CommandFailed: it did not.
    """
    _, status = os.waitpid(process, 0)
    if status:
        raise CommandFailed(f"a process ended with {status}; see log.txt in --folder")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("benchmarks.resume", Command(ResumeFlags, resume), argv)


if __name__ == "__main__":
    sys.exit(main())
