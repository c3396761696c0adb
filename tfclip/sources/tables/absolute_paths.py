"""Absolute paths of another machine in a table: `C:\\data\\a.jpg`, `/home/me/data/a.jpg`."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tfclip.console import say

_ABSOLUTE = re.compile(r"(?:[A-Za-z]:)?[\\/]")
_SEPARATORS = re.compile(r"[\\/]+")


def is_absolute(path: str) -> bool:
    """Return whether a path begins at a root or a drive, in the form of any system.

    >>> [is_absolute(path) for path in ("C:\\\\a\\\\b.jpg", "/a/b.jpg", "a\\\\b.jpg", "12:30.jpg")]
    [True, True, False, False]
    """
    return bool(_ABSOLUTE.match(path))


def shortened(path: str) -> Iterator[tuple[str, str]]:
    """Yield the beginnings of an absolute path, shortest first, each with the relative rest.

    >>> list(shortened("C:\\\\data\\\\a.jpg"))
    [('C:\\\\', 'data/a.jpg'), ('C:\\\\data\\\\', 'a.jpg')]
    """
    for separator in _SEPARATORS.finditer(path):
        rest = _SEPARATORS.sub("/", path[separator.end() :])
        if rest:
            yield path[: separator.end()], rest


class AbsolutePaths:
    """Reads absolute paths of a table without the folders that this machine does not have.

    The first picture that is found decides what is left out, which is reported; a path with another
    beginning is not found.

    Args:
        table: the table, for messages.
    """

    def __init__(self, table: Path):
        self._table = table
        self._left_out: str | None = None

    def find(self, path: str, find_below: Callable[[str], Path]) -> Path:
        """Return the file of an absolute path.

        Args:
            path: the path in the table.
            find_below: returns the file at a relative path; ValueError without one.

        Raises:
            ValueError: no such file.
        """
        for beginning, rest in shortened(path):
            if self._left_out not in (None, beginning):
                continue
            try:
                found = find_below(rest)
            except ValueError:
                continue
            if self._left_out is None:
                self._left_out = beginning
                say(f"{self._table}: absolute paths are read without {beginning!a:.200}")
            return found
        raise ValueError(
            "not a relative path within the data folder, and no such file there without its first "
            f"folders: {path!a:.100}"
        )
