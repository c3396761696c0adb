"""Labelled pictures of one split, from packed records or from a raw data set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tfclip.console import say
from tfclip.graphs import as_written
from tfclip.naming import unknown
from tfclip.records.manifest import load_manifest
from tfclip.sources.sample import Rejected, Source

# TensorFlow is imported only where records or pictures are read. A measurement whose embeddings are
# cached does not need it, and ends before its import alone would.
if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class LabelledPictures:
    """N pictures and which of C classes they show.

    Attributes:
        split: its name.
        class_names: the C classes.
        keys: N unique names.
        present: (N,C) bool, the picture shows the class, including difficult objects.
        difficult: (N,C) bool, every object of the class is marked difficult; a subset of `present`.
        views: function of the side length of a view and boxes (T,4) that returns a dataset as
            `record_views` does.
        skipped: pictures of the split that could not be read.
        reference: identifies the content of these pictures, as a cache key.
    """

    split: str
    class_names: tuple[str, ...]
    keys: tuple[str, ...]
    present: np.ndarray
    difficult: np.ndarray
    views: Callable[[int, np.ndarray], tf.data.Dataset]
    skipped: int = 0
    reference: str = ""


@dataclass(frozen=True)
class RecordPictures:
    """The `views` of a `LabelledPictures` for packed records.

    Attributes:
        parts: a directory of records and a split of it, one after the other.
    """

    parts: tuple[tuple[Path, str], ...]

    def __call__(self, size: int, boxes: np.ndarray) -> tf.data.Dataset:
        """Return the views of all pictures, numbered through all parts."""
        from tfclip.evaluation.datasets.views import record_views

        views = [
            record_views(directory, split, size, boxes).map(as_written(lambda row, views: views))
            for directory, split in self.parts
        ]
        return reduce(lambda before, more: before.concatenate(more), views).enumerate()


def _annotated(pictures: LabelledPictures) -> LabelledPictures:
    if not pictures.present.any():
        raise ValueError(
            f"the split {pictures.split} has no annotations: none of its {len(pictures.keys)} "
            "pictures shows any class; choose a split that is annotated"
        )
    return pictures


def joined(parts: Sequence[LabelledPictures]) -> LabelledPictures:
    """Concatenate several splits of one data set ("train+val") in their order."""
    if len(parts) == 1:
        return parts[0]

    def numbered_views(size: int, boxes: np.ndarray) -> tf.data.Dataset:
        joined_views, before = None, 0
        for part in parts:
            numbered = part.views(size, boxes).map(
                as_written(lambda row, views, before=before: (row + before, views))
            )
            joined_views = numbered if joined_views is None else joined_views.concatenate(numbered)
            before += len(part.keys)
        return joined_views

    records = [part.views.parts for part in parts if isinstance(part.views, RecordPictures)]
    views = RecordPictures(tuple(chain(*records))) if len(records) == len(parts) else numbered_views
    return LabelledPictures(
        "+".join(part.split for part in parts),
        parts[0].class_names,
        tuple(key for part in parts for key in part.keys),
        np.concatenate([part.present for part in parts]),
        np.concatenate([part.difficult for part in parts]),
        views,
        sum(part.skipped for part in parts),
        "+".join(part.reference for part in parts),
    )


def with_classes(pictures: LabelledPictures, class_names: Sequence[str] | None) -> LabelledPictures:
    """Select some of the classes, in the given order; None selects all.

    Raises:
        ValueError: an unknown class, or no picture shows any of them.
    """
    if class_names is None:
        return pictures
    for name in class_names:
        if name not in pictures.class_names:
            raise unknown("class", name[:100], pictures.class_names)
    columns = [pictures.class_names.index(name) for name in class_names]
    return _annotated(
        replace(
            pictures,
            class_names=tuple(class_names),
            present=pictures.present[:, columns],
            difficult=pictures.difficult[:, columns],
        )
    )


def labelled_records(directory: Path, split: str) -> LabelledPictures:
    """Open a split of packed records, or several as "train+val".

    Raises:
        FileNotFoundError, ValueError: see `records.reader.split_files`.
        ValueError: the records have no class names or no annotations, or a label is no class name.
    """
    if "+" in split:
        return joined([labelled_records(directory, part) for part in split.split("+")])
    from tfclip.records import schema
    from tfclip.records.reader import read_split

    manifest = load_manifest(directory)
    class_names = manifest.class_names
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
    return _annotated(
        LabelledPictures(
            split,
            class_names,
            tuple(keys),
            _cells(labels, class_names) | _cells(difficult, class_names),
            _cells(difficult, class_names),
            RecordPictures(((directory, split),)),
            reference=f"{manifest.fingerprint()}:{split}",
        )
    )


def unlabelled_records(
    directory: Path, split: str, class_names: Sequence[str], names: Sequence[Sequence[str]]
) -> LabelledPictures:
    """Open captioned records as pictures without class labels.

    Args:
        directory: packed records.
        split: one of their splits.
        class_names: C classes.
        names: the words for each class. A picture whose captions hold one of them may show the
            class; it is marked `difficult` for it and not counted.

    Raises:
        ValueError: there are no captions, or all captions name a class.
    """
    from tfclip.records import schema
    from tfclip.records.reader import read_split

    keys, captions = [], []
    for record in read_split(
        directory, split, features=(schema.KEY, schema.CAPTION)
    ).as_numpy_iterator():
        keys.append(record[schema.KEY].decode())
        captions.append([text.decode("utf-8", "replace") for text in record[schema.CAPTION]])
    if not any(captions):
        raise ValueError(
            f"{directory}:{split} has no captions, which are needed to find pictures "
            "without a class"
        )
    related = related_pictures(captions, names)
    if related.all(axis=0).any():
        name = class_names[int(np.argmax(related.all(axis=0)))]
        raise ValueError(f"every picture of {directory}:{split} names the class {name}")
    return LabelledPictures(
        split,
        tuple(class_names),
        tuple(keys),
        related,
        related,
        RecordPictures(((directory, split),)),
    )


def _file_pictures(paths: Sequence[Path]) -> Callable[[int, np.ndarray], tf.data.Dataset]:
    def views(size: int, boxes: np.ndarray) -> tf.data.Dataset:
        from tfclip.evaluation.datasets.views import file_views

        return file_views(paths, size, boxes)

    return views


def _files_reference(paths: Sequence[Path]) -> str:
    """Hash paths, sizes and modification times: a changed file changes the reference."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat() if path.is_file() else None
        size_and_time = (0, 0) if status is None else (status.st_size, status.st_mtime_ns)
        digest.update(f"{path.resolve()}:{size_and_time}\n".encode())
    return digest.hexdigest()


def labelled_source(source: Source, split: str) -> LabelledPictures:
    """Open a split of a raw data set, or several as "train+val".

    Missing pictures are reported and left out.

    Raises:
        ValueError: an unknown split, no annotations, a label that is no class name, or pictures
            inside archives.
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
    paths = [sample.image for sample in samples if isinstance(sample.image, Path)]
    if len(paths) < len(samples):
        raise ValueError(
            f"the pictures of {source.name} are inside archives; pack them with "
            "python -m tfclip.make_records, and give --records"
        )
    difficult = _cells([sample.difficult for sample in samples], names)
    return _annotated(
        LabelledPictures(
            split,
            names,
            tuple(sample.key for sample in samples),
            _cells([sample.labels for sample in samples], names) | difficult,
            difficult,
            _file_pictures(paths),
            source.counts[split] - len(samples),
            _files_reference(paths),
        )
    )


def _cells(listed: Sequence[Iterable[str]], class_names: Sequence[str]) -> np.ndarray:
    """Return (N,C) bool: whether a class is among the labels of a picture."""
    column = {name: at for at, name in enumerate(class_names)}
    cells = np.zeros((len(listed), len(class_names)), bool)
    for row, names in enumerate(listed):
        for name in names:
            if name not in column:
                raise unknown("class", name[:100], class_names)
            cells[row, column[name]] = True
    return cells


def related_pictures(
    captions: Sequence[Sequence[str]], names: Sequence[Sequence[str]]
) -> np.ndarray:
    """Return (N,C) bool: whether the captions of a picture name a class.

    Names match whole words, case-insensitively, also with a plural s or es ("dogs" names a dog). A
    picture without captions may show anything, so it counts as related to every class.

    Args:
        captions: of each of N pictures.
        names: the words for each of C classes: its name, its readable name, its synonyms.
    """
    patterns = [
        re.compile(
            r"\b(?:" + "|".join(re.escape(name.lower()) for name in listed) + r")(?:s|es)?\b"
        )
        for listed in names
    ]
    texts = [" \n ".join(listed).lower() for listed in captions]
    named = [[not text or bool(p.search(text)) for p in patterns] for text in texts]
    return np.array(named, bool).reshape(len(texts), len(patterns))
