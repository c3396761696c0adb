"""Reads sentence pairs with human scores: STS-B, STS 2012 to 2016 and SICK, as published."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# The files of each set, relative to the folder that --data names.
SETS = {
    **{f"sts{year}": f"sts/20{year}/*.test.tsv" for year in range(12, 17)},
    "stsb": "stsb/stsb-en-test.csv",
    "sick": "sick/SICK_test_annotated.txt",
}
# SICK is scored for relatedness and not part of the mean.
AVERAGED = tuple(name for name in SETS if name != "sick")
_SICK_COLUMNS = ("sentence_A", "sentence_B", "relatedness_score")


@dataclass(frozen=True)
class ScoredPairs:
    """One set: sentences `first` and `second` (P,), `scores` (P,), number of unscored pairs."""

    first: list[str]
    second: list[str]
    scores: np.ndarray
    unscored: int


def find_sets(data: Path) -> dict[str, list[Path]]:
    """Return the files of every set below `data`, in alphabetical order.

    Raises:
        FileNotFoundError: there is none; the message lists the expected paths.
    """
    matches = {name: sorted(Path(data).glob(pattern)) for name, pattern in SETS.items()}
    sets = {name: paths for name, paths in matches.items() if paths}
    if not sets:
        raise FileNotFoundError(
            f"no sentence pairs below {data}; expected some of {', '.join(SETS.values())}"
        )
    return sets


def read_pairs(paths: list[Path]) -> ScoredPairs:
    """Read all files of one set; pairs without a score are counted and left out.

    Args:
        paths: `.csv` (sentence, sentence, score; quoted), `.tsv` (score, sentence, sentence; not
            quoted), or `.txt` (tab separated below a line of SICK's column names).

    Raises:
        ValueError: a line has another form (file and line are named), or fewer than two pairs have
            a score.
    """
    first, second, scores, unscored = [], [], [], 0
    for path in paths:
        for line, row in _rows(path):
            try:
                one, other, score = row
                number = float(score) if score.strip() else None
            except ValueError:
                raise ValueError(
                    f"{path}, line {line}: expected two sentences and a score. Received: {row}"
                ) from None
            if number is None:
                unscored += 1
                continue
            first.append(one.strip())
            second.append(other.strip())
            scores.append(number)
    if len(scores) < 2:
        raise ValueError(f"{paths[0].parent} has {len(scores)} pairs with a score; 2 are needed")
    return ScoredPairs(first, second, np.array(scores, np.float64), unscored)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and rows in the order sentence, sentence, score."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                reader = csv.reader(file)
                for row in reader:
                    yield reader.line_num, row
            elif path.suffix == ".tsv":
                for line, row in _tabbed(file):
                    yield line, [*row[1:], row[0]]
            else:
                rows = _tabbed(file)
                _, names = next(rows, (1, []))
                if not set(_SICK_COLUMNS) <= set(names):
                    raise ValueError(
                        f"{path}, line 1: expected columns {', '.join(_SICK_COLUMNS)}. "
                        f"Received: {names}"
                    )
                places = [names.index(name) for name in _SICK_COLUMNS]
                for line, row in rows:
                    yield line, [row[place] for place in places if place < len(row)]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start})") from None


def _tabbed(file) -> Iterator[tuple[int, list[str]]]:
    for line, text in enumerate(file, 1):
        if text.strip("\r\n"):
            yield line, text.rstrip("\r\n").split("\t")
