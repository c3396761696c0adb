"""Parquet and Arrow tables that contain pictures, as `datasets` and img2dataset write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfclip.console import say
from tfclip.sources.index import Index
from tfclip.sources.safe_paths import MAX_PICTURE_BYTES, keep_captions, missing
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, files_by_split, stable_hash
from tfclip.sources.tables.arrow_files import rows_of, schema_of
from tfclip.sources.tables.cells import LabelReader, caption_of, label_reader, listed_cell
from tfclip.sources.tables.columns import (
    check_column,
    find_column,
    list_columns,
    numbered_columns,
    report_unused,
)

TREE = (
    "a .parquet or .arrow file, or DIR/*.parquet (train-00000-of-00002.parquet), or what "
    "datasets.save_to_disk writes: DIR/<split>/*.arrow"
)
IMAGES = "image img picture jpg jpeg png webp image_bytes bytes".split()
CAPTIONS = "caption captions text sentence sentences description title txt".split()
KEYS = "key id image_id __key__ filename file_name image_name".split()
LABELS = "label labels class".split()

_NAME = re.compile(r"\.(parquet|arrow)$")


def open_parquet(data: Path, options: SourceOptions) -> Source:
    """Open `data`: tables with one picture per row, and captions or labels.

    The picture is in the column `options.image_field` or the first of `IMAGES`: bytes, or an object
    with `bytes`, as Hugging Face's Image feature has it. Captions are texts or lists of texts in
    `options.caption_fields`, or in the columns with a usual name. Labels are in
    `options.labels_field` or `options.label_fields`, or else, in a table without captions, in a
    column that Hugging Face's metadata describes as ClassLabel. The split is named by the file or
    its folder. Tables of paths are read by the source caption_table. Needs the extra `[parquet]`.

    Raises:
        FileNotFoundError: no such files.
        ValueError: pyarrow is not installed, a damaged file, a missing column, or no picture.
    """
    files = files_by_split(data, _NAME)
    if not files:
        raise missing(data / "*.parquet" if data.is_dir() else data, TREE)
    splits = {
        split: _Split(files[split], split, options)
        for split in choose_splits(files, options.splits)
    }
    counts = {name: split.count for name, split in splits.items()}
    names = dict.fromkeys(name for split in splits.values() for name in split.class_names())
    classes = options.class_names or tuple(names)
    return Source("parquet", counts, lambda name: splits[name].read(), classes)


class _Split:
    """The rows of one split, read once without their pictures."""

    def __init__(self, files: list[Path], split: str, options: SourceOptions):
        self.files, self.split, self.options = files, split, options
        schema = schema_of(files[0])
        names = schema.names
        self.image = options.image_field or find_column(files[0], names, IMAGES, "--image-column")
        selected = (self.image, *options.caption_fields, options.key_field)
        for name in filter(None, selected):
            check_column(files[0], names, name)
        kind = str(schema.field(self.image).type)
        if not ("binary" in kind or "bytes" in kind):
            raise ValueError(
                f"{files[0]}: the column {self.image!r} holds {kind}, not pictures; read a table "
                "of paths with the source caption_table"
            )
        captions = [*options.caption_fields] or numbered_columns(names)
        captions = captions or [n for n in CAPTIONS if n in names and n != self.image][:1]
        self.captions = tuple(captions)
        self.key = options.key_field or next((n for n in KEYS if n in names), None)
        coded = _coded_labels(schema)
        field = options.labels_field or ""
        names_of = {field: coded[field]} if field in coded else {}
        self.labels = None if names_of else label_reader(options)
        for name in self.labels.columns if self.labels else ():
            check_column(files[0], names, name)
        if not (names_of or self.labels or captions):
            names_of = {n: coded[n] for n in [*(n for n in LABELS if n in coded), *coded][:1]}
        self.coded: dict[str, tuple[str, ...]] = names_of
        if not (self.captions or self.labels or self.coded):
            raise ValueError(
                f"{files[0]}: name a column with --caption-columns or --labels-column; its "
                f"columns are: {list_columns(names)}"
            )
        if self.coded and not options.labels_field:
            say(f"{files[0]}: the labels are the classes in the column {next(iter(self.coded))!r}")
        report_unused(files[0], names, [self.image, *self._texts()])
        self.index, self.count = Index(), 0
        self.damage: dict[Path, str] = {}
        self.sizes = []
        for file in files:
            before = self.count
            try:
                for row in rows_of(file, self._texts(), 1024):
                    if self.labels:
                        self.labels.note(row)
                    key = self._key(row)
                    self.index.add(stable_hash(key) if key else -1, self.count, 0)
                    self.count += 1
            except ValueError as error:
                self.damage[file] = str(error)
                self.index.add(-1, self.count, 0)
                self.count += 1
            self.sizes.append(self.count - before)
        if self.labels and (doubts := self.labels.doubts()):
            say(f"{files[0]}: {doubts}")
        if self.count == len(self.damage):
            reason = next(iter(self.damage.values()), "they have no rows")
            raise ValueError(f"no picture in {files[0]} and {len(files) - 1} more: {reason}")

    def class_names(self) -> tuple[str, ...]:
        """Return the classes of this split, in order."""
        if self.labels:
            return self.labels.class_names()
        return tuple(name for names in self.coded.values() for name in names)

    def read(self) -> Iterator[Sample | Rejected]:
        """Yield a sample for every row. Of a damaged file the rows that cannot be read are
        rejected, as many as were counted."""
        first = 0
        for file, size in zip(self.files, self.sizes, strict=True):
            done, problem = 0, self.damage.get(file, "the file has changed")
            try:
                for row in rows_of(file, [self.image, *self._texts()]):
                    if done == size - (file in self.damage):
                        break
                    number, done = first + done, done + 1
                    name = self._key(row) or f"{file.stem}/{done - 1}"
                    key = f"parquet/{name}"
                    try:
                        hashed = stable_hash(self._key(row)) if self._key(row) else -1
                        if hashed >= 0 and self.index.positions(hashed)[0] != number:
                            raise ValueError("duplicate key: an earlier row has it too")
                        yield self._sample(key, row)
                    except ValueError as reason:
                        yield Rejected(key, str(reason), self.split)
            except ValueError as reason:
                problem = str(reason)
            for row_number in range(done, size):
                key = f"parquet/{file.name}, row {row_number}"
                yield Rejected(key, f"{problem}; the rest of it is not read", self.split)
            first += size

    def _sample(self, key: str, row: dict[str, Any]) -> Sample:
        picture = row.get(self.image)
        if isinstance(picture, dict):
            picture = picture.get("bytes")
        if not isinstance(picture, bytes):
            raise ValueError(f"no picture in {self.image!a}")
        if len(picture) > MAX_PICTURE_BYTES:
            raise ValueError(f"more than {MAX_PICTURE_BYTES:,} bytes")
        cells = (row.get(name) for name in self.captions)
        separator = self.options.caption_separator
        texts = [caption_of(entry) for cell in cells for entry in listed_cell(cell, separator)]
        labels, difficult = self._labels(row)
        captions: tuple[str, ...] = ()
        dropped: tuple[str, ...] = ()
        if any(texts) or not (labels or difficult or self.labels or self.coded):
            captions, dropped = keep_captions(texts)
        return Sample(
            key,
            picture,
            captions,
            labels=labels,
            difficult=difficult,
            split=self.split,
            dropped=dropped,
        )

    def _labels(self, row: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if self.labels:
            return self.labels.of([row])
        labels = []
        for column, names in self.coded.items():
            value = row.get(column)
            for code in value if isinstance(value, list) else [value]:
                if code is None or code == -1:
                    continue
                if type(code) is not int or not 0 <= code < len(names):
                    raise ValueError(
                        f"no class has the number {code!a:.50}, in the column {column!a}"
                    )
                labels.append(names[code])
        return tuple(dict.fromkeys(labels)), ()

    def _texts(self) -> list[str]:
        """Return the columns to read apart from the picture."""
        columns = self.labels.columns if isinstance(self.labels, LabelReader) else ()
        key = (self.key,) if self.key else ()
        return list(dict.fromkeys([*self.captions, *columns, *self.coded, *key]))

    def _key(self, row: dict[str, Any]) -> str:
        value = row.get(self.key) if self.key else None
        return ascii(value)[1:-1] if isinstance(value, str) else "" if value is None else str(value)


def _coded_labels(schema: Any) -> dict[str, tuple[str, ...]]:
    """Return the class names of the columns that Hugging Face's metadata describes as
    ClassLabel."""
    content = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(content)["info"]["features"] if content else {}
    except (ValueError, LookupError, TypeError):
        return {}
    coded = {}
    for column, feature in features.items() if isinstance(features, dict) else ():
        feature = feature.get("feature", feature) if isinstance(feature, dict) else {}
        names = feature.get("names") if isinstance(feature, dict) else None
        if column in schema.names and isinstance(names, list):
            coded[column] = tuple(map(str, names))
    return coded
