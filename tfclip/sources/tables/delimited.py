"""Rows of csv, tsv and jsonl files with their positions, for random access."""

import codecs
import csv
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

from tfclip.console import say
from tfclip.sources.safe_paths import stand_in

MAX_BEGINNING = 1024
MAX_ROW = 1 << 20
"""The longest line in bytes, and the longest field in characters; more is taken for damage."""

Row = dict[str, Any] | str
"""The values by column, or the problem of a malformed row."""

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_QUOTED = (",", ";")
"""Separators whose fields may be quoted; so may the fields of a .csv file with tabs."""
_SEPARATOR_LINE = re.compile(rb"sep=([,;|\t])\r?\n", re.IGNORECASE)
_UTF8_MARK = codecs.BOM_UTF8
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


class Table:
    """A csv or tsv file whose first line names the columns, or a jsonl file (one object per line).

    csv is quoted as in RFC 4180, and a quoted field may hold line breaks. tsv has no quotes, nor
    have tables separated by vertical bars, whose fields are stripped. UTF-16 is read from a
    temporary copy in UTF-8.

    Attributes:
        path: the file.
        columns: the names of the columns; of a jsonl file the keys of its first object.

    Args:
        path: the file.
        separator: the character between the columns of a csv or tsv. None takes that of the
            extension or, when the first line does not contain it, the most frequent other one,
            which is reported.
        lines: a temporary JSON-lines file to read in the place of `path`.

    Raises ValueError for another extension, or a csv or tsv without a header line.
    """

    def __init__(self, path: Path, separator: str | None = None, lines: Any = None):
        kind = path.suffix.lower() if lines is None else ".jsonl"
        if kind == ".json":  # one object per line, see `json_rows`
            kind = ".jsonl"
        if kind not in (".csv", ".tsv", ".jsonl"):
            raise ValueError(f"received {path}; allowed: a .csv, .tsv, .json or .jsonl file")
        self.path = path
        self.columns: tuple[str, ...] = ()
        self._copy = _as_utf8(path) if lines is None else lines
        self._parse: Callable[[Iterable[bytes]], Iterator[tuple[int, Row | None]]] = _objects
        with self.open() as file:
            beginning = file.read(MAX_BEGINNING)
        self._start = len(_UTF8_MARK) if beginning.startswith(_UTF8_MARK) else 0
        if instead := stand_in(beginning):
            raise ValueError(f"{path} is {instead}")
        if kind != ".jsonl":
            if match := _SEPARATOR_LINE.match(beginning, self._start):  # as Excel writes it
                separator = separator or match[1].decode()
                self._start = match.end()
            usual = "," if kind == ".csv" else "\t"
            delimiter = separator or self._detect_separator(usual)
            quoted = delimiter in _QUOTED or (kind == ".csv" and delimiter == "\t")
            fields = partial(_fields, delimiter=delimiter, quoted=quoted)
            with self.open() as file:
                file.seek(self._start)
                length, names = next(fields(_lines(file, path)), (0, "it is empty"))
            self._start += length
            if isinstance(names, list) and delimiter == "|":
                names = [name.strip() for name in names]
            if not isinstance(names, list) or len(set(names)) < len(names):
                problem = (
                    "a name occurs twice" if isinstance(names, list) else names or "it is blank"
                )
                raise ValueError(f"the first line of {path} must name the columns: {problem}")
            self.columns = tuple(names)
            self._parse = partial(_named, self.columns, fields, delimiter == "|")
        else:
            problem = "it is empty"
            for _, _, row in self.rows():
                if isinstance(row, dict):
                    self.columns = tuple(row)
                    return
                problem = f"the first: {row}" if problem == "it is empty" else problem
            raise ValueError(f"{path} has no row that is a JSON object; {problem}")

    def open(self) -> BinaryIO:
        """Open the content; the positions that `rows` yields refer to it."""
        return open(self.path if self._copy is None else self._copy.name, "rb")

    def _detect_separator(self, usual: str) -> str:
        """Return the separator of the first line: the usual one if the line contains it."""
        with self.open() as file:
            file.seek(self._start)
            line = _text(next(_lines(file, self.path), b""))
        if usual in line:
            return usual
        # The most frequent one: names of columns rarely contain any of them.
        counts = {other: line.count(other) for other in SEPARATORS if other != usual}
        separator = max(counts, key=lambda other: counts[other])
        if not counts[separator]:
            return usual
        say(f"{self.path}: its columns are separated by {SEPARATORS[separator]}")
        return separator

    def rows(self) -> Iterator[tuple[int, int, Row]]:
        """Yield the offset, the length in bytes and the values of every row that is not blank.

        Raises ValueError for a line longer than `MAX_ROW`.
        """
        with self.open() as file:
            file.seek(self._start)
            offset = self._start
            for length, row in self._parse(_lines(file, self.path)):
                if row is not None:
                    yield offset, length, row
                offset += length

    def at(self, file: BinaryIO, offset: int, length: int) -> Row:
        """Return the row at a position that `rows` yielded, from a file that `open` returned."""
        file.seek(offset)
        row = next(self._parse(io.BytesIO(file.read(length))))[1]
        return "the row is blank; the file has changed" if row is None else row


def _as_utf8(path: Path) -> Any:
    """Return a temporary UTF-8 copy of a UTF-16 file; None for a file in another encoding."""
    with path.open("rb") as file:
        encoding = _UTF16.get(file.read(2))
        if encoding is None:
            return None
        copy = tempfile.NamedTemporaryFile(suffix=path.suffix)  # noqa: SIM115 exists as long as the table
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
    # Invalid UTF-8 becomes lone surrogates, which `check_text` and `is_name` refuse.
    return line.decode(errors="surrogateescape")


def _fields(
    lines: Iterable[bytes], delimiter: str, quoted: bool
) -> Iterator[tuple[int, list[str] | str | None]]:
    """Yield the length of each row in bytes with its fields, its problem, or None for a blank
    row."""
    taken = 0
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE

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
) -> Iterator[tuple[int, Row | None]]:
    for length, row in fields(lines):
        if not isinstance(row, list):
            yield length, row
        elif len(row) == len(columns):
            values = (value.strip() for value in row) if stripped else row
            yield length, dict(zip(columns, values, strict=True))
        else:
            yield length, f"{len(row)} fields, but the first line names {len(columns)} columns"


def _objects(lines: Iterable[bytes]) -> Iterator[tuple[int, Row | None]]:
    for line in lines:
        row: Row | None = None
        if line.strip():
            try:
                value = json.loads(_text(line))
                row = value if isinstance(value, dict) else "not a JSON object"
            except RecursionError:
                row = "nested too deeply"
            except ValueError as error:
                row = f"malformed JSON: {error}"
        yield len(line), row
