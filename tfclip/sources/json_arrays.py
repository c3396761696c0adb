"""JSON files of any size, whose arrays are read one element at a time."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

CHUNK = 1 << 18
MAX_ELEMENT = 1 << 26
"""Bytes: an element that is still open after this many is taken for damage."""

_SPACE = re.compile(r"[ \t\n\r]*")
_WHOLE = re.compile(r"\s*([0-9]+)(?:\.0*)?\s*", re.ASCII)
_DECODER = json.JSONDecoder()
_MARK = "\xef\xbb\xbf"  # UTF-8's byte order mark, read as Latin-1
_LONGEST_SIGN = len("-Infinity")  # cut off, it is reported where it begins
_UNFINISHED = object()


class Element(NamedTuple):
    """One element: the name of its array ("" for the file's own), its place in bytes, and it."""

    array: str
    offset: int
    length: int
    value: Any


def walk_arrays(path: Path) -> Iterator[Element]:
    """Yield the elements of a JSON file that is one array, or one object that holds arrays.

    Whatever else the object holds is passed over, and so is a byte order mark. Bytes that are not
    UTF-8 become lone surrogates, as in Python's file names.

    Raises ValueError, with the file and the place, for a file that is not JSON of this layout or
    stops in the middle.
    """
    with path.open("rb") as file:
        reader = _Reader(file)
        try:
            reader.skip_mark()
            yield from _walk(reader)
        except ValueError as error:
            raise ValueError(f"{path}, byte {reader.place:,}: {error}") from None


def read_value(file: BinaryIO, offset: int, length: int) -> Any:
    """Return the element that lies there in a file that `walk_arrays` has read."""
    file.seek(offset)
    return _loads(file.read(length).decode("latin-1"))


def id_of(element: Any, *names: str) -> int:
    """Return the first of the fields of an element that holds an image id; -1 when none is usable.

    A whole number in any form: 42, 42.0 (as pandas writes a column with gaps), "42", "000042".
    """
    fields = (element.get(name) for name in names) if isinstance(element, dict) else ()
    return next((number for field in fields if (number := whole_number(field)) >= 0), -1)


def whole_number(value: Any) -> int:
    """Return a number from 0 to 2^63 - 1 that is written as an integer, a float or a text; or -1.

    >>> [whole_number(value) for value in (7, 7.0, "007", "7.0", 7.5, True, None, "seven", -7)]
    [7, 7, 7, 7, -1, -1, -1, -1, -1]
    """
    if isinstance(value, str) and len(value) <= 40 and (found := _WHOLE.fullmatch(value)):
        value = int(found[1])
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
        raise ValueError("neither a JSON array nor an object")
    reader.expect_end()


def _elements(reader: "_Reader", array: str) -> Iterator[Element]:
    while not reader.take("]"):
        yield reader.value(array)
        reader.comma_unless("]")


class _Reader:
    """Reads values and signs from the front of a file.

    The text is decoded as Latin-1, in which every byte is one character, so that places in the
    text are places in the file; JSON's own signs are ASCII. Strings are decoded again, properly.
    """

    def __init__(self, file: BinaryIO):
        self.file, self.text, self.start, self.at = file, "", 0, 0

    @property
    def place(self) -> int:
        """The byte that comes next."""
        return self.start + self.at

    def skip_mark(self) -> None:
        """Pass a byte order mark at the beginning."""
        self._more()
        self.at += len(_MARK) * self.text.startswith(_MARK)

    def peek(self) -> str:
        """Return the next character that is not white space, and stand before it."""
        while True:
            if self.text[self.at : self.at + 1] > " ":
                return self.text[self.at]
            self.at = _SPACE.match(self.text, self.at).end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                raise ValueError("the file stops in the middle")

    def take(self, sign: str) -> bool:
        """Pass the sign if it comes next; return whether it did."""
        if self.peek() != sign:
            return False
        self.at += 1
        return True

    def expect(self, sign: str) -> None:
        """Pass the sign, which must come next."""
        if not self.take(sign):
            raise ValueError(f"{sign!r} expected, received {self.text[self.at]!a}")

    def expect_end(self) -> None:
        """Refuse anything but white space."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()
            if self.at < len(self.text):
                raise ValueError("more text after the end of the JSON")
            if not self._more():
                return

    def comma_unless(self, end: str) -> None:
        """Pass a comma, unless the end comes next."""
        if self.peek() != end:
            self.expect(",")

    def value(self, array: str = "") -> Element:
        """Return the next value of any type, as an element of `array`."""
        self.peek()
        while True:
            value, end = self._decode()
            # A number goes on behind the end of the text: 12|34, 1.|5, 1e-|7.
            if end + len("e-") < len(self.text):
                break
            if end - self.at > MAX_ELEMENT:
                raise ValueError(f"an element of more than {MAX_ELEMENT:,} bytes begins here")
            if not self._more():
                if value is _UNFINISHED:
                    raise ValueError("the file stops in the middle of what begins here")
                break
        text, place, self.at = self.text[self.at : end], self.place, end
        return Element(array, place, len(text), value if text.isascii() else _loads(text))

    def _decode(self) -> tuple[Any, int]:
        try:
            return _DECODER.raw_decode(self.text, self.at)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except json.JSONDecodeError as error:
            cut = error.pos > len(self.text) - _LONGEST_SIGN or error.msg.startswith("Unterminated")
            if not cut:
                self.at = error.pos
                raise ValueError(error.msg) from None
            return _UNFINISHED, len(self.text)

    def _more(self) -> bool:
        """Read on, at least doubling what is kept; return whether there was more."""
        chunk = self.file.read(max(CHUNK, len(self.text) - self.at))
        if chunk:
            self.text = self.text[self.at :] + chunk.decode("latin-1")
            self.start, self.at = self.place, 0
        return bool(chunk)
