"""The items of a source in another order, through a file on disk: memory stays flat."""

import pickle
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def shuffled_items(items: Iterable[Item], seed: tuple[int, ...], directory: Path) -> Iterator[Item]:
    """Yield all items in an order that `seed` and their number decide.

    They are written to a file without a name and read again from random places. A sample whose
    picture is a file takes some hundred bytes there; one that brings its picture as bytes, from a
    tar or a TFRecord, takes the room of the picture. In memory are 16 bytes for each.

    Args:
        items: picklable; read to the end before the first is yielded.
        seed: numbers from 0 on.
        directory: where the file is.
    """
    ends = array("q", [0])
    with TemporaryFile(dir=directory) as file:
        for item in items:
            content = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
            file.write(content)
            ends.append(ends[-1] + len(content))
        for at in np.random.default_rng(seed).permutation(len(ends) - 1).tolist():
            file.seek(ends[at])
            yield pickle.loads(file.read(ends[at + 1] - ends[at]))  # noqa: S301 our own file
