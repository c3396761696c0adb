"""Parquet and Arrow tables with pictures inside, as `datasets` and img2dataset write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tfclip.console import say
from tfclip.naming import nearest
from tfclip.sources.index import Index
from tfclip.sources.safe_paths import MAX_PICTURE_BYTES, keep_captions, missing
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, files_by_split, stable_hash
from tfclip.sources.tables.arrow_files import rows_of, schema_of
from tfclip.sources.tables.cells import LabelReader, label_reader, listed_cell

TREE = (
    "a .parquet or .arrow file, or DIR/*.parquet (train-00000-of-00002.parquet), or what "
    "datasets.save_to_disk writes: DIR/<split>/*.arrow"
)
IMAGES = "image img picture jpg jpeg png webp image_bytes bytes".split()
CAPTIONS = "caption captions text sentence sentences description title txt".split()
KEYS = "key id image_id __key__ filename file_name image_name".split()
LABELS = "label labels class".split()

_NAME = re.compile(r"\.(parquet|arrow)$")
_NUMBERED = re.compile(r"(caption|text|sentence)[_ ]?\d+", re.IGNORECASE)


def open_parquet(data: Path, options: SourceOptions) -> Source:
    """Open `data`: tables whose rows hold a picture each, with captions or classes.

    The picture is in the column `options.image_field`, or one named like it: bytes, or an object
    with `bytes` as Hugging Face's Image. Captions are texts or lists of texts in
    `options.caption_fields`. Classes are in `options.labels_field`, or in a column that Hugging
    Face's metadata calls a ClassLabel. The split is what the name of a file or folder speaks of.
    Tables of paths are read by the source caption_table. Needs the extra `[parquet]`.

    Raises:
        FileNotFoundError: no such files.
        ValueError: pyarrow is not installed, damaged files, or no column of pictures.
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
    """The rows of one split, gone through once without their pictures."""

    def __init__(self, files: list[Path], split: str, options: SourceOptions):
        self.files, self.split, self.options = files, split, options
        schema = schema_of(files[0])
        self.image = _column(schema, options.image_field, IMAGES, files[0], "--image-column")
        kind = str(schema.field(self.image).type)
        if not ("binary" in kind or "bytes" in kind):
            raise ValueError(
                f"{files[0]}: the column {self.image!r} holds no pictures but {kind}; tables of "
                "paths are read by the source caption_table"
            )
        names = schema.names
        for name in options.caption_fields:
            _column(schema, name, (), files[0], "--caption-columns")
        captions = options.caption_fields or [n for n in names if _NUMBERED.fullmatch(n)]
        captions = captions or [n for n in CAPTIONS if n in names and n != self.image][:1]
        self.captions = tuple(captions)
        if options.key_field:
            _column(schema, options.key_field, (), files[0], "--key-column")
        self.key = options.key_field or next((n for n in KEYS if n in names), None)
        coded = _coded_labels(schema)
        asked = options.labels_field
        names_of = {asked: coded[asked]} if asked in coded else {}
        self.labels = None if names_of else label_reader(options)
        for name in self.labels.columns if self.labels else ():
            _column(schema, name, (), files[0], "--labels-column")
        if not (names_of or self.labels or captions):
            names_of = {n: coded[n] for n in [*(n for n in LABELS if n in coded), *coded][:1]}
        self.coded: dict[str, tuple[str, ...]] = names_of
        if not (self.captions or self.labels or self.coded):
            known = ", ".join(f"{name!a:.40}" for name in names[:20])
            raise ValueError(
                f"{files[0]}: name a column with --caption-columns or --labels-column; its "
                f"columns are: {known}"
            )
        if self.coded and not options.labels_field:
            say(f"{files[0]}: the classes in the column {next(iter(self.coded))!r} are the labels")
        self.index, self.count = Index(), 0
        self.damage: dict[Path, str] = {}
        for file in files:
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
        if self.count == len(self.damage):
            told = next(iter(self.damage.values()), "they hold no row")
            raise ValueError(f"no picture in {files[0]} and {len(files) - 1} more: {told}")

    def class_names(self) -> tuple[str, ...]:
        """Return the classes that are there."""
        if self.labels:
            return self.labels.class_names()
        return tuple(name for names in self.coded.values() for name in names)

    def read(self) -> Iterator[Sample | Rejected]:
        """Yield a sample for every row."""
        number = -1
        for file in self.files:
            row_number = -1
            try:
                for row in rows_of(file, [self.image, *self._texts()]):
                    row_number, number = row_number + 1, number + 1
                    name = self._key(row) or f"{file.stem}/{row_number}"
                    key = f"parquet/{name}"
                    try:
                        hashed = stable_hash(self._key(row)) if self._key(row) else -1
                        if hashed >= 0 and self.index.positions(hashed)[0] != number:
                            raise ValueError("duplicate key: an earlier row has it too")
                        yield self._sample(key, row)
                    except ValueError as reason:
                        yield Rejected(key, str(reason), self.split)
            except ValueError as reason:
                number += 1
                yield Rejected(f"parquet/{file.name}", f"{reason}; the rest is lost", self.split)

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
        said = [text for cell in cells for text in listed_cell(cell, separator)]
        labels, difficult = self._labels(row)
        captions, dropped = (), ()
        if any(said) or not (labels or difficult or self.labels or self.coded):
            captions, dropped = keep_captions(said)
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
        found = []
        for column, names in self.coded.items():
            value = row.get(column)
            for code in value if isinstance(value, list) else [value]:
                if code is None or code == -1:
                    continue
                if type(code) is not int or not 0 <= code < len(names):
                    raise ValueError(f"no class has the number {code!a:.50} in {column!a}")
                found.append(names[code])
        return tuple(dict.fromkeys(found)), ()

    def _texts(self) -> list[str]:
        columns = self.labels.columns if isinstance(self.labels, LabelReader) else ()
        key = (self.key,) if self.key else ()
        return list(dict.fromkeys([*self.captions, *columns, *self.coded, *key]))

    def _key(self, row: dict[str, Any]) -> str:
        value = row.get(self.key) if self.key else None
        return ascii(value)[1:-1] if isinstance(value, str) else "" if value is None else str(value)


def _column(schema: Any, given: str | None, usual: list[str], file: Path, flag: str) -> str:
    if given is not None:
        if given in schema.names:
            return given
        known = ", ".join(f"{n!a:.40}" for n in nearest(given, schema.names)[:20])
        raise ValueError(f"{file} has no column {given!r}; it has, nearest first: {known}")
    for name in usual:
        if name in schema.names:
            return name
    known = ", ".join(f"{name!a:.40}" for name in schema.names[:20])
    raise ValueError(f"{file}: name a column with {flag}; its columns are: {known}")


def _coded_labels(schema: Any) -> dict[str, tuple[str, ...]]:
    """Return the columns of numbers that Hugging Face's metadata names the classes of."""
    content = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(content)["info"]["features"] if content else {}
    except (ValueError, LookupError, TypeError):
        return {}
    found = {}
    for column, feature in features.items() if isinstance(features, dict) else ():
        feature = feature.get("feature", feature) if isinstance(feature, dict) else {}
        names = feature.get("names") if isinstance(feature, dict) else None
        if column in schema.names and isinstance(names, list):
            found[column] = tuple(map(str, names))
    return found
