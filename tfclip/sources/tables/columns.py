"""The columns of a table: paths, captions, labels, splits and groups."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfclip.console import say
from tfclip.naming import nearest
from tfclip.sources.sample import SourceOptions
from tfclip.sources.tables.cells import LabelReader, caption_of, listed_cell
from tfclip.sources.tables.delimited import Table

PATHS = "image image_path path file file_name filename filepath image_file image_name img".split()
CAPTIONS = "caption captions text sentence sentences description title comment".split()

_NUMBERED = re.compile(r"(caption|text|sentence)[_ ]?\d+", re.IGNORECASE)


def find_column(path: Path, columns: Sequence[str], usual: Iterable[str], flag: str) -> str:
    """Return the first of the `usual` names (in lower case) that a column has.

    Raises ValueError, naming the `flag` that selects a column, when there is none.
    """
    names = {column.strip().lower(): column for column in reversed(columns)}
    for name in usual:
        if name in names:
            return names[name]
    listing = list_columns(columns) or "none"
    raise ValueError(f"{path}: name a column with {flag}; its columns are: {listing}")


def check_column(path: Path, columns: Sequence[str], name: str) -> str:
    """Return `name` when it is one of the columns; ValueError with the nearest names otherwise."""
    if name in columns:
        return name
    listing = list_columns(nearest(name, columns))
    raise ValueError(f"{path} has no column {name!r}; it has, nearest first: {listing}")


def numbered_columns(columns: Iterable[str]) -> list[str]:
    """Return the columns named like caption_1, "text 2" or sentence3."""
    return [column for column in columns if _NUMBERED.fullmatch(column.strip())]


def report_unused(path: Path, columns: Iterable[str], used: Iterable[str | None]) -> None:
    """Report the columns that are not used."""
    used = set(used)
    if unused := [column for column in columns if column and column not in used]:
        say(f"{path}: columns that are not used: {list_columns(unused)}")


def list_columns(columns: Sequence[str]) -> str:
    """Return the first 20 names, quoted, for a message."""
    return ", ".join(f"{column!a:.40}" for column in columns[:20])


@dataclass(frozen=True)
class Columns:
    """The columns of a table by purpose, and how their cells are read."""

    image: str
    captions: tuple[str, ...]
    caption_separator: str | None
    split: str | None
    group: str | None
    labels: LabelReader | None

    def captions_of(self, row: dict[str, Any]) -> list:
        """Return the captions of a row, not yet checked; an entry may be of any type."""
        cells = (row.get(column) for column in self.captions)
        separator = self.caption_separator
        return [caption_of(entry) for cell in cells for entry in listed_cell(cell, separator)]

    def group_of(self, row: dict[str, Any]) -> str:
        """Return the group id of a row, or ""."""
        value = row.get(self.group) if self.group else None
        return "" if value in (None, "") else str(value)


def table_columns(table: Table, options: SourceOptions, labels: LabelReader | None) -> Columns:
    """Return the columns that the options name; paths and captions also by their usual names.

    Raises:
        ValueError: a named column is missing, or there is none of paths or (without labels)
            captions.
    """
    path, columns = table.path, table.columns
    image = options.image_field or find_column(path, columns, PATHS, "--path-column")
    captions = [*options.caption_fields] or numbered_columns(columns)
    if not captions:
        try:
            captions = [find_column(path, columns, CAPTIONS, "--caption-columns")]
        except ValueError:
            if labels is None:
                raise
    split, group = options.split_field, options.group_field
    selected = (image, *captions, *(labels.columns if labels else ()), split, group)
    for name in filter(None, selected):
        check_column(path, columns, name)
    report_unused(path, columns, selected)
    return Columns(image, tuple(captions), options.caption_separator, split, group, labels)
