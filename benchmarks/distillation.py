"""python -m benchmarks.distillation: a small student with and without a teacher.

The student is a small convolutional image tower from random weights, and heads on the stored
outputs of frozen all-MiniLM-L6-v2. The teacher is a run of `laptop`, whose embeddings
`make_records embed` has stored beside the records; it does not run. Prints recall at 10 on Flickr8k
dev at the end of the run, and zero-shot VOC mAP with one prompt and one view, for each seed, and
the time of a training step with the teacher relative to one without, in alternating blocks.
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

STUDENT = {
    "image_tower": "small-convolutional",
    "image_weights": "none",
    "image_size": 64,
    "embed_dim": 1024,
    "freeze": "text",
    "views": "2",
    "captions": 2,
    "word_weight": 0.0,
    "batch_size": 250,
    "learning_rate": 2e-3,
    "weight_decay": 0.1,
    "epochs": 5,
    "evaluate_every": 120,
    "patience": None,
}
HEADS = {"members": 1, "hidden": 256, "input_dropout": 0.2, "dropout": 0.2}
BLOCKS, STEPS = 10, 4


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distillation", description=__doc__)
    add = parser.add_argument
    add("--work", default="runs/benchmark-laptop", help="where benchmarks.laptop has worked")
    add("--teacher", default="laptop", help="a teacher that is stored beside its records")
    add("--affinity", type=float, default=1.0, help="--teacher-affinity of the student")
    add("--feature", type=float, default=4.0, help="--teacher-feature of the student")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--steps-only", action="store_true", help="measure the time of a step alone")
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    work = Path(flags.work)
    if not (work / "flickr8k/teachers" / flags.teacher).is_dir():
        print(
            f"error: no teacher; run python -m tfclip.make_records embed {work / 'flickr8k'} "
            f"--teacher RUN --name {flags.teacher}",
            file=sys.stderr,
        )
        return 2
    found: dict = {}
    taught = {
        "teacher": (flags.teacher,),
        "teacher_affinity": flags.affinity,
        "teacher_feature": flags.feature,
    }
    variants: dict[str, dict] = {"with": taught, "without": {}}
    for seed in () if flags.steps_only else flags.seeds:
        for name, more in variants.items():
            run = measured(work, seed, more)
            say(f"seed {seed}, {name} teacher: {cells({key: [v] for key, v in run.items()})}")
            for key, value in run.items():
                found.setdefault(name, {}).setdefault(key, []).append(value)
    for name in variants.keys() & found.keys():
        say(f"{name} teacher: {cells(found[name])}")
    found["step"] = step_ratio(work, taught)
    say(
        "a step with the teacher takes {ratio:.3f} of one without "
        "({with_ms:.0f} and {without_ms:.0f} ms, medians of {blocks} blocks)".format(
            **found["step"]
        )
    )
    if flags.json:
        print(json.dumps(found))
    return 0


def cells(figures: dict[str, list[float]]) -> str:
    """Return means and deviations of one line."""
    return "  ".join(
        f"{key} {np.mean(v):.2f}" + (f" +- {np.std(v, ddof=1):.2f}" if len(v) > 1 else "")
        for key, v in figures.items()
    )


def student():
    """Return the recipe of the student."""
    from tfclip.training.options.recipes import RECIPES

    whole = RECIPES["laptop"]
    return dataclasses.replace(
        whole,
        defaults={**whole.defaults, **STUDENT},
        image_options={},
        image_head_options=HEADS,
        text_head_options=HEADS,
    )


def given(work: Path, seed: int, more: dict):
    """Return the flags of one student."""
    return student().flags(
        records=(f"{work / 'flickr8k'}:train",),
        val=f"{work / 'flickr8k'}:dev",
        run=work / "student",
        overwrite=True,
        seed=seed,
        **more,
    )


def measured(work: Path, seed: int, more: dict) -> dict[str, float]:
    """Train one student; its figures in percent, and the seconds of training."""
    from tfclip.evaluation.tasks.map_during_training import SplitScorer
    from tfclip.models.saving import load_model
    from tfclip.training.run import train

    started = time.monotonic()
    train("laptop", given(work, seed, more), variant=student())
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


def step_ratio(work: Path, taught: dict) -> dict[str, float]:
    """Time training steps with and without the teacher, from stored batches, in turns."""
    import tensorflow as tf

    from tfclip.inputs.input_shards import ALL
    from tfclip.records.reader import split_files
    from tfclip.training.data.training_sets import open_training_sets
    from tfclip.training.phases import make_phases
    from tfclip.training.setup.build_model import prepare_model

    records = work / "flickr8k"
    steps = {}
    for name, more in (("without", {}), ("with", taught)):
        flags = given(work, 0, more).with_steps(6000)
        sets = open_training_sets(flags.records)
        options = student().options(flags)
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
