"""python -m benchmarks.caption_scores: find captions that stand at the wrong picture, and train
without them.

Flickr8k with 20 % of the training captions shuffled among pictures. The recipe
`laptop-squeezenet` is trained on the true captions, on the shuffled ones, on what `make_records
score --drop-worst` leaves of these, and on the true ones among them alone, as if scores made no
mistake. Printed: the area under the ROC curve of the cosines, and of their sums with the
agreements, in telling wrong captions from true ones (out of fold), and the share of the R@10 lost
by shuffling that is regained, on the dev pictures at the best epoch, which training measures.

It can be run in parts, and an interrupted one goes on: --parts shuffled, then score, clean, kept,
true. Outputs of the frozen towers are computed once, for `shuffled`: the other sets hold the same
pictures and no other captions. A training reuses them only if its towers' weights and tokenizer,
which are read from the same files, have the same fingerprint.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from benchmarks.laptop import minilm_folder
from tfclip.console import say

WRONG = 0.2
RECALLS = ("val_i2t_r10", "val_t2i_r10")
SETS = ("clean", "shuffled", "kept", "true")
PARTS = ("shuffled", "score", "clean", "kept", "true")


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.caption_scores")
    add = parser.add_argument
    add("--data", default=os.environ.get("TFCLIP_DATA"), help="the folder of flickr8k and weights")
    add("--text-weights", default=minilm_folder(), help="the folder of all-MiniLM-L6-v2")
    add("--work", default="runs/benchmark-caption-scores", help="what is there is used again")
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to do now")
    add("--folds", type=int, default=3)
    add("--drop-worst", type=float, default=WRONG)
    add("--seed", type=int, default=0, help="of the shuffling, and of the run that scores")
    add("--seeds", type=int, nargs="+", default=[0], help="of the runs that are compared")
    add("--set", nargs="*", default=[], help="further flags of fit, e.g. --epochs=4")
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    if flags.data is None or not Path(flags.data).is_dir() or flags.text_weights is None:
        print("error: give --data and --text-weights", file=sys.stderr)
        return 2
    started, work = time.monotonic(), Path(flags.work)
    work.mkdir(parents=True, exist_ok=True)
    wrong = write_tables(Path(flags.data) / "flickr8k", work, flags.seed)
    for name in ("clean", "shuffled", "true"):
        pack(Path(flags.data) / "flickr8k", work, name, flags.folds)
    told: dict = {}
    if "shuffled" in flags.parts:
        train(flags, "shuffled")
    if "score" in flags.parts:
        told["scored"] = score(work, flags)
        told["auc"] = auc_of(work / "scored", wrong, flags.drop_worst)
        for by, found in told["auc"].items():
            say(
                f"by {by}: AUC {found['auc']:.4f}, {found['precision']:.1%} of the worst "
                f"{flags.drop_worst:.0%} are wrong"
            )
    for name in ("clean", "kept", "true"):
        if name in flags.parts:
            share_features(work / "shuffled", work / name)
            train(flags, name)
    told["recalls"] = {name: recalls_of(work, name, flags.seeds) for name in SETS}
    for name, recalls in told["recalls"].items():
        say(f"{name}: R@10 image to text / text to image by seed: {recalls}")
    if all(len(recalls) == len(flags.seeds) for recalls in told["recalls"].values()):
        mean = {name: np.mean(recalls) for name, recalls in told["recalls"].items()}
        lost = mean["clean"] - mean["shuffled"]
        told["regained"] = {
            name: float((mean[name] - mean["shuffled"]) / lost) for name in ("kept", "true")
        }
        say(
            f"the mean R@10 is {100 * mean['clean']:.2f}, {100 * lost:.2f} points less with "
            f"shuffled captions; {told['regained']['kept']:.0%} of them regained, "
            f"{told['regained']['true']:.0%} by leaving out exactly the wrong ones"
        )
    told["seconds"] = time.monotonic() - started
    if flags.json:
        print(json.dumps(told))
    return 0


def write_tables(data: Path, work: Path, seed: int) -> set[tuple[str, str]]:
    """Write clean.csv, shuffled.csv and true.csv, if they are not there; return the wrong pairs of
    file name and caption."""
    if not (work / "true.csv").is_file():
        rows = rows_of(data)
        moved, known = shuffled(rows, seed), set(rows)
        true = [row for row in moved if row in known]
        for name, listed in (("clean", rows), ("shuffled", moved), ("true", true)):
            with (work / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("path", "caption", "split"), *listed])
    pairs = {}
    for name in ("clean", "shuffled"):
        with (work / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            pairs[name] = {tuple(row[:2]) for row in csv.reader(file)}
    return pairs["shuffled"] - pairs["clean"]


def rows_of(data: Path) -> list[tuple[str, str, str]]:
    """Return file name, caption and split of every caption of the train and dev pictures."""
    split_of = {
        name: split
        for split in ("train", "dev")
        for name in (data / f"Flickr_8k.{split}Images.txt").read_text().split()
    }
    lines = (data / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines()
    pairs = (
        (name.partition("#")[0], text.strip()) for name, text in (x.split("\t") for x in lines)
    )
    return [(name, text, split_of[name]) for name, text in pairs if name in split_of]


def shuffled(rows: list[tuple[str, str, str]], seed: int) -> list[tuple[str, str, str]]:
    """Return the rows with a fifth of the training captions moved among them, each to another
    picture."""
    train = [at for at, row in enumerate(rows) if row[2] == "train"]
    rng = random.Random(seed)
    places = rng.sample(train, round(WRONG * len(train)))
    new = places.copy()
    rng.shuffle(new)
    while own := [k for k, at in enumerate(places) if rows[at][0] == rows[new[k]][0]]:
        for k in own:
            other = rng.randrange(len(new))
            new[k], new[other] = new[other], new[k]
    moved = list(rows)
    for at, source in zip(places, new, strict=True):
        moved[at] = (rows[at][0], rows[source][1], "train")
    return moved


def pack(data: Path, work: Path, name: str, folds: int) -> None:
    """Pack a table, if it is not packed."""
    if (work / name / "manifest.json").is_file():
        return
    run("make_records", "caption_table", "--data", work / f"{name}.csv", "--images",
        data / "Flicker8k_Dataset", "--split-column", "split", "--shards", 2 * folds,
        "--out", work / name)  # fmt: skip


def run_of(work: Path, name: str, seed: int) -> Path:
    """Return the run directory of a set and seed."""
    return work / (f"run-{name}" if seed == 0 else f"run-{name}-{seed}")


def train(flags: argparse.Namespace, name: str) -> None:
    """Train on a set with every seed, if there is no such run."""
    work = Path(flags.work)
    weights = next((Path(flags.data) / "weights").glob("*.h5"))
    for seed in flags.seeds:
        if not (run_of(work, name, seed) / "best").is_dir():
            run("fit", "laptop-squeezenet", "--records", f"{work / name}:train", "--val",
                f"{work / name}:dev", "--run", run_of(work, name, seed), "--seed", seed,
                "--image-weights", weights, "--text-weights", flags.text_weights,
                *flags.set)  # fmt: skip


def recalls_of(work: Path, name: str, seeds: list[int]) -> list[tuple[float, ...]]:
    """Return R@10 of the best epoch in both directions, for every seed that has ended."""
    found = []
    for seed in seeds:
        log = run_of(work, name, seed) / "log.csv"
        if log.is_file() and (log.parent / "best").is_dir():
            with log.open(newline="") as file:
                best = max(csv.DictReader(file), key=lambda row: float(row["val_recall"]))
            found.append(tuple(float(best[column]) for column in RECALLS))
    return found


def score(work: Path, flags: argparse.Namespace) -> dict:
    """Score the shuffled set, and leave the worst out, as the commands do."""
    if not (work / "scored/manifest.json").is_file():
        run("make_records", "score", work / "shuffled", "--run", work / "run-shuffled",
            "--folds", flags.folds, "--out", work / "scored")  # fmt: skip
    if not (work / "kept/manifest.json").is_file():
        run("make_records", "score", work / "scored", "--drop-worst", flags.drop_worst,
            "--out", work / "kept")  # fmt: skip
    return json.loads((work / "kept/manifest.json").read_text())["splits"]["train"]


def run(command: str, *words) -> None:
    """Run a command of tfclip in a process of its own."""
    subprocess.run([sys.executable, "-m", f"tfclip.{command}", *map(str, words)], check=True)


def auc_of(records: Path, wrong: set[tuple[str, str]], share: float) -> dict[str, dict]:
    """The area under the ROC curve for "wrong", the Mann-Whitney statistic, and the precision.

    By the cosine alone, and by both scores.
    """
    from tfclip.records import schema
    from tfclip.records.reader import read_split
    from tfclip.records.scores.scored_set import stored_scores, worst_of

    is_wrong = []
    for record in read_split(
        records, "train", features=(schema.KEY, schema.CAPTION)
    ).as_numpy_iterator():
        name = record[schema.KEY].decode().rpartition("/")[2]
        is_wrong += [(name, caption.decode()) in wrong for caption in record[schema.CAPTION]]
    mask, scores = np.array(is_wrong), stored_scores(records, "train")
    positives, negatives = int(mask.sum()), int((~mask).sum())
    found = {}
    for by in ("cosine", "both"):
        fit = scores.fit(by)
        above = rankdata(-fit)[mask].sum() - positives * (positives + 1) / 2
        found[by] = {
            "auc": float(above / (positives * negatives)),
            "precision": float(mask[worst_of({"train": fit}, share)["train"]].mean()),
        }
    return found


def share_features(source: Path, target: Path) -> None:
    """Write the stored features of a set's pictures and captions for another set of the same ones.

    What a frozen tower gives for a picture depends on its bytes and key, for a text on its letters.
    """
    from tfclip.evaluation.embedding.features.part_features import cut_features, pick_texts
    from tfclip.evaluation.embedding.features.stored_arrays import stored_arrays
    from tfclip.records import schema
    from tfclip.records.manifest import load_manifest
    from tfclip.records.reader import read_split

    def content(directory: Path, split: str) -> tuple[list[int], list[list[bytes]]]:
        read = read_split(directory, split, features=(schema.ID, schema.CAPTION))
        rows = list(read.as_numpy_iterator())
        return [int(r[schema.ID]) for r in rows], [r[schema.CAPTION].tolist() for r in rows]

    for folder in sorted((source / "features").iterdir()):
        what = json.loads((folder / "features.json").read_text())["what"]
        ids, texts = content(source, what["split"])
        new_ids, new_texts = content(target, what["split"])
        arrays = {one.stem: np.load(one, mmap_mode="r") for one in folder.glob("*.npy")}
        place = {image: row for row, image in enumerate(ids)}
        flat = {text: at for at, text in enumerate(t for listed in texts for t in listed)}

        def compute(out: Path, what=what, arrays=arrays, place=place, flat=flat,
                    new_ids=new_ids, new_texts=new_texts) -> None:  # fmt: skip
            if what["side"] == "image":
                rows = np.array([place[image] for image in new_ids])
                cut_features(out / "features.npy", arrays["features"], rows)
                np.save(out / "image_id.npy", arrays["image_id"][rows])
                return
            picked = [flat[text] for listed in new_texts for text in listed]
            empty = int(arrays["text_starts"][-1])
            counts = [len(listed) for listed in new_texts]
            starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            np.save(out / "text_starts.npy", starts)
            pick_texts(out, arrays["features"], arrays.get("token_starts"),
                       arrays["caption_id"], np.array([*picked, empty]))  # fmt: skip

        new = what | {"records": load_manifest(target).fingerprint()}
        stored_arrays(new, target / "features", compute, f"{what['side']} features")


if __name__ == "__main__":
    sys.exit(main())
