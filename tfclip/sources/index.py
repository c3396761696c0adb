"""Where in a file the entries about each number lie: 40 bytes an entry, whatever they hold."""

from array import array
from functools import cached_property

import numpy as np


class Index:
    """Entries (number, offset, length) in the order they were added; complete before it is asked.

    A number is an image id, or the hash of a name; several entries may have the same.
    """

    def __init__(self):
        self._entries = array("q")

    def add(self, number: int, offset: int, length: int) -> None:
        """Append an entry of three integers of at most 63 bits."""
        self._entries.extend((number, offset, length))

    def __len__(self) -> int:
        return len(self._entries) // 3

    def __getitem__(self, position: int) -> tuple[int, int, int]:
        return tuple(self._entries[3 * position : 3 * position + 3])

    def positions(self, number: int) -> list[int]:
        """Return the positions of all entries with this number, ascending."""
        order, numbers = self._sorted
        start = np.searchsorted(numbers, number, "left")
        end = np.searchsorted(numbers, number, "right")
        return order[start:end].tolist()

    def first_positions(self) -> np.ndarray:
        """Return the position of the first entry of every number, ascending: (n,) int64."""
        order, numbers = self._sorted
        first = np.ones(len(numbers), bool)
        first[1:] = numbers[1:] != numbers[:-1]
        return np.sort(order[first])

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.array(self._entries[::3], np.int64)
        order = np.argsort(numbers, kind="stable")
        return order, numbers[order]
