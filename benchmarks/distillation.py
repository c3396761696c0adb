"""python -m benchmarks.distillation: the recipe `distilled` with and without its teacher.

The teacher is a run of `laptop`. `make_records embed` stores the principal components of its
embeddings, and of those of the words of its vocabulary, beside the records if they are not there;
it does not run in training. Everything but the teacher is equal. Prints recall at 10 on Flickr8k
dev at the end of each run, and zero-shot VOC mAP with one prompt and one view; the mean and the
deviation over the seeds, and what the teacher gains in units of the larger deviation; and the time
of a training step with the teacher relative to one without, in alternating blocks. The figures of
finished students are kept in WORK/distillation.jsonl, and these students are not trained again.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.laptop import SIZE_OF_VOC
from tfclip.console import say
from tfclip.training.options.distillation import DEFAULTS
from tfclip.training.options.recipes import RECIPES

NAME = "distilled"
FIGURES = ("i2t R@10", "t2i R@10", "VOC mAP")
BLOCKS, STEPS = 40, 4


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distillation", description=__doc__)
    add = parser.add_argument
    add("--work", default="runs/benchmark-laptop", help="where benchmarks.laptop has worked")
    add("--run", help="the run of the teacher; by default WORK/run-0")
    add("--words", help="the words that the teacher embeds; by default RUN/best/vocab.txt")
    add("--teacher", default="laptop", help="the name of the teacher beside its records")
    add("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none for the time of a step alone")
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    work = Path(flags.work)
    run = Path(flags.run or work / "run-0")
    if not (work / "flickr8k/teachers" / flags.teacher).is_dir() and (
        code := embed(work, run, flags.teacher, flags.words or run / "best/vocab.txt")
    ):
        return code
    off = {name: DEFAULTS[name] for name in RECIPES[NAME].defaults.keys() & DEFAULTS.keys()}
    both = {"vocabulary": run / "best/vocab.txt"}
    variants: dict[str, dict] = {"with": {**both, "teacher": (flags.teacher,)}}
    variants["without"] = {**both, **off}
    found: dict = {}
    for seed in flags.seeds:
        for name, more in variants.items():
            figures = measured(work, seed, more)
            say(f"seed {seed}, {name} teacher: {cells({k: [v] for k, v in figures.items()})}")
            for key, value in figures.items():
                found.setdefault(name, {}).setdefault(key, []).append(value)
    for name in variants.keys() & found.keys():
        say(f"{name} teacher: {cells(found[name])}")
    if len(flags.seeds) > 1:
        found["gain"] = {key: gain(found["with"][key], found["without"][key]) for key in FIGURES}
        for key, one in found["gain"].items():
            say(f"gained in {key}: {one['points']:.1f}, {one['deviations']:.1f} deviations")
    found["step"] = step_ratio(work, variants)
    say(
        "a step with the teacher takes {ratio:.3f} of one without "
        "({with_ms:.0f} and {without_ms:.0f} ms, medians of {blocks} blocks)".format(
            **found["step"]
        )
    )
    if flags.json:
        print(json.dumps(found))
    return 0


def embed(work: Path, run: Path, name: str, file: str | Path) -> int:
    """Store the teacher beside the records; return the exit code."""
    from tfclip import make_records

    size = RECIPES[NAME].defaults["embed_dim"]
    words = ["--teacher", run, "--name", name, "--size", size, "--words", file]
    return make_records.main(["embed", *map(str, (work / "flickr8k", *words))])


def gain(with_teacher: list[float], without: list[float]) -> dict[str, float]:
    """Return the difference of the means, and in units of the larger deviation over the seeds."""
    points = float(np.mean(with_teacher) - np.mean(without))
    deviation = max(float(np.std(one, ddof=1)) for one in (with_teacher, without))
    return {"points": points, "deviations": points / max(deviation, 1e-9)}


def cells(figures: dict[str, list[float]]) -> str:
    """Return means and deviations of one line."""
    return "  ".join(
        f"{key} {np.mean(v):.2f}" + (f" +- {np.std(v, ddof=1):.2f}" if len(v) > 1 else "")
        for key, v in figures.items()
    )


def given(work: Path, seed: int, more: dict):
    """Return the flags of one student."""
    return RECIPES[NAME].flags(
        records=(f"{work / 'flickr8k'}:train",),
        val=f"{work / 'flickr8k'}:dev",
        run=work / "student",
        overwrite=True,
        seed=seed,
        **more,
    )


def measured(work: Path, seed: int, more: dict) -> dict[str, float]:
    """Train one student if it is not in the list; its figures in percent, and its seconds."""
    finished = work / "distillation.jsonl"
    recipe = dataclasses.asdict(RECIPES[NAME])
    which = json.loads(json.dumps({"seed": seed, "recipe": recipe, **more}, default=str))
    if finished.is_file():
        for line in map(json.loads, finished.read_text(encoding="utf-8").splitlines()):
            if line["which"] == which:
                return line["figures"]
    figures = trained_and_measured(work, seed, more)
    with finished.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"which": which, "figures": figures}) + "\n")
    return figures


def trained_and_measured(work: Path, seed: int, more: dict) -> dict[str, float]:
    """Train one student; its figures in percent, and the seconds of training."""
    from tfclip.evaluation.tasks.map_during_training import SplitScorer
    from tfclip.models.saving import load_model
    from tfclip.training.run import train

    started = time.monotonic()
    train(NAME, given(work, seed, more))
    seconds = time.monotonic() - started
    with (work / "student/log.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    model = load_model(work / "student")
    return {
        "i2t R@10": 100 * float(last["val_i2t_r10"]),
        "t2i R@10": 100 * float(last["val_t2i_r10"]),
        "VOC mAP": 100 * SplitScorer(model, work / "voc", SIZE_OF_VOC).map(),
        "seconds": seconds,
    }


def step_ratio(work: Path, variants: dict[str, dict]) -> dict[str, float]:
    """Time training steps with and without the teacher, from stored batches, in turns."""
    import tensorflow as tf

    from tfclip.inputs.input_shards import ALL
    from tfclip.records.reader import split_files
    from tfclip.training.data.training_sets import open_training_sets
    from tfclip.training.options.saved_flags import with_compute
    from tfclip.training.phases import make_phases
    from tfclip.training.setup.build_model import prepare_model

    records = work / "flickr8k"
    steps = {}
    for name, more in variants.items():
        flags = with_compute(given(work, 0, more).with_steps(6000))
        sets = open_training_sets(flags.records)
        options = RECIPES[NAME].options(flags)
        files = split_files(records, "train")
        trained = prepare_model(flags, [records], files, options=options, trained_on={})
        phases = make_phases(flags, trained, sets, ALL)
        step = tf.function(trained.dual_encoder.train_step, autograph=False)
        batches = iter(phases[0].batches(0))
        step(next(batches))
        steps[name] = step, batches
    times: dict[str, list[float]] = {name: [] for name in steps}
    for block in range(BLOCKS):
        # Each goes first as often as the other.
        for name in sorted(steps, reverse=bool(block % 2)):
            step, batches = steps[name]
            started = time.monotonic()
            for _ in range(STEPS):
                # The next batch is looked up while the step runs, as in training.
                step(next(batches))
            times[name].append((time.monotonic() - started) / STEPS)
    ratios = [a / b for a, b in zip(times["with"], times["without"], strict=True)]
    return {
        "ratio": float(np.median(ratios)),
        "with_ms": 1000 * float(np.median(times["with"])),
        "without_ms": 1000 * float(np.median(times["without"])),
        "blocks": BLOCKS,
    }


if __name__ == "__main__":
    sys.exit(main())
