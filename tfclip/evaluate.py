"""python -m tfclip.evaluate RUN voc|multilabel|retrieval|classification|sts: zero-shot figures."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tyro.conf import Positional

from tfclip.console import Command, run, say
from tfclip.evaluation.datasets.class_folders import class_folders, tfds_reference
from tfclip.evaluation.datasets.sentence_pairs import find_sets
from tfclip.evaluation.embedding.prompts import templates_by_name
from tfclip.evaluation.report.json_files import (
    CLIP_BENCHMARK,
    FORMATS,
    check_format,
    circumstances,
    write_clip_benchmark,
    write_json,
)
from tfclip.evaluation.tasks.command_line import command_line
from tfclip.evaluation.tasks.multilabel_flags import MultilabelFlags, VocFlags, check_run
from tfclip.evaluation.tasks.plan import plan
from tfclip.models.compute import AUTO, check_compute
from tfclip.records.manifest import load_manifest, records_reference

# What imports TensorFlow is imported by the functions below, when the flags are known to be right.


@dataclass(frozen=True)
class RetrievalFlags:
    """Retrieval: captions of a picture and pictures of a caption, recall at 1, 5 and 10."""

    run: Positional[Path]
    """A run directory, or a model folder."""
    records: str
    """Packed records, DIR:SPLIT."""
    chunk: int = 1024
    """Rows of the similarity matrix in memory at a time."""
    query_bank: str | None = None
    """Packed records of other pictures with captions, DIR:SPLIT, such as those of training: measure
    a second time with cosines corrected for pictures that are near many of these captions, and for
    captions that are near many of these pictures."""
    compute: str = AUTO
    """Number format in which the image tower computes: float32 (TensorFlow), bfloat16 or
    float32-openvino (OpenVINO, the extra [openvino]), or auto: by OpenVINO where it is measured to
    be faster and as accurate."""
    format: str = FORMATS[0]
    """tfclip, or clip-benchmark: then metrics/retrieval.clip_benchmark.json is written too."""

    def __post_init__(self):
        check_run(self.run)
        check_format(self.format)
        check_compute(self.compute)
        if self.chunk < 1:
            raise ValueError(f"received --chunk {self.chunk}; allowed: 1 or more")
        for reference in (self.records, self.query_bank):
            if reference is not None:
                directory, split = records_reference(reference)
                manifest = load_manifest(directory)
                if split is not None:
                    manifest.shards_of(split)


@dataclass(frozen=True)
class ClassificationFlags:
    """Classification: top-1, top-5 and top-10 over class folders or a TFDS data set."""

    run: Positional[Path]
    """A run directory, or a model folder."""
    data: Path | None = None
    """A folder with one folder of pictures per class, named after the class; or give --tfds."""
    tfds: str | None = None
    """A TFDS data set, NAME or NAME:SPLIT (by default test). It is downloaded if it is missing,
    into TFDS' own folder or $TFDS_DATA_DIR."""
    templates: str = "single"
    """The name of the prompt templates."""
    class_names: Path | None = None
    """A text file with one class name per line, in the order of the labels (of folders: the
    alphabet), which replace those of the data."""
    compute: str = AUTO
    """Number format in which the image tower computes: float32 (TensorFlow), bfloat16 or
    float32-openvino (OpenVINO, the extra [openvino]), or auto: by OpenVINO where it is measured to
    be faster and as accurate."""
    format: str = FORMATS[0]
    """tfclip, or clip-benchmark: then metrics/classification.clip_benchmark.json is written too."""

    def __post_init__(self):
        check_run(self.run)
        check_format(self.format)
        check_compute(self.compute)
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
    """Sentence similarity: correlation with human scores on STS-B, STS 2012 to 2016 and SICK."""

    run: Positional[Path]
    """A run directory, a model folder, or a folder of a pretrained text tower."""
    data: Path
    """A folder with one or more of stsb/, sts/2012/ to sts/2016/ and sick/."""

    def __post_init__(self):
        check_run(self.run)
        find_sets(self.data)


def voc(flags: VocFlags) -> dict:
    """Measure, print the table, and write the metrics, thresholds.json and the report.

    The metrics are metrics/voc.json, or metrics/multilabel-NAME.json.
    """
    started = time.monotonic()
    from tfclip.evaluation.report.html_page import write_page
    from tfclip.evaluation.tasks.multilabel_run import measure_multilabel

    figures = measure_multilabel(flags, started)
    say(str(write_page(flags.run)))
    return figures


def retrieval(flags: RetrievalFlags) -> dict:
    """Measure, print the table, and write metrics/retrieval.json."""
    from tfclip.evaluation.embedding.cache import RunEmbeddings
    from tfclip.evaluation.report.examples import RETRIEVAL_EXAMPLES
    from tfclip.evaluation.report.html_page import write_page
    from tfclip.evaluation.report.text_tables import retrieval_table
    from tfclip.evaluation.tasks.retrieval import evaluate_retrieval

    started = time.monotonic()
    examples = flags.run / RETRIEVAL_EXAMPLES
    figures = evaluate_retrieval(
        RunEmbeddings(flags.run, flags.compute),
        flags.records,
        chunk=flags.chunk,
        examples=examples,
        query_bank=flags.query_bank,
    )
    figures |= circumstances(started, command_line("retrieval", flags))
    say(retrieval_table(figures))
    if flags.format == CLIP_BENCHMARK:
        say(str(write_clip_benchmark(flags.run, "retrieval", figures)))
    say(f"{write_json(flags.run / 'metrics' / 'retrieval.json', figures)}, {write_page(flags.run)}")
    return figures


def classification(flags: ClassificationFlags) -> dict:
    """Measure, print the table, and write metrics/classification.json."""
    from tfclip.evaluation.datasets.class_images import labelled_folders, labelled_tfds
    from tfclip.evaluation.report.html_page import write_page
    from tfclip.evaluation.report.text_tables import classification_table
    from tfclip.evaluation.tasks.classification import evaluate_classification
    from tfclip.models.saving import load_model

    started = time.monotonic()
    data = labelled_folders(flags.data) if flags.data else labelled_tfds(flags.tfds or "")
    figures = evaluate_classification(
        replace(load_model(flags.run, compute=flags.compute), is_fixed=True),
        data,
        templates=flags.templates,
        class_names=flags.class_names,
    )
    figures |= circumstances(started, command_line("classification", flags))
    say(classification_table(figures))
    if flags.format == CLIP_BENCHMARK:
        say(str(write_clip_benchmark(flags.run, "classification", figures)))
    written = write_json(flags.run / "metrics" / "classification.json", figures)
    say(f"{written}, {write_page(flags.run)}")
    return figures


def sts(flags: SentenceFlags) -> dict:
    """Measure, print the table, and write metrics/sts.json into a run."""
    from tfclip.evaluation.report.html_page import write_page
    from tfclip.evaluation.report.text_tables import sts_table
    from tfclip.evaluation.tasks.sts import evaluate_sts, text_side_of_folder, text_side_of_model
    from tfclip.models.model_directory import holds_model
    from tfclip.models.saving import load_model

    started = time.monotonic()
    is_run = holds_model(flags.run) or not (flags.run / "config.json").is_file()
    side = text_side_of_model(load_model(flags.run)) if is_run else text_side_of_folder(flags.run)
    figures = evaluate_sts(side, flags.data)
    figures |= circumstances(started, command_line("sts", flags))
    say(sts_table(figures))
    if is_run:
        say(f"{write_json(flags.run / 'metrics' / 'sts.json', figures)}, {write_page(flags.run)}")
    return figures


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    commands = {
        "voc": Command(VocFlags, voc, plan=partial(plan, "voc")),
        "multilabel": Command(MultilabelFlags, voc, plan=partial(plan, "multilabel")),
        "retrieval": Command(RetrievalFlags, retrieval, plan=partial(plan, "retrieval")),
        "classification": Command(
            ClassificationFlags, classification, plan=partial(plan, "classification")
        ),
        "sts": Command(SentenceFlags, sts, plan=partial(plan, "sts")),
    }
    return run("tfclip.evaluate", commands, argv, kind="benchmark", before=("RUN",))


if __name__ == "__main__":
    sys.exit(main())
