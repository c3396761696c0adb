"""Runs `tfclip.evaluate RUN voc|multilabel`: opens the data, measures, writes the results."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from tfclip import files
from tfclip.console import say
from tfclip.evaluation.datasets.multilabel_images import (
    LabelledPictures,
    RecordPictures,
    joined,
    labelled_records,
    labelled_source,
    unlabelled_records,
    with_classes,
)
from tfclip.evaluation.decisions.adapted_classes import read_adapted
from tfclip.evaluation.embedding.cache import RunEmbeddings
from tfclip.evaluation.embedding.class_words import OTHERS, OWN, ClassWords
from tfclip.evaluation.embedding.kept_arrays import bytes_at, joined_bytes
from tfclip.evaluation.embedding.prompts import readable_names
from tfclip.evaluation.report.examples import (
    SIDE,
    decisions_of,
    examples_file,
    jpeg_of,
    write_examples,
)
from tfclip.evaluation.report.json_files import (
    CLIP_BENCHMARK,
    circumstances,
    write_clip_benchmark,
    write_json,
)
from tfclip.evaluation.report.text_tables import multilabel_table
from tfclip.evaluation.tasks.command_line import command_line
from tfclip.evaluation.tasks.multilabel import MultilabelResult, evaluate_multilabel
from tfclip.evaluation.tasks.multilabel_flags import NONE, VocFlags
from tfclip.evaluation.tasks.thresholds_file import write_thresholds
from tfclip.inputs.tiles import group_boxes
from tfclip.models.compute import FLOAT32
from tfclip.records.manifest import load_manifest
from tfclip.sources.registry import open_source
from tfclip.sources.sample import SourceOptions

EXAMPLES = 24
"""The number of pictures on the report page."""


def measure_multilabel(flags: VocFlags, started: float) -> dict:
    """Measure, print the table, and write metrics/voc.json and thresholds.json.

    Args:
        flags: of the command.
        started: `time.monotonic()` at the beginning of the command.

    Returns:
        The figures, see `multilabel.evaluate_multilabel`.
    """
    embeddings = RunEmbeddings(flags.run, flags.compute)
    options = flags.options()
    test, calibration = _open(flags, embeddings)
    if flags.class_words in (OWN, OTHERS):
        options = dataclasses.replace(options, words=_own_words(flags, test, embeddings))
    # The products are small: BLAS threads would compete with those of the bootstrap.
    with threadpool_limits(1, user_api="blas"):
        adapted = None
        if flags.adapted is not None:
            adapted = read_adapted(flags.run, flags.adapted, embeddings.fingerprint)
        result = evaluate_multilabel(embeddings, test, calibration, options, adapted=adapted)
    data = {"data": str(flags.records or flags.data), "compute": embeddings.compute}
    figures = result.figures | data
    benchmark = flags.benchmark
    # The command's word: voc, or multilabel of multilabel-NAME.
    figures |= circumstances(started, command_line(benchmark.partition("-")[0], flags))
    say(multilabel_table(figures))
    fitted = {"data": data["data"], **result.thresholds, "model": embeddings.fingerprint}
    if embeddings.compute != FLOAT32:  # exports and predict, in float32, refuse these thresholds
        fitted["compute"] = embeddings.compute
    thresholds_file = write_thresholds(flags.run, benchmark, fitted)
    written = write_json(flags.run / "metrics" / f"{benchmark}.json", figures)
    if flags.format == CLIP_BENCHMARK:
        say(f"{write_clip_benchmark(flags.run, benchmark, figures)}")
    columns = {"test": result.test, "calibration": result.calibration}
    arrays = {
        f"{which}_{name}": getattr(part, name)
        for which, part in columns.items()
        for name in ("keys", "scores", "one_view", "present", "difficult")
    }
    with (
        files.new_file(flags.run / "metrics" / f"{benchmark}_scores.npz") as temporary,
        temporary.open("wb") as file,
    ):
        np.savez(file, class_names=result.test.class_names, **arrays)
    _write_examples(flags.run / examples_file(benchmark), embeddings, test, result)
    say(f"{written}, {thresholds_file}")
    return figures


def _own_words(flags: VocFlags, test: LabelledPictures, embeddings: RunEmbeddings) -> ClassWords:
    from tfclip.evaluation.embedding.own_words import class_words

    words = class_words(flags.run, flags.class_words, test.class_names, embeddings)
    say(words.described())
    return words


def _open(flags: VocFlags, embeddings: RunEmbeddings) -> tuple[LabelledPictures, LabelledPictures]:
    """Return the pictures to measure on and those to fit on."""
    records = flags.records
    if records is not None:

        def open_split(split: str) -> LabelledPictures:
            parts = [_kept(records, part, embeddings) for part in split.split("+")]
            return with_classes(joined(parts), flags.classes())
    else:
        # The flags check that one of the two is given.
        source = open_source("voc", flags.data or Path(), SourceOptions(splits=flags.splits()))

        def open_split(split: str) -> LabelledPictures:
            return with_classes(labelled_source(source, split), flags.classes())

    test = open_split(flags.split)
    if flags.calibrate != NONE:
        return test, open_split(flags.calibrate)
    return test, _negatives(flags, test.class_names, embeddings)


def _kept(directory: Path, split: str, embeddings: RunEmbeddings) -> LabelledPictures:
    """Return a split of records; its labels are read once and cached in the run."""
    return embeddings.labels(
        f"{load_manifest(directory).fingerprint()}:{split}",
        lambda: labelled_records(directory, split),
        RecordPictures(((directory, split),)),
    )


def _negatives(
    flags: VocFlags, class_names: tuple[str, ...], embeddings: RunEmbeddings
) -> LabelledPictures:
    """Return captioned pictures, marked `difficult` for classes that their captions name."""
    directory, split = flags.negatives_reference()
    synonyms = flags.options().words.synonyms
    names = [
        tuple(dict.fromkeys((name, readable, *synonyms.get(name, ()))))
        for name, readable in zip(class_names, readable_names(class_names), strict=True)
    ]
    reference = f"{load_manifest(directory).fingerprint()}:{split}"
    pictures = embeddings.labels(
        f"{reference}:{names}",
        lambda: unlabelled_records(directory, split, class_names, names),
        RecordPictures(((directory, split),)),
    )
    # The embeddings do not depend on the class names.
    return dataclasses.replace(pictures, split=f"{directory}:{split}", reference=reference)


def _write_examples(
    path: Path, embeddings: RunEmbeddings, test: LabelledPictures, result: MultilabelResult
) -> None:
    """Write the first pictures of the test split with their decisions for the report page."""

    def small() -> dict[str, np.ndarray]:
        views = test.views(SIDE, group_boxes(1)).take(EXAMPLES)
        read = [(row, jpeg_of(view[0])) for row, view in views.as_numpy_iterator()]
        jpegs, ends = joined_bytes([jpeg for _, jpeg in read])
        keys = np.array([test.keys[row] for row, _ in read], str)
        return {"keys": keys, "jpegs": jpegs, "ends": ends}

    kept = embeddings.arrays(f"examples {SIDE} {EXAMPLES} {test.reference}", small)
    scored, thresholds = result.test, result.fitted.thresholds.per_class
    place = {key: row for row, key in enumerate(scored.keys)}
    examples = []
    for at, key in enumerate(map(str, kept["keys"])):
        row = place[key]
        examples.append(
            {
                "key": key,
                "jpeg": bytes_at(kept["jpegs"], kept["ends"], at),
                **decisions_of(
                    scored.class_names,
                    scored.present[row],
                    scored.difficult[row],
                    scored.scores[row] >= thresholds,
                ),
            }
        )
    write_examples(path, examples)
