"""Index of the entries of a large file by number: 24 bytes per entry, whatever its size."""

from array import array
from bisect import bisect_left, bisect_right
from functools import cached_property

import numpy as np


class Index:
    """Entries (number, offset, length) in the order they were added.

    The number is an image id or the hash of a name; several entries may have the same number. Add
    all entries before the first look-up.
    """

    def __init__(self) -> None:
        self._numbers, self._offsets, self._lengths = array("q"), array("q"), array("i")

    def add(self, number: int, offset: int, length: int) -> None:
        """Append an entry. `number` and `offset` fit in 63 bits, `length` in 31."""
        self._numbers.append(number)
        self._offsets.append(offset)
        self._lengths.append(length)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, position: int) -> tuple[int, int, int]:
        return self._numbers[position], self._offsets[position], self._lengths[position]

    def positions(self, number: int) -> list[int]:
        """Return the positions of all entries with this number, ascending."""
        number_at = self._numbers.__getitem__
        start = bisect_left(self._order, number, key=number_at)
        end = bisect_right(self._order, number, start, key=number_at)
        return self._order[start:end].tolist()

    def first_positions(self, each: int | None = None) -> np.ndarray:
        """Return the position of the first entry of every number, ascending: (n,) int32.

        Every entry with the number `each` is returned: it stands for "no name", so that no two of
        these entries belong together.
        """
        numbers = np.asarray(self._numbers)[self._order]
        first = np.ones(len(numbers), bool)
        first[1:] = numbers[1:] != numbers[:-1]
        if each is not None:
            first |= numbers == each
        return np.sort(self._order[first])

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(np.asarray(self._numbers), kind="stable").astype(np.int32)
