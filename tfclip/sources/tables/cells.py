"""Parsing of table cells: lists of captions, and the labels of a picture."""

import ast
import json
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from tfclip.naming import unknown
from tfclip.sources.safe_paths import is_class_name
from tfclip.sources.sample import SourceOptions

LABEL_SEPARATORS = ("|", ";")
MOST_CLASSES = 20_000
TEXT_FIELDS = ("raw", "caption", "text", "sentence")
MAX_LIST = 100_000
"""The longest list in a cell, in characters; longer text is taken for one caption."""
PRESENT, ABSENT = ("1", "1.0", "true", "yes"), ("", "0", "0.0", "false", "no")
IGNORED = ("-1", "-1.0")
"""Values in a column of 0 and 1 that mean unknown or difficult."""


def listed_cell(cell: object, separator: str | None) -> list:
    """Return the entries of a cell: a list, a list written as JSON or Python (also a tuple or
    set), or the parts between `separator`. A cell with a single text is one entry.

    >>> listed_cell('["a dog", "a cat"]', None), listed_cell("a dog/a cat", "/")
    (['a dog', 'a cat'], ['a dog', 'a cat'])
    """
    if isinstance(cell, list):
        return cell
    if not isinstance(cell, str):
        return [cell]
    text = cell.strip()
    if text[:1] + text[-1:] in ("[]", "()", "{}") and len(text) <= MAX_LIST:
        for read in (json.loads, ast.literal_eval):
            try:
                entries = read(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(entries, set):
                entries = sorted(entries, key=str)
            if isinstance(entries, list | tuple) and all(isinstance(e, str) for e in entries):
                return list(entries)
    if separator is not None:
        return [part.strip() for part in cell.split(separator) if part.strip()]
    return [cell]


def caption_of(entry: object) -> object:
    """Return the text of an entry that is an object with one, as COCO's `sentences` are.

    >>> caption_of({"raw": "a dog", "tokens": ["a", "dog"]}), caption_of("a cat")
    ('a dog', 'a cat')
    """
    if isinstance(entry, dict):
        return next((entry[name] for name in TEXT_FIELDS if name in entry), entry)
    return entry


def label_reader(options: SourceOptions) -> "LabelReader | None":
    """Return the reader of the label columns that the options name, or None.

    Raises:
        ValueError: the options name both kinds of label columns.
    """
    if options.labels_field and options.label_fields:
        raise ValueError("received --labels-column and --label-columns; give only one of them")
    if not (options.labels_field or options.label_fields):
        return None
    return LabelReader(options)


class LabelReader:
    """Reads the labels of pictures from the rows of a table.

    Call `note` with every row before `class_names` or `of`.

    Attributes:
        columns: the columns that are read.
    """

    def __init__(self, options: SourceOptions):
        self._list, self._each = options.labels_field or "", options.label_fields
        self._separator = options.labels_separator
        self.columns = self._each or (self._list,)
        self._given = options.class_names
        self._seen: dict[str, None] = {}

    def note(self, row: dict[str, Any]) -> None:
        """Collect the class names of a row, and find the separator of the list column."""
        if self._each:
            return
        cell = row.get(self._list)
        if self._separator is None and isinstance(cell, str):
            self._separator = next((one for one in LABEL_SEPARATORS if one in cell), None)
            if self._separator is not None:  # a cell with one label has no separator
                return self.note(row)
        try:
            self._seen.update(dict.fromkeys(self._names(row)))
        except ValueError:
            return  # reported when the row is read
        if len(self._seen) > MOST_CLASSES:
            raise ValueError(
                f"the column {self._list!r} has more than {MOST_CLASSES:,} classes; is it a column "
                "of captions?"
            )

    def class_names(self) -> tuple[str, ...]:
        """Return the classes in the order of the options, of the columns, or sorted by name."""
        names = self._given or self._each or tuple(sorted(self._seen))
        if self._each and self._given and set(self._given) != set(self._each):
            raise ValueError("--class-names must hold each of --label-columns once")
        return names

    def doubts(self) -> str:
        """Return what speaks against the class names that were found in the cells, or ""."""
        names = self._seen
        doubts = []
        for sign in (",", ";", "|", "/", " "):
            split = {name: [part.strip() for part in name.split(sign)] for name in names}
            # Commas and blanks are in many names; it is the parts that are classes themselves.
            joined = [
                name
                for name, parts in split.items()
                if len(parts) > 1 and sum(part in names for part in parts) * 2 >= len(parts)
            ]
            if joined:
                doubts.append(
                    f"{joined[0]!a:.100} may be several classes; if {sign!r} separates them, add "
                    f"--labels-separator {sign!r}"
                )
        folded: dict[str, str] = {}
        for name in names:
            other = folded.setdefault(name.casefold(), name)
            if other != name:
                doubts.append(f"{other!a:.100} and {name!a:.100} differ in upper case alone")
                break
        return "; ".join(doubts)

    def of(self, rows: Iterable[dict[str, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the present classes of a picture, and those marked as unknown or difficult.

        Args:
            rows: all rows of the picture.

        Raises:
            ValueError: an invalid value, or a class that is not among `class_names`.
        """
        present, ignored = set(), set()
        for row in rows:
            if not self._each:
                present |= set(self._names(row))
                continue
            for name in self._each:
                value = str(row.get(name) if row.get(name) is not None else "").strip().lower()
                if value in IGNORED:
                    ignored.add(name)
                elif value in PRESENT:
                    present.add(name)
                elif value not in ABSENT:
                    raise ValueError(f"the class {name!a:.100} is {value!a:.50}, allowed: 0, 1, -1")
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
            if not is_class_name(name):
                raise ValueError(f"invalid class name: {name!a:.100}")
        return names
