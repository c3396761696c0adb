"""python -m benchmarks.quality RUN...: every figure of quality of a model, from several seeds.

Packs the sets that are missing, and prints one table: what is measured, on how many pictures, with
which prompts, the mean over the runs and their standard deviation, the 95 % bootstrap interval over
pictures for the first run, and whether the set was looked at while the recipe was chosen.

Sets, from --data: Flickr8k dev; COCO (train2017 and val2017 together); Pascal VOC 2012 train + val,
one view and 1+4 tiles; the labelled photographs of `voc_labels`; CIFAR-10.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.shared_towers import Measured, opened
from tfclip.console import say

RESAMPLES = 500
ONE_PROMPT = "a photo of a {}."
# Seen while the recipe `laptop` was chosen: hyperparameters by Flickr8k dev, which also chooses the
# best epoch of each run; VOC was looked at.
CHOSEN_ON = {"Flickr8k dev": "chosen on it", "VOC2012 train+val": "looked at"}


@dataclass
class Row:
    """One figure: what it is, and its value in percent for each run."""

    what: str
    data: str
    pictures: int
    prompts: str
    values: list[float] = field(default_factory=list)
    interval: list[float] | None = None

    @property
    def cells(self) -> list[str]:
        """The row as text."""
        mean = f"{np.mean(self.values):.1f}"
        if len(self.values) > 1:
            mean += f" +- {np.std(self.values, ddof=1):.1f}"
        low_high = "" if self.interval is None else "{:.1f} to {:.1f}".format(*self.interval)
        seen = CHOSEN_ON.get(self.data, "no")
        return [self.what, self.data, f"{self.pictures:,}", self.prompts, mean, low_high, seen]


COLUMNS = ("figure", "data", "pictures", "prompts", "mean", "95 % interval", "seen while choosing")


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table.

    >>> print(table([Row("mAP", "mine", 2000, "", [50.0, 52.0], [48.0, 54.0])]).splitlines()[2])
    | mAP | mine | 2,000 |  | 51.0 +- 1.4 | 48.0 to 54.0 | no |
    """
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(row.cells for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    add = parser.add_argument
    add("runs", nargs="+", type=Path, help="runs of one recipe, a seed each")
    add("--data", default=os.environ.get("TFCLIP_DATA"), help="the folder of flickr8k, coco, voc")
    add("--work", type=Path, default="runs/benchmark-laptop", help="where records are written")
    add("--json", action="store_true", help="the rows as the last line on standard output")
    flags = parser.parse_args(argv)
    missing = [str(run) for run in flags.runs if not (run / "best").is_dir()]
    if missing or flags.data is None or not Path(flags.data).is_dir():
        reason = f"no run at {', '.join(missing)}" if missing else "give --data, or set TFCLIP_DATA"
        print(f"error: {reason}", file=sys.stderr)
        return 2
    pack(Path(flags.data), flags.work)
    rows: dict[tuple[str, str], Row] = {}
    for run in opened(flags.runs):
        for one in measured(run, Path(flags.data), flags.work):
            row = rows.setdefault((one.what, one.data), one)
            if row is not one:
                row.values += one.values
    say(f"runs: {', '.join(map(str, flags.runs))}")
    say(table(list(rows.values())))
    if flags.json:
        print(json.dumps([vars(row) for row in rows.values()]))
    return 0


def pack(data: Path, work: Path) -> None:
    """Pack what is not packed."""
    from tfclip import make_records

    sources: dict[str, list] = {
        "flickr8k": ["flickr8k", "--data", data / "flickr8k"],
        "coco": ["coco", "--data", data / "coco"],
        "voc": ["voc", "--data", data / "voc/VOCdevkit/VOC2012"],
        "voc_labels": ["caption_table", "--data", data / "voc_labels/labels.csv"],
    }
    sources["voc_labels"] += ["--labels-column", "labels"]
    for name, words in sources.items():
        if not (work / name / "manifest.json").is_file():
            words = [*map(str, words), "--out", str(work / name)]
            if code := make_records.main(words):
                raise SystemExit(code)


def measured(embeddings: Measured, data: Path, work: Path) -> list[Row]:
    """All figures of one run."""
    from tfclip.evaluation.datasets.class_images import labelled_folders
    from tfclip.evaluation.embedding.cache import class_embeddings_of
    from tfclip.evaluation.embedding.prompts import class_prompts
    from tfclip.evaluation.metrics.top_k import top_k

    rows = [*retrieval(embeddings, "Flickr8k dev", [f"{work / 'flickr8k'}:dev"])]
    coco = [f"{work / 'coco'}:{split}" for split in ("train2017", "val2017")]
    rows += retrieval(embeddings, "COCO train2017+val2017", coco)
    rows += precision(embeddings, "VOC2012 train+val", work / "voc", "train+val")
    rows += precision(embeddings, "voc_labels", work / "voc_labels", "train")
    cifar = data / "cls/cifar10_test_jpg"
    if cifar.is_dir():
        folders = labelled_folders(cifar)
        size = embeddings.model.config.picture_size
        places, images = embeddings.images("CIFAR-10", lambda: folders.views(size))
        prompts = class_prompts(folders.class_names, "single", {})
        scores = images[:, 0] @ class_embeddings_of(embeddings, prompts).T
        found = top_k(scores, folders.truth[places], (1,))
        one = Row("top-1", "CIFAR-10 test, 2,000", len(places), ONE_PROMPT)
        one.values.append(100 * found["top1"])
        rows.append(one)
    return rows


def retrieval(embeddings, name: str, references: list[str]) -> list[Row]:
    """Recall at 10 both ways, over the pictures of several splits together, with intervals."""
    from tfclip.evaluation.metrics.bootstrap import (
        bootstrap_weights,
        recentred_bootstrap_interval,
    )
    from tfclip.evaluation.metrics.retrieval import retrieval_metrics
    from tfclip.inputs.batches import caption_id

    images, texts, owner, captions = [], [], [], []
    for reference in references:
        some_images, some_texts, some_owners, some_captions = embedded(embeddings, reference)
        owner.append(some_owners + sum(map(len, images)))
        images.append(some_images)
        texts.append(some_texts)
        captions += some_captions
    x, t, of = np.concatenate(images), np.concatenate(texts), np.concatenate(owner)
    figures = retrieval_metrics(x, t, of, caption_id(captions).numpy())
    weights = bootstrap_weights(len(x), RESAMPLES, 0)
    rows = []
    hits = recall_at_10(x, t, of)
    for direction, hit, picture in zip(
        ("image_to_text", "text_to_image"), hits, (np.arange(len(x)), of), strict=True
    ):
        what = f"R@10 {direction.replace('_', ' ')}"
        figure = float(figures[direction]["r10"])
        resampled = (hit[:, None] * weights[picture]).sum(0) / weights[picture].sum(0)
        row = Row(what, name, len(x), "the captions", [100 * figure])
        row.interval = [100 * v for v in recentred_bootstrap_interval(figure, resampled)]
        rows.append(row)
    return rows


def embedded(embeddings, reference: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Pictures (N,D), captions (M,D), the picture of each caption (M,), and the captions."""
    from tfclip.evaluation.datasets.views import record_views
    from tfclip.records import schema
    from tfclip.records.manifest import records_reference
    from tfclip.records.reader import read_split

    directory, split = records_reference(reference)
    size = embeddings.model.config.picture_size
    _, pictures = embeddings.images(reference, lambda: record_views(directory, split, size))
    captions = [
        [text.decode() for text in record[schema.CAPTION]]
        for record in read_split(directory, split, features=(schema.CAPTION,)).as_numpy_iterator()
    ]
    owner = np.repeat(np.arange(len(captions)), list(map(len, captions)))
    texts = sum(captions, [])
    return pictures[:, 0], embeddings.texts(texts), owner, texts


def recall_at_10(
    images: np.ndarray, texts: np.ndarray, owner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each picture (N,) and each caption (M,) has its partner among the ten nearest.

    >>> images, texts = np.eye(12), np.eye(12)[::-1]
    >>> [float(hit.mean()) for hit in recall_at_10(images, texts, np.arange(12)[::-1])]
    [1.0, 1.0]
    """
    cosines = images @ texts.T
    own = cosines[owner, np.arange(len(owner))]
    ahead = (cosines >= own).sum(0) - 1
    best = np.full(len(images), -np.inf)
    np.maximum.at(best, owner, own)
    others = np.where(owner == np.arange(len(images))[:, None], -np.inf, cosines)
    return ((others >= best[:, None]).sum(1) < 10).astype(float), (ahead < 10).astype(float)


def precision(embeddings, name: str, records: Path, split: str) -> list[Row]:
    """Zero-shot mean average precision, one view and 1+4 tiles."""
    from tfclip.evaluation.datasets.multilabel_images import labelled_records
    from tfclip.evaluation.decisions.scored_images import embed_labelled
    from tfclip.evaluation.embedding.cache import class_embeddings_of
    from tfclip.evaluation.embedding.prompts import class_prompts
    from tfclip.evaluation.metrics.bootstrap import bootstrap_weights
    from tfclip.evaluation.tasks.multilabel_map import rankings

    pictures = labelled_records(records, split)
    classes = class_embeddings_of(embeddings, class_prompts(pictures.class_names, "single", {}))
    scored = embed_labelled(embeddings, pictures, "1+4").score(classes)
    weights = bootstrap_weights(len(scored.keys), RESAMPLES, 0)
    figures, intervals = rankings(scored, (), weights)
    rows = []
    for what, key in (("mAP, one view", "map_one_view"), ("mAP, 1+4 tiles", "map")):
        row = Row(what, name, len(scored.keys), ONE_PROMPT, [100 * figures[key]])
        row.interval = [100 * value for value in intervals[key]]
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
