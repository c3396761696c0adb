"""Shuffle the items of a source through a temporary file, in constant memory."""

import pickle
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def shuffled_items(items: Iterable[Item], seed: tuple[int, ...], directory: Path) -> Iterator[Item]:
    """Yield all items in an order determined by `seed` and the number of items.

    The items are written to an anonymous file and read from it at random. A sample with the path of
    its picture takes a few hundred bytes there; one with the bytes of its picture (from a tar or
    TFRecord file) takes their size. Memory: 16 bytes per item.

    Args:
        items: picklable items; all are read before the first is yielded.
        seed: integers of at least 0.
        directory: the directory of the file.
    """
    ends = array("q", [0])
    with TemporaryFile(dir=directory) as file:
        for item in items:
            content = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
            file.write(content)
            ends.append(ends[-1] + len(content))
        for at in np.random.default_rng(seed).permutation(len(ends) - 1).tolist():
            file.seek(ends[at])
            yield pickle.loads(file.read(ends[at + 1] - ends[at]))  # noqa: S301 written above
