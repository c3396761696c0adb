"""Splits: chosen by name, read from lists, drawn by seed."""

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
    """Return the split that a file's or folder's name speaks of, coco_val2017-00000 of val2017."""
    found = _WORD.search(name.lower())
    return found[1] if found else None


def files_by_split(data: Path, pattern: re.Pattern[str]) -> dict[str, list[Path]]:
    """Return the files at or below `data` whose names match, in alphabetical order, by split.

    The split is what the file's name or a folder's above it speaks of, else train. Linked folders
    are not entered.
    """
    splits: dict[str, list[Path]] = {}
    for path in [data] if data.is_file() else sorted(data.rglob("*")):
        if pattern.search(path.name) and path.is_file():
            names = [*reversed(path.relative_to(data).parts)] or [path.name]
            split = next(filter(None, map(split_in, names)), "train")
            splits.setdefault(split, []).append(path)
    return splits


def choose_splits(found: Iterable[str], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the `wanted` splits, or all that were `found` when none is asked for.

    Raises ValueError, naming the splits there are, when a wanted one is not among them.
    """
    found = tuple(found)
    for split in wanted:
        if split not in found:
            raise unknown("split", split, found)
    return tuple(dict.fromkeys(wanted)) or found


def stable_hash(text: str) -> int:
    """Return 63 bits that depend on the text alone, not on the process or the platform."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def draw_splits(
    names: Iterable[object], sizes: Mapping[str, int], seed: int
) -> dict[str, np.ndarray]:
    """Return for every split the positions of its names, ascending, as int64 arrays.

    Names are ranked by a hash of seed and name, so that the same name lands in the same place in
    any order of the file. Splits of size 0 are left out, and so are names beyond the sizes.
    """
    ranks = np.fromiter((stable_hash(f"{seed}/{name}") for name in names), np.int64)
    order, start, splits = np.argsort(ranks, kind="stable"), 0, {}
    for split, size in sizes.items():
        if size:
            splits[split] = np.sort(order[start : start + size])
        start += size
    return splits


def list_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number (from 1) and the stripped text of every line that is not blank."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if line := line.strip():
                yield number, line


def count_lines(path: Path) -> int:
    """Return how many lines are not blank.

    Raises ValueError when there is none: an empty split is a mistake.
    """
    count = sum(1 for _ in list_lines(path))
    if not count:
        raise ValueError(f"{path} lists no picture; a split needs at least one")
    return count


class Listed:
    """Splits that are given as files of names, one name per line."""

    def __init__(self, lists: Mapping[str, Path]):
        self.lists = lists
        self._paths, self._index = list(lists.values()), Index()
        for which, path in enumerate(self._paths):
            for line, name in list_lines(path):
                self._index.add(stable_hash(name), which, line)

    def of(self, split: str) -> Iterator[tuple[str, str]]:
        """Yield every name of a split, and what is wrong: that it is listed a second time."""
        path = self.lists[split]
        for line, name in list_lines(path):
            _, which, first = self._index[self._index.positions(stable_hash(name))[0]]
            where = self._paths[which]
            again = (where, first) != (path, line)
            places = f"{where.name} line {first} and {path.name} line {line}"
            yield name, f"listed twice: {places}" if again else ""
