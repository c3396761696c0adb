"""python -m benchmarks.train_step: a step of training in tfclip beside the same in PyTorch.

A step is forward, loss, backward and AdamW's update, in float32 at 224 pixels, on random pictures
and texts. PyTorch has timm's image towers and the text towers of transformers, channels-last, with
its fused AdamW. Both sides work in processes of their own, in turns, with equal threads; neither
clips. tfclip takes bytes and normalises them inside the step, PyTorch is given normalised floats.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

from benchmarks.side import Side
from benchmarks.timing import compared
from benchmarks.train_step_rows import DEFAULT_ROWS, Row, row
from tfclip.console import Command, progress, run, say

PACKAGES = ("torch", "torchvision", "timm", "transformers")


@dataclass(frozen=True)
class TrainStepFlags:
    """Measure training steps beside the same towers in PyTorch."""

    recipes: tuple[str, ...] = DEFAULT_ROWS
    """The comparisons to make; an unknown name lists the known ones."""
    batch: int = 16
    """Pictures in a step."""
    steps: int = 1
    """Steps in a turn."""
    rounds: int = 5
    """Turns of either side, after one that is not counted."""
    threads: int = len(os.sched_getaffinity(0))
    """Threads of either side."""

    def __post_init__(self):
        for name, least in (("batch", 2), ("steps", 1), ("rounds", 1), ("threads", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"received --{name} {getattr(self, name)}; allowed: {least} or more"
                )
        for name in self.recipes:
            row(name)


def measure(flags: TrainStepFlags) -> dict:
    """Run the comparisons; return the figures."""
    rows = {name: row(name) for name in flags.recipes}
    missing = [name for name in PACKAGES if not importlib.util.find_spec(name)]
    if missing and any(chosen.theirs is None for chosen in rows.values()):
        raise ValueError(f"missing: {', '.join(missing)}; run pip install -e '.[peers]'")
    result = {"batch": flags.batch, "rounds": flags.rounds, "threads": flags.threads, "rows": {}}
    say(
        f"{flags.rounds} rounds of {flags.steps} step(s) of {flags.batch} pictures, "
        f"{flags.threads} threads on either side"
    )
    with _sides() as sides:
        for name, chosen in progress(rows.items(), total=len(rows), what="measuring"):
            result["rows"][name] = figures = _compare(chosen, flags, *sides(chosen))
            _tell(name, chosen, figures)
    return result


@contextmanager
def _sides() -> Iterator:
    """The two sides of a row; their processes start when first needed, and serve all rows."""
    os.environ["TQDM_DISABLE"] = "1"  # in the processes: this one has loaded tqdm
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    spawn = get_context("spawn")
    with ExitStack() as stack:

        def side(module: str) -> Side:
            process = stack.enter_context(ProcessPoolExecutor(1, spawn))
            return Side(process, f"benchmarks.train_step_{module}")

        ours, pytorch, tfclip = side("tfclip"), side("pytorch"), side("tfclip")
        yield lambda chosen: (ours, pytorch if chosen.theirs is None else tfclip)


def _compare(chosen: Row, flags: TrainStepFlags, ours: Side, theirs: Side) -> dict:
    systems = chosen.ours, chosen.theirs or chosen.ours
    parameters = [
        side.do("prepare", system, flags.batch, flags.threads)
        for side, system in zip((ours, theirs), systems, strict=True)
    ]
    timings = []
    for at in range(flags.rounds + 1):
        timing = ours.do("steps", flags.steps), theirs.do("steps", flags.steps)
        if at:
            timings.append(timing)
    for side in (ours, theirs):
        side.do("release")
    return {
        **compared(*zip(*timings, strict=True)),
        "aim": chosen.aim,
        "tokens": chosen.ours.tokens,
        "parameters": dict(zip(("ours", "theirs"), parameters, strict=True)),
        "same_towers": parameters[0] == parameters[1],
    }


def _tell(name: str, chosen: Row, figures: dict) -> None:
    say(f"{name}: {chosen.about}")
    other = "PyTorch" if chosen.theirs is None else chosen.theirs.recipe
    for side, key in (("tfclip" if chosen.theirs is None else name, "ours"), (other, "theirs")):
        counts = figures["parameters"][key]
        towers = " + ".join(f"{count:,} ({tower})" for tower, count in counts.items())
        speed = figures[key]
        say(
            f"  {side:12} {speed['images_per_second']:8.1f} images/s"
            f" {speed['images_per_cpu_second']:8.1f} per second of processor time"
            f"  towers train {towers}"
        )
    pairs = " ".join(f"{ratio:.2f}" for ratio in figures["ratios"])
    aim = "" if figures["aim"] is None else f", aim {figures['aim']:.1f}"
    say(f"  ratio        {figures['ratio']:8.2f} x{aim}  (round by round: {pairs})")
    if chosen.theirs is None and not figures["same_towers"]:
        say("  the towers differ in size: this is no comparison of speed")


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("benchmarks.train_step", Command(TrainStepFlags, measure), argv)


if __name__ == "__main__":
    sys.exit(main())
