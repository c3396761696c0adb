"""python -m benchmarks.laptop_ablation: what each part of the recipe `laptop` gives.

Trains variants of the recipe with several seeds on the records and stored features that
`python -m benchmarks.laptop` has left, and prints the mean and standard deviation of recall on
Flickr8k dev (the best epoch by the mean of all recalls) and of zero-shot VOC mAP.
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

SIDES = "image_head_options", "text_head_options"


def variants() -> dict:
    """Name to recipe: the whole recipe, it with one member, and that without one part each."""
    from tfclip.training.options.recipes import RECIPES

    whole = RECIPES["laptop"]

    def changed(recipe, defaults=None, **options):
        merged = {key: {**getattr(recipe, key), **value} for key, value in options.items()}
        return dataclasses.replace(
            recipe, defaults={**recipe.defaults, **(defaults or {})}, **merged
        )

    one = changed(whole, {"embed_dim": 512}, **{side: {"members": 1} for side in SIDES})
    weak = {"input_dropout": 0.1, "dropout": 0.2}
    return {
        "the recipe, two members": whole,
        "one member": one,
        "one member, without words": changed(one, {"word_weight": 0.0}),
        "one member, one caption of a picture": changed(one, {"captions": 1}),
        "one member, whole pictures only": changed(one, {"views": "1"}),
        "one member, weak dropout": changed(one, **{side: weak for side in SIDES}),
        "one member, mean of the last map only": changed(one, image_options={"pooling": "mean"}),
        "one member, averaged weights": changed(one, {"average": 0.995}),
        **{
            f"one member, {name} alone": changed(one, {"image_tower": name})
            for name in ("efficientnet-lite0", "efficientnet-lite2")
        },
    }


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.laptop_ablation", description=__doc__
    )
    add = parser.add_argument
    add("--work", default="runs/benchmark-laptop", help="where benchmarks.laptop has worked")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--rows", type=int, nargs="+", help="which rows, from 0; all when not given")
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    work = Path(flags.work)
    if not (work / "flickr8k" / "manifest.json").is_file():
        print("error: run python -m benchmarks.laptop first", file=sys.stderr)
        return 2
    found = {}
    rows = list(variants().items())
    for name, recipe in [rows[at] for at in flags.rows or range(len(rows))]:
        runs = [measured(recipe, seed, work) for seed in flags.seeds]
        found[name] = {key: [run[key] for run in runs] for key in runs[0]}
        cells = "  ".join(
            f"{key} {np.mean(values):6.2f} +- {np.std(values, ddof=1):4.2f}"
            for key, values in found[name].items()
        )
        say(f"{name:40} {cells}")
    if flags.json:
        print(json.dumps(found))
    return 0


def measured(recipe, seed: int, work: Path) -> dict[str, float]:
    """Train one variant; its figures in percent, and the seconds of training."""
    from tfclip.evaluation.tasks.map_during_training import SplitScorer
    from tfclip.models.saving import load_model
    from tfclip.training.run import train

    dev = f"{work / 'flickr8k'}:dev"
    run = work / "ablation"
    flags = recipe.flags(
        records=(f"{work / 'flickr8k'}:train",),
        val=dev,
        run=run,
        overwrite=True,
        seed=seed,
    )
    started = time.monotonic()
    train("laptop", flags, variant=recipe)
    seconds = time.monotonic() - started
    with (run / "log.csv").open() as file:
        best = max(csv.DictReader(file), key=lambda row: float(row["val_recall"]))
    voc = SplitScorer(load_model(run), work / "voc", SIZE_OF_VOC).map()
    return {
        "i2t R@10": 100 * float(best["val_i2t_r10"]),
        "t2i R@10": 100 * float(best["val_t2i_r10"]),
        "VOC mAP": 100 * voc,
        "seconds": seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
