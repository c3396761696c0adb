"""Rows of csv, tsv and jsonl files, each with its place, so that it can be read again by itself."""

import codecs
import csv
import io
import json
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from tfclip.console import say

MAX_ROW = 1 << 20
"""Bytes of a line, and characters of a field; what is longer is damage."""

Row = dict[str, Any] | str
"""The values by column, or what is wrong with the row."""


SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_QUOTED = (",", ";")
"""Separators whose fields may be quoted, also in tables of tabs that are called .csv."""
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


class Table:
    """A file whose first line names the columns (csv, tsv), or with an object on each line (jsonl).

    csv quotes as RFC 4180 says, and a quoted field may hold line breaks; tsv knows no quotes, and
    neither do tables of vertical bars, whose fields are stripped of blanks. UTF-16 is read from a
    temporary copy in UTF-8.

    Args:
        path: the file.
        lines: a temporary file to read in its place, with an object on each line.
        separator: what stands between the columns of a csv or tsv; None finds it in the first line
            when the ending is wrong, and says so.

    Raises ValueError for another ending, or a csv or tsv without a line of names.
    """

    def __init__(self, path: Path, separator: str | None = None, lines: Any = None):
        kind = path.suffix.lower() if lines is None else ".jsonl"
        if kind not in (".csv", ".tsv", ".jsonl"):
            raise ValueError(f"{path} is no .csv, .tsv or .jsonl file")
        self.path, self.columns = path, ()
        self._copy = _as_utf8(path) if lines is None else lines
        self._parse = _objects
        self._start = 0
        if kind != ".jsonl":
            usual = "," if kind == ".csv" else "\t"
            delimiter = separator or self._found_separator(usual)
            quotes = delimiter in _QUOTED or (kind == ".csv" and delimiter == "\t")
            quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
            fields = partial(_fields, delimiter=delimiter, quoting=quoting)
            with self.open() as file:
                self._start, names = next(fields(_lines(file, path)), (0, "it is empty"))
            if isinstance(names, list) and delimiter == "|":
                names = [name.strip() for name in names]
            if not isinstance(names, list) or len(set(names)) < len(names):
                problem = "a name stands twice" if isinstance(names, list) else names or "blank"
                raise ValueError(f"{path} does not begin with the names of its columns: {problem}")
            self.columns = tuple(names)
            self._parse = partial(_named, self.columns, fields, delimiter == "|")
        else:
            first = next((row for _, _, row in self.rows() if isinstance(row, dict)), {})
            self.columns = tuple(first)

    def open(self) -> BinaryIO:
        """Open the content, in which `rows` tells the places."""
        return open(self.path if self._copy is None else self._copy.name, "rb")

    def _found_separator(self, usual: str) -> str:
        """Return what the first line is separated by: the usual sign where it holds it."""
        with self.open() as file:
            line = _text(next(_lines(file, self.path), b""))
        if usual in line:
            return usual
        # The sign that makes most columns; a name of a column holds none of them, as a rule.
        counts = {sign: line.count(sign) for sign in SEPARATORS if sign != usual}
        found = max(counts, key=lambda sign: counts[sign])
        if not counts[found]:
            return usual
        say(f"{self.path}: its columns are separated by {SEPARATORS[found]}")
        return found

    def rows(self) -> Iterator[tuple[int, int, Row]]:
        """Yield the place, the length in bytes and the values of every row that is not blank.

        Raises ValueError for a line that is too long to be a row.
        """
        with self.open() as file:
            file.seek(self._start)
            offset = self._start
            for length, row in self._parse(_lines(file, self.path)):
                if row is not None:
                    yield offset, length, row
                offset += length

    def at(self, file: BinaryIO, offset: int, length: int) -> Row:
        """Return one row again, from a file that `open` gave."""
        file.seek(offset)
        return next(self._parse(io.BytesIO(file.read(length))))[1]


def _as_utf8(path: Path) -> Any:
    """Return a temporary copy in UTF-8 of a file in UTF-16, None for a file of another encoding."""
    with path.open("rb") as file:
        encoding = _UTF16.get(file.read(2))
        if encoding is None:
            return None
        copy = tempfile.NamedTemporaryFile(suffix=path.suffix)  # noqa: SIM115 it lives with the table
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        while chunk := file.read(MAX_ROW):
            copy.write(decoder.decode(chunk).encode("utf-8", "surrogatepass"))
        copy.write(decoder.decode(b"", final=True).encode("utf-8", "surrogatepass"))
        copy.flush()
    say(f"{path}: read as {encoding.upper()}")
    return copy


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


def _named(
    columns: tuple[str, ...], fields: Any, stripped: bool, lines: Iterable[bytes]
) -> Iterator:
    for length, row in fields(lines):
        if isinstance(row, list):
            if len(row) == len(columns):
                values = (value.strip() for value in row) if stripped else row
                row = dict(zip(columns, values, strict=True))
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
