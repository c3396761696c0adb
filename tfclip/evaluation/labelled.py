"""Labelled pictures of one split, from packed records or from a raw data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.console import say
from tfclip.evaluation.zero_shot import file_views, record_views
from tfclip.naming import unknown
from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.reader import read_split
from tfclip.sources.sample import Rejected, Source


@dataclass(frozen=True)
class LabelledPictures:
    """N pictures and which of C classes they show.

    Attributes:
        split: its name.
        class_names: the C classes.
        keys: N unique names.
        present: (N,C) bool, the class is in the picture, difficult to see or not.
        difficult: (N,C) bool, it is there only as "difficult"; a subset of `present`.
        views: from the size of a view and a tile layout to a dataset as `record_views` gives it.
        skipped: pictures of the split that could not be read.
    """

    split: str
    class_names: tuple[str, ...]
    keys: tuple[str, ...]
    present: np.ndarray
    difficult: np.ndarray
    views: Callable[[int, str], tf.data.Dataset]
    skipped: int = 0

    def __post_init__(self):
        if not self.present.any():
            raise ValueError(
                f"the split {self.split} has no annotations: none of its {len(self.keys)} pictures "
                "shows any class; choose a split that is annotated"
            )


def joined(parts: Sequence[LabelledPictures]) -> LabelledPictures:
    """Several splits of one data set as one, "train+val", in their order."""
    if len(parts) == 1:
        return parts[0]

    def views(size: int, layout: str) -> tf.data.Dataset:
        seen, before = None, 0
        for part in parts:
            moved = part.views(size, layout).map(
                lambda row, views, before=before: (row + before, views)
            )
            seen = moved if seen is None else seen.concatenate(moved)
            before += len(part.keys)
        return seen

    return LabelledPictures(
        "+".join(part.split for part in parts),
        parts[0].class_names,
        tuple(key for part in parts for key in part.keys),
        np.concatenate([part.present for part in parts]),
        np.concatenate([part.difficult for part in parts]),
        views,
        sum(part.skipped for part in parts),
    )


def labelled_records(directory: Path, split: str) -> LabelledPictures:
    """Open a split of packed records, or several as "train+val".

    Raises:
        FileNotFoundError, ValueError: see `records.reader.split_files`.
        ValueError: records without classes, without annotations, or with a class of no name.
    """
    if "+" in split:
        return joined([labelled_records(directory, part) for part in split.split("+")])
    class_names = load_manifest(directory).class_names
    if not class_names:
        raise ValueError(
            f"the records at {directory} have no class names; pack labelled ones with: "
            "python -m tfclip.make_records voc --data DIR --out DIR"
        )
    records = read_split(directory, split, features=(schema.KEY, schema.LABEL, schema.DIFFICULT))
    keys, labels, difficult = [], [], []
    for record in records.as_numpy_iterator():
        keys.append(record[schema.KEY].decode())
        labels.append([name.decode() for name in record[schema.LABEL]])
        difficult.append([name.decode() for name in record[schema.DIFFICULT]])
    return LabelledPictures(
        split,
        class_names,
        tuple(keys),
        _cells(labels, class_names) | _cells(difficult, class_names),
        _cells(difficult, class_names),
        partial(record_views, directory, split),
    )


def labelled_source(source: Source, split: str) -> LabelledPictures:
    """Open a split of a raw data set, or several as "train+val".

    Pictures that are missing are told and left out.

    Raises:
        ValueError: an unknown split, no annotations, or a class of no name.
    """
    if "+" in split:
        return joined([labelled_source(source, part) for part in split.split("+")])
    if split not in source.counts:
        raise unknown(f"split of {source.name}", split, source.counts)
    samples = []
    for item in source.read(split):
        if isinstance(item, Rejected):
            say(f"left out: {item.key}: {item.reason}")
        else:
            samples.append(item)
    names = source.class_names
    difficult = _cells([sample.difficult for sample in samples], names)
    return LabelledPictures(
        split,
        names,
        tuple(sample.key for sample in samples),
        _cells([sample.labels for sample in samples], names) | difficult,
        difficult,
        partial(file_views, [sample.image for sample in samples]),
        source.counts[split] - len(samples),
    )


def _cells(listed: Sequence[Iterable[str]], class_names: Sequence[str]) -> np.ndarray:
    """Which class is listed for which picture: (N,C) bool."""
    column = {name: at for at, name in enumerate(class_names)}
    cells = np.zeros((len(listed), len(class_names)), bool)
    for row, names in enumerate(listed):
        for name in names:
            if name not in column:
                raise unknown("class", name[:100], class_names)
            cells[row, column[name]] = True
    return cells
