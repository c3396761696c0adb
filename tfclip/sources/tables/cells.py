"""What the cells of a table hold: lists of captions, and the classes of a picture."""

import ast
import json
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from tfclip.naming import unknown
from tfclip.sources.sample import SourceOptions

LABEL_SEPARATORS = ("|", ";")
MOST_CLASSES = 20_000
MAX_LIST = 100_000
"""Characters of a list in a cell; what is longer is damage."""
PRESENT, ABSENT = ("1", "1.0", "true", "yes"), ("", "0", "0.0", "false", "no")
IGNORED = ("-1", "-1.0")
"""Of a column of 0 and 1: not known, or difficult to see."""


def listed_cell(cell: object, separator: str | None) -> list:
    """Return the entries of a cell: of a list, of a list written as JSON or Python, or the parts
    between separators; a cell of one text is itself.

    >>> listed_cell('["a dog", "a cat"]', None), listed_cell("a dog/a cat", "/")
    (['a dog', 'a cat'], ['a dog', 'a cat'])
    """
    if isinstance(cell, list):
        return cell
    if not isinstance(cell, str):
        return [cell]
    text = cell.strip()
    if text.startswith("[") and text.endswith("]") and len(text) <= MAX_LIST:
        for read in (json.loads, ast.literal_eval):
            try:
                found = read(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(found, list) and all(isinstance(entry, str) for entry in found):
                return found
    if separator is not None:
        return [part.strip() for part in cell.split(separator) if part.strip()]
    return [cell]


def label_reader(options: SourceOptions) -> "LabelReader | None":
    """Return what reads the labels of rows, None when the options name no column of them.

    Raises:
        ValueError: both kinds of columns.
    """
    if options.labels_field and options.label_fields:
        raise ValueError("--labels-column and --label-columns: give one of them")
    if not (options.labels_field or options.label_fields):
        return None
    return LabelReader(options)


class LabelReader:
    """The classes that the rows of a table show.

    Attributes:
        columns: those that are read.
    """

    def __init__(self, options: SourceOptions):
        self._list, self._each = options.labels_field, options.label_fields
        self._separator = options.labels_separator
        self.columns = self._each or (self._list,)
        self._given = options.class_names
        self._found: dict[str, None] = {}

    def note(self, row: dict[str, Any]) -> None:
        """Take note of the classes and the separator of a row, before `class_names` is asked."""
        if self._each:
            return
        cell = row.get(self._list)
        if self._separator is None and isinstance(cell, str):
            self._separator = next((sign for sign in LABEL_SEPARATORS if sign in cell), None)
            if self._separator is not None:  # an earlier cell of one label holds no separator
                return self.note(row)
        try:
            self._found.update(dict.fromkeys(self._names(row)))
        except ValueError:
            return  # told when it is read again
        if len(self._found) > MOST_CLASSES:
            raise ValueError(
                f"the column {self._list!r} names more than {MOST_CLASSES:,} classes; is it one of "
                "captions?"
            )

    def class_names(self) -> tuple[str, ...]:
        """Return the classes in the order given, or of the columns, or sorted."""
        names = self._given or self._each or tuple(sorted(self._found))
        if self._each and self._given and set(self._given) != set(self._each):
            raise ValueError("--class-names must hold each of --label-columns once")
        return names

    def of(self, rows: Iterable[dict[str, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the classes of a picture, and those that are neither present nor absent.

        Raises:
            ValueError: a cell that says none of it, or a class that is not among the given ones.
        """
        present, ignored = set(), set()
        for row in rows:
            if not self._each:
                present |= set(self._names(row))
                continue
            for name in self._each:
                said = str(row.get(name) if row.get(name) is not None else "").strip().lower()
                if said in IGNORED:
                    ignored.add(name)
                elif said in PRESENT:
                    present.add(name)
                elif said not in ABSENT:
                    raise ValueError(f"the class {name!a:.100} is {said!a:.50}, allowed: 0, 1, -1")
        for name in sorted(present):
            if name not in self._order:
                raise unknown("class", name[:100], tuple(self._order))
        place = self._order.__getitem__
        return tuple(sorted(present, key=place)), tuple(sorted(ignored - present, key=place))

    @cached_property
    def _order(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.class_names())}

    def _names(self, row: dict[str, Any]) -> list[str]:
        cell = row.get(self._list)
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            return []
        names = [str(name).strip() for name in listed_cell(cell, self._separator)]
        for name in names:
            if not (name.isprintable() and 0 < len(name) <= 200):
                raise ValueError(f"no name of a class: {name!a:.100}")
        return names
