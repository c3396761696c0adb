"""python -m tfclip.evaluate RUN voc|retrieval|classification|sts: measure a model zero-shot."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from tfclip.console import Command, json_text, run, say
from tfclip.evaluation.class_sources import class_folders, tfds_reference
from tfclip.evaluation.prompts import templates_by_name
from tfclip.evaluation.sts_sets import find_sets
from tfclip.evaluation.thresholds import parse_objective
from tfclip.naming import unknown
from tfclip.records.manifest import load_manifest, records_reference
from tfclip.sources.registry import open_source
from tfclip.sources.sample import SourceOptions

# What imports TensorFlow is imported by the functions below, when the flags are known to be right.


@dataclass(frozen=True)
class VocFlags:
    """Multi-label: mean average precision, and thresholds fitted on another split."""

    run: Positional[Path]
    """A run directory, or a model folder."""
    data: Path | None = None
    """A raw VOC devkit, VOCdevkit/VOC2007; or else --records."""
    records: Path | None = None
    """A directory of packed records with labels; or else --data."""
    split: str = "test"
    """What is measured on; several as train+val."""
    calibrate: str = "trainval"
    """The split that the thresholds are fitted on; it shares no picture with --split."""
    tiles: str = "1"
    """The views of a picture, of which the highest score counts: 1, or 1+4 (and four crops)."""
    objective: str = "f1"
    """What a threshold is fitted for: f1, accuracy, youden, sensitivity>=0.9 (or another bound;
    specificity and precision alike)."""
    templates: str = "single"
    """The prompts, by name."""
    seed: int = 0
    """Of the bootstrap intervals."""

    def __post_init__(self):
        _check_run(self.run)
        if (self.data is None) == (self.records is None):
            raise ValueError("give one of --data VOCdevkit/VOC2007 and --records DIR")
        if self.split == self.calibrate:
            raise ValueError(
                f"received {self.split} for both --split and --calibrate; thresholds must be "
                "fitted on other pictures than they are reported on"
            )
        if self.seed < 0:
            raise ValueError(f"received --seed {self.seed}; allowed: 0 or more")
        parse_objective(self.objective)
        templates_by_name(self.templates)


@dataclass(frozen=True)
class RetrievalFlags:
    """Retrieval: pictures by their captions and back, recall in the first 1, 5 and 10."""

    run: Positional[Path]
    """A run directory, or a model folder."""
    records: str
    """Packed records, DIR:SPLIT."""
    chunk: int = 1024
    """Rows of the similarity matrix in memory at a time."""

    def __post_init__(self):
        _check_run(self.run)
        if self.chunk < 1:
            raise ValueError(f"received --chunk {self.chunk}; allowed: 1 or more")
        directory, split = records_reference(self.records)
        manifest = load_manifest(directory)
        if split is not None:
            manifest.shards_of(split)


@dataclass(frozen=True)
class ClassificationFlags:
    """Classification: top-1, top-5 and top-10 over class folders or a TFDS data set."""

    run: Positional[Path]
    """A run directory, or a model folder."""
    data: Path | None = None
    """A folder with one folder of pictures for every class, named like it; or else --tfds."""
    tfds: str | None = None
    """A data set of TFDS, NAME or NAME:SPLIT (test when not given); fetched when it is not there,
    into TFDS' own folder or that of $TFDS_DATA_DIR."""
    templates: str = "single"
    """The prompts, by name."""
    class_names: Path | None = None
    """A text file with one class name per line, in the order of the labels (of folders: the
    alphabet), to use instead of the data's."""

    def __post_init__(self):
        _check_run(self.run)
        if (self.data is None) == (self.tfds is None):
            raise ValueError("give one of --data DIR and --tfds NAME[:SPLIT]")
        if self.class_names is not None and not self.class_names.is_file():
            raise FileNotFoundError(f"no file of class names at {self.class_names}")
        if self.data is not None:
            class_folders(self.data)
        else:
            tfds_reference(self.tfds)
        templates_by_name(self.templates)


@dataclass(frozen=True)
class SentenceFlags:
    """Sentence similarity: correlation with people's scores on STS-B, STS 2012 to 2016 and SICK."""

    run: Positional[Path]
    """A run directory, a model folder, or a folder of a pretrained text tower."""
    data: Path
    """A folder with some of stsb/, sts/2012/ to sts/2016/ and sick/."""

    def __post_init__(self):
        _check_run(self.run)
        find_sets(self.data)


def _check_run(path: Path) -> None:
    if not path.is_dir():
        raise FileNotFoundError(
            f"no run at {path}; train one with: python -m tfclip.fit RECIPE --records DIR --run RUN"
        )


def voc(flags: VocFlags) -> dict:
    """Measure, print the table, and write metrics/voc.json, thresholds.json and the plots."""
    splits = (flags.split, flags.calibrate)
    parts = tuple(dict.fromkeys(part for split in splits for part in split.split("+")))
    if flags.records is not None:
        known = load_manifest(flags.records).splits
        for split in parts:
            if split not in known:
                raise unknown(f"split of {flags.records}", split, known)
    else:
        source = open_source("voc", flags.data, SourceOptions(splits=parts))

    import numpy as np

    from tfclip.evaluation.labelled import labelled_records, labelled_source
    from tfclip.evaluation.page import write_page
    from tfclip.evaluation.report import plot_precision_recall, plot_thresholds, voc_table
    from tfclip.evaluation.voc import evaluate_voc
    from tfclip.inputs.images import tile_boxes
    from tfclip.models.saved import load_model

    tile_boxes(flags.tiles)
    started = time.monotonic()
    if flags.records is not None:
        test, calibration = (labelled_records(flags.records, split) for split in splits)
    else:
        test, calibration = (labelled_source(source, split) for split in splits)
    result = evaluate_voc(
        load_model(flags.run),
        test,
        calibration,
        templates=flags.templates,
        tiles=flags.tiles,
        objective=flags.objective,
        seed=flags.seed,
    )
    scored = result.test
    figures = result.figures | {"data": str(flags.records or flags.data)}
    figures |= _circumstances(started)

    say(voc_table(figures))
    plots = flags.run / "plots"
    title = f"{len(scored.keys)} pictures of split {scored.split}"
    plot_thresholds(
        plots / "voc_thresholds.png",
        scored.scores,
        scored.present & ~scored.difficult,
        scored.difficult,
        figures["global"]["threshold"],
        title=f"{title}, all classes pooled; threshold fitted on {figures['calibrate']}",
    )
    plot_precision_recall(
        plots / "voc_precision_recall.png",
        scored.scores,
        scored.present,
        scored.class_names,
        marked=figures["never_trained"],
        title=f"{title}; mAP {figures['map']:.3f}",
    )
    _write(flags.run / "thresholds.json", result.thresholds)
    written = _write(flags.run / "metrics" / "voc.json", figures)
    columns = {"test": scored, "calibration": result.calibration}
    np.savez_compressed(
        flags.run / "metrics" / "voc_scores.npz",
        class_names=scored.class_names,
        **{
            f"{which}_{name}": getattr(part, name)
            for which, part in columns.items()
            for name in ("keys", "scores", "one_view", "present", "difficult")
        },
    )
    say(f"{written}, {flags.run / 'thresholds.json'}, {plots}/voc_*.png, {write_page(flags.run)}")
    return figures


def retrieval(flags: RetrievalFlags) -> dict:
    """Measure, print the table, and write metrics/retrieval.json."""
    from tfclip.evaluation.page import write_page
    from tfclip.evaluation.report import retrieval_table
    from tfclip.evaluation.retrieval_run import evaluate_retrieval
    from tfclip.models.saved import load_model

    started = time.monotonic()
    figures = evaluate_retrieval(load_model(flags.run), flags.records, chunk=flags.chunk)
    figures |= _circumstances(started)
    say(retrieval_table(figures))
    say(f"{_write(flags.run / 'metrics' / 'retrieval.json', figures)}, {write_page(flags.run)}")
    return figures


def classification(flags: ClassificationFlags) -> dict:
    """Measure, print the table, and write metrics/classification.json."""
    from tfclip.evaluation.classification_run import evaluate_classification
    from tfclip.evaluation.labelled_classes import labelled_folders, labelled_tfds
    from tfclip.evaluation.page import write_page
    from tfclip.evaluation.report import classification_table
    from tfclip.models.saved import load_model

    started = time.monotonic()
    data = labelled_folders(flags.data) if flags.data else labelled_tfds(flags.tfds)
    figures = evaluate_classification(
        load_model(flags.run), data, templates=flags.templates, class_names=flags.class_names
    )
    figures |= _circumstances(started)
    say(classification_table(figures))
    say(
        f"{_write(flags.run / 'metrics' / 'classification.json', figures)}, {write_page(flags.run)}"
    )
    return figures


def sts(flags: SentenceFlags) -> dict:
    """Measure, print the table, and write metrics/sts.json into a run."""
    from tfclip.evaluation.page import write_page
    from tfclip.evaluation.sts import sts_table
    from tfclip.evaluation.sts_run import evaluate_sts, text_side_of_folder, text_side_of_model
    from tfclip.models.saved import holds_model, load_model

    started = time.monotonic()
    is_run = holds_model(flags.run) or not (flags.run / "config.json").is_file()
    side = text_side_of_model(load_model(flags.run)) if is_run else text_side_of_folder(flags.run)
    figures = evaluate_sts(side, flags.data)
    figures |= _circumstances(started)
    say(sts_table(figures))
    if is_run:
        say(f"{_write(flags.run / 'metrics' / 'sts.json', figures)}, {write_page(flags.run)}")
    return figures


def _circumstances(started: float) -> dict:
    return {
        "seconds": round(time.monotonic() - started, 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _write(path: Path, content: Mapping) -> Path:
    """Write a JSON file; whoever looks sees none or all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}")
    beside.write_text(json_text(content, indent=2) + "\n", encoding="utf-8")
    os.replace(beside, path)
    return path


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    commands = {
        "voc": Command(VocFlags, voc),
        "retrieval": Command(RetrievalFlags, retrieval),
        "classification": Command(ClassificationFlags, classification),
        "sts": Command(SentenceFlags, sts),
    }
    return run("tfclip.evaluate", commands, argv, kind="benchmark", before=("RUN",))


if __name__ == "__main__":
    sys.exit(main())
