"""Which columns of a table hold paths, captions, classes, splits and groups."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tfclip.naming import nearest
from tfclip.sources.sample import SourceOptions
from tfclip.sources.tables.cells import LabelReader, listed_cell
from tfclip.sources.tables.delimited import Table

PATHS = "image image_path path file file_name filename filepath image_file image_name img".split()
CAPTIONS = "caption captions text sentence sentences description title comment".split()

_NUMBERED = re.compile(r"(caption|text|sentence)[_ ]?\d+", re.IGNORECASE)


def _column(table: Table, given: str | None, usual: Iterable[str], flag: str) -> str:
    names = {column.strip().lower(): column for column in reversed(table.columns)}
    if given is not None:
        if given in table.columns:
            return given
        known = _told(nearest(given, table.columns))
        raise ValueError(f"{table.path} has no column {given!r}; it has, nearest first: {known}")
    for name in usual:
        if name in names:
            return names[name]
    known = _told(table.columns) or "none"
    raise ValueError(f"{table.path}: name a column with {flag}; its columns are: {known}")


def _told(columns: Sequence[str]) -> str:
    return ", ".join(f"{column!a:.40}" for column in columns[:20])


@dataclass(frozen=True)
class Columns:
    """What the columns of a table hold."""

    image: str
    captions: tuple[str, ...]
    caption_separator: str | None
    split: str | None
    group: str | None
    labels: LabelReader | None

    def captions_of(self, row: dict[str, Any]) -> list:
        """Return the captions of a row, not yet checked."""
        cells = (row.get(column) for column in self.captions)
        return [text for cell in cells for text in listed_cell(cell, self.caption_separator)]

    def group_of(self, row: dict[str, Any]) -> str:
        """Return what the pictures of one group have in common, "" without."""
        value = row.get(self.group) if self.group else None
        return "" if value in (None, "") else str(value)


def table_columns(table: Table, options: SourceOptions, labels: LabelReader | None) -> Columns:
    """Return the columns that the options name, or that are called like them.

    Raises:
        ValueError: one that is not there, or none of paths or captions.
    """
    image = _column(table, options.image_field, PATHS, "--path-column")
    captions = [_column(table, name, (), "") for name in options.caption_fields]
    if not captions:
        captions = [column for column in table.columns if _NUMBERED.fullmatch(column.strip())]
    if not captions:
        try:
            captions = [_column(table, None, CAPTIONS, "--caption-columns")]
        except ValueError:
            if labels is None:
                raise
    for name in labels.columns if labels else ():
        _column(table, name, (), "")
    split = options.split_field and _column(table, options.split_field, (), "")
    group = options.group_field and _column(table, options.group_field, (), "")
    return Columns(image, tuple(captions), options.caption_separator, split, group, labels)
