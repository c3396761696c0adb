"""Streaming reader of large JSON files: the elements of their arrays, one at a time."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tfclip.sources.safe_paths import stand_in

CHUNK = 1 << 18
MAX_ELEMENT = 1 << 26
"""Bytes. A longer element is taken for damage."""

_SPACE = re.compile(r"[ \t\n\r]*")
_WHOLE = re.compile(r"\s*([0-9]+)(?:\.0*)?\s*", re.ASCII)
_DECODER = json.JSONDecoder()
_MARK = "\xef\xbb\xbf"  # UTF-8's byte order mark, read as Latin-1
_LONGEST_TOKEN = len("-Infinity")  # a token that is cut off is reported at its first byte
_UNFINISHED = object()


class Element(NamedTuple):
    """One element of an array: the name of the array ("" for the top-level one), the position of
    the element in bytes, and its value."""

    array: str
    offset: int
    length: int
    value: Any


def walk_arrays(path: Path) -> Iterator[Element]:
    """Yield the elements of a JSON file that is one array, or one object that holds arrays.

    Other members of the object and a byte order mark are skipped. Bytes that are not UTF-8 become
    lone surrogates, as in Python's file names.

    Raises ValueError, with the file and the byte offset, when the file does not have this layout or
    is truncated.
    """
    with path.open("rb") as file:
        reader = _Reader(file)
        try:
            reader.skip_mark()
            yield from _walk(reader)
        except ValueError as error:
            raise ValueError(f"{path}, byte {reader.place:,}: {error}") from None


def read_value(file: BinaryIO, offset: int, length: int) -> Any:
    """Return the element at a position that `walk_arrays` reported."""
    file.seek(offset)
    return _loads(file.read(length).decode("latin-1"))


def id_of(element: Any, *names: str) -> int:
    """Return the id in the first of the fields `names` that holds one; -1 when none does.

    Every form of `whole_number` is accepted; pandas writes a column with gaps as 42.0.

    >>> id_of({"id": None, "image_id": "000042"}, "id", "image_id"), id_of({}, "id")
    (42, -1)
    """
    fields = (element.get(name) for name in names) if isinstance(element, dict) else ()
    return next((number for field in fields if (number := whole_number(field)) >= 0), -1)


def whole_number(value: Any) -> int:
    """Return an integer from 0 to 2^63 - 1 given as an integer, a float or a string; otherwise -1.

    >>> [whole_number(value) for value in (7, 7.0, "007", "7.0", 7.5, True, None, "seven", -7)]
    [7, 7, 7, 7, -1, -1, -1, -1, -1]
    """
    if isinstance(value, str) and len(value) <= 40 and (match := _WHOLE.fullmatch(value)):
        value = int(match[1])
    if type(value) is float and value.is_integer() and abs(value) < 1 << 53:
        value = int(value)
    return value if type(value) is int and 0 <= value < 1 << 63 else -1


def _loads(latin: str) -> Any:
    return json.loads(latin.encode("latin-1").decode(errors="surrogateescape"))


def _walk(reader: "_Reader") -> Iterator[Element]:
    if reader.take("["):
        yield from _elements(reader, "")
    elif reader.take("{"):
        while not reader.take("}"):
            name = str(reader.value().value)
            reader.expect(":")
            if reader.take("["):
                yield from _elements(reader, name)
            else:
                reader.value()
            reader.comma_unless("}")
    else:
        instead = stand_in(reader.text[:1024].encode("latin-1"))
        raise ValueError(instead or "neither a JSON array nor an object")
    reader.expect_end()


def _elements(reader: "_Reader", array: str) -> Iterator[Element]:
    while not reader.take("]"):
        yield reader.value(array)
        reader.comma_unless("]")


class _Reader:
    """Reads values and punctuation from the front of a file.

    The text is decoded as Latin-1, which maps every byte to one character, so that positions in the
    text are positions in the file; the punctuation of JSON is ASCII. Values with other characters
    are decoded again as UTF-8.
    """

    def __init__(self, file: BinaryIO):
        self.file, self.text, self.start, self.at = file, "", 0, 0

    @property
    def place(self) -> int:
        """The offset of the next byte."""
        return self.start + self.at

    def skip_mark(self) -> None:
        """Skip a byte order mark at the beginning."""
        self._more()
        self.at += len(_MARK) * self.text.startswith(_MARK)

    def peek(self) -> str:
        """Return the next character that is not white space, without consuming it."""
        while True:
            if self.text[self.at : self.at + 1] > " ":
                return self.text[self.at]
            if self._skip_space():
                return self.text[self.at]
            if not self._more():
                raise ValueError("the file is truncated")

    def _skip_space(self) -> bool:
        """Skip white space; return whether another character follows in the text."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.at < len(self.text)

    def take(self, sign: str) -> bool:
        """Consume the character `sign` if it comes next; return whether it did."""
        if self.peek() != sign:
            return False
        self.at += 1
        return True

    def expect(self, sign: str) -> None:
        """Consume the character `sign`, which must come next."""
        if not self.take(sign):
            raise ValueError(f"expected {sign!r}, received {self.text[self.at]!a}")

    def expect_end(self) -> None:
        """Check that only white space follows."""
        while True:
            if self._skip_space():
                raise ValueError("text after the end of the JSON")
            if not self._more():
                return

    def comma_unless(self, end: str) -> None:
        """Consume a comma, unless `end` comes next."""
        if self.peek() != end:
            self.expect(",")

    def value(self, array: str = "") -> Element:
        """Return the next value of any type, as an element of `array`."""
        self.peek()
        while True:
            value, end = self._decode()
            # A number may continue past the text that was read: 12|34, 1.|5, 1e-|7.
            if end + len("e-") < len(self.text):
                break
            if end - self.at > MAX_ELEMENT:
                raise ValueError(f"an element of more than {MAX_ELEMENT:,} bytes starts here")
            if not self._more():
                if value is _UNFINISHED:
                    raise ValueError("the file is truncated within the value that starts here")
                break
        text, place, self.at = self.text[self.at : end], self.place, end
        return Element(array, place, len(text), value if text.isascii() else _loads(text))

    def _decode(self) -> tuple[Any, int]:
        try:
            return _DECODER.raw_decode(self.text, self.at)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except json.JSONDecodeError as error:
            cut = error.pos > len(self.text) - _LONGEST_TOKEN or error.msg.startswith(
                "Unterminated"
            )
            if not cut:
                self.at = error.pos
                raise ValueError(error.msg) from None
            return _UNFINISHED, len(self.text)

    def _more(self) -> bool:
        """Read a further chunk, at least as long as the text left; return False at the end."""
        chunk = self.file.read(max(CHUNK, len(self.text) - self.at))
        if chunk:
            self.text = self.text[self.at :] + chunk.decode("latin-1")
            self.start, self.at = self.place, 0
        return bool(chunk)
