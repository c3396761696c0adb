"""Splits of a data set: named by files, read from lists, or sampled by seed."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from tfclip.naming import unknown
from tfclip.sources.index import Index

_WORD = re.compile(
    r"(?:^|[^a-z])((?:trainval|train|minival|validation|valid|val|dev|test)(?:20\d\d)?)(?![a-z])"
)


def split_in(name: str) -> str | None:
    """Return the split named in the name of a file or folder, or None.

    >>> split_in("coco_val2017-00000-of-00004.tar"), split_in("Training"), split_in("test_set")
    ('val2017', None, 'test')
    """
    match = _WORD.search(name.lower())
    return match[1] if match else None


def files_by_split(data: Path, pattern: re.Pattern[str]) -> dict[str, list[Path]]:
    """Return the files at or below `data` whose name matches `pattern`, sorted, by split.

    The split is named by the file or else by the nearest folder above it that names one; without
    any it is train. Linked folders are not entered.
    """
    splits: dict[str, list[Path]] = {}
    for path in [data] if data.is_file() else sorted(data.rglob("*")):
        if pattern.search(path.name) and path.is_file():
            names = [*reversed(path.relative_to(data).parts)] or [path.name]
            split = next(filter(None, map(split_in, names)), "train")
            splits.setdefault(split, []).append(path)
    return splits


def choose_splits(available: Iterable[str], requested: tuple[str, ...]) -> tuple[str, ...]:
    """Return the `requested` splits, each once, or all `available` ones when none is requested.

    Raises ValueError, listing the available splits, for a requested one that is not among them.
    """
    available = tuple(available)
    for split in requested:
        if split not in available:
            raise unknown("split", split, available)
    return tuple(dict.fromkeys(requested)) or available


def stable_hash(text: str) -> int:
    """Return a 63-bit hash of the text that is the same in every process and on every platform."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def sample_splits(
    names: Iterable[object], sizes: Mapping[str, int], seed: int
) -> dict[str, np.ndarray]:
    """Assign names to splits of the given sizes at random.

    The names are ranked by a hash of seed and name, so the split of a name does not depend on the
    order of the names. Splits of size 0 are omitted; names beyond the sum of the sizes are unused.

    Returns:
        The positions of the names of each split, ascending, as int64 arrays.

    >>> splits = sample_splits("abcdef", {"train": 4, "val": 2}, seed=0)
    >>> splits["train"].tolist(), splits["val"].tolist()
    ([2, 3, 4, 5], [0, 1])
    """
    ranks = np.fromiter((stable_hash(f"{seed}/{name}") for name in names), np.int64)
    order, start, splits = np.argsort(ranks, kind="stable"), 0, {}
    for split, size in sizes.items():
        if size:
            splits[split] = np.sort(order[start : start + size])
        start += size
    return splits


def list_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line number (from 1) and the stripped text of every line that is not blank."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if line := line.strip():
                yield number, line


def count_lines(path: Path) -> int:
    """Return the number of lines that are not blank.

    Raises ValueError when there are none, because an empty split is a mistake.
    """
    count = sum(1 for _ in list_lines(path))
    if not count:
        raise ValueError(f"{path} lists no picture; a split needs at least one")
    return count


class SplitLists:
    """Splits given as text files, with one name per line."""

    def __init__(self, lists: Mapping[str, Path]):
        self.lists = lists
        self._paths, self._index = list(lists.values()), Index()
        for which, path in enumerate(self._paths):
            for line, name in list_lines(path):
                self._index.add(stable_hash(name), which, line)

    def of(self, split: str) -> Iterator[tuple[str, str]]:
        """Yield each name of a split with its problem: a second listing, or "" for none."""
        path = self.lists[split]
        for line, name in list_lines(path):
            _, which, first = self._index[self._index.positions(stable_hash(name))[0]]
            where = self._paths[which]
            is_repeated = (where, first) != (path, line)
            places = f"{where.name} line {first} and {path.name} line {line}"
            yield name, f"listed twice: {places}" if is_repeated else ""
