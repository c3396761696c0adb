"""Rows of csv, tsv and jsonl files, each with its place, so that it can be read again by itself."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

MAX_ROW = 1 << 20
"""Bytes of a line, and characters of a field; what is longer is damage."""

Row = dict[str, Any] | str
"""The values by column, or what is wrong with the row."""


class Table:
    """A file whose first line names the columns (csv, tsv), or with an object on each line (jsonl).

    csv quotes as RFC 4180 says, and a quoted field may hold line breaks; tsv knows no quotes.

    Raises ValueError for another ending, or a csv or tsv without a line of names.
    """

    def __init__(self, path: Path):
        kind = path.suffix.lower()
        if kind not in (".csv", ".tsv", ".jsonl"):
            raise ValueError(f"{path} is no .csv, .tsv or .jsonl file")
        self.path, self.columns = path, ()
        self._parse = _objects
        self._start = 0
        if kind != ".jsonl":
            quoting = csv.QUOTE_MINIMAL if kind == ".csv" else csv.QUOTE_NONE
            delimiter = "," if kind == ".csv" else "\t"
            fields = partial(_fields, delimiter=delimiter, quoting=quoting)
            with path.open("rb") as file:
                self._start, names = next(fields(_lines(file, path)), (0, "it is empty"))
            if not isinstance(names, list) or len(set(names)) < len(names):
                problem = "a name stands twice" if isinstance(names, list) else names or "blank"
                raise ValueError(f"{path} does not begin with the names of its columns: {problem}")
            self.columns = tuple(names)
            self._parse = partial(_named, self.columns, fields)
        else:
            first = next((row for _, _, row in self.rows() if isinstance(row, dict)), {})
            self.columns = tuple(first)

    def rows(self) -> Iterator[tuple[int, int, Row]]:
        """Yield the place, the length in bytes and the values of every row that is not blank.

        Raises ValueError for a line that is too long to be a row.
        """
        with self.path.open("rb") as file:
            file.seek(self._start)
            offset = self._start
            for length, row in self._parse(_lines(file, self.path)):
                if row is not None:
                    yield offset, length, row
                offset += length

    def at(self, file: BinaryIO, offset: int, length: int) -> Row:
        """Return one row again."""
        file.seek(offset)
        return next(self._parse(io.BytesIO(file.read(length))))[1]


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    while line := file.readline(MAX_ROW + 1):
        if len(line) > MAX_ROW:
            place = file.tell() - len(line)
            raise ValueError(f"{path}, byte {place:,}: a line of more than {MAX_ROW:,} bytes")
        yield line


def _text(line: bytes) -> str:
    # What is not UTF-8 becomes lone surrogates, which no caption and no name may hold.
    return line.decode("utf-8-sig", errors="surrogateescape")


def _fields(
    lines: Iterable[bytes], delimiter: str, quoting: int
) -> Iterator[tuple[int, list[str] | str | None]]:
    """Yield the bytes that each row took, and its fields, None when it is blank."""
    taken = 0

    def counted() -> Iterator[str]:
        nonlocal taken
        for line in lines:
            taken += len(line)
            yield _text(line)

    csv.field_size_limit(MAX_ROW)
    reader = csv.reader(counted(), delimiter=delimiter, quoting=quoting, strict=True)
    while True:
        row: list[str] | str | None
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = f"damaged row: {error}"
        yield taken, (row if isinstance(row, str) or any(row) else None)
        taken = 0


def _named(columns: tuple[str, ...], fields: Any, lines: Iterable[bytes]) -> Iterator:
    for length, row in fields(lines):
        if isinstance(row, list):
            if len(row) == len(columns):
                row = dict(zip(columns, row, strict=True))
            else:
                row = f"{len(row)} fields, the first line names {len(columns)}"
        yield length, row


def _objects(lines: Iterable[bytes]) -> Iterator[tuple[int, Row | None]]:
    for line in lines:
        row: Row | None = None
        if line.strip():
            try:
                found = json.loads(_text(line))
                row = found if isinstance(found, dict) else "no JSON object"
            except RecursionError:
                row = "nested too deeply"
            except ValueError as error:
                row = f"no JSON: {error}"
        yield len(line), row
