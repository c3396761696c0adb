"""Decides what of an index is kept, and what must be read again, without reading a picture.

A file with the name, size and time that the index knows is unchanged. Records are unchanged if the
fingerprint of their manifest is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate

import numpy as np

from tfclip.evaluation.search.index import SearchIndex
from tfclip.evaluation.search.sources import FILE, RECORDS, IndexSource, Listing, list_folder

# A file that was changed within this time (nanoseconds) of the last look may have been changed
# again since, without another time or size.
_UNSURE = 2_000_000_000


@dataclass(frozen=True)
class Part:
    """A source as it shall be indexed.

    Attributes:
        source: the source.
        former: its number in the index as it is, or None.
        look: whether to look for changes; otherwise its pictures stay as they are.
    """

    source: IndexSource
    former: int | None = None
    look: bool = True


@dataclass(frozen=True)
class Problem:
    """A file that cannot be indexed; it is tried again when its size or time changes."""

    source: int
    name: str
    size: int
    modified: int
    reason: str


@dataclass
class Plan:
    """What to keep and what to read.

    Attributes:
        sources: with the fingerprints and shards of now.
        kept: by source, rows of the index as it is.
        candidates: files to be read: source, name, size, time.
        records: numbers of the sources whose records are all read.
        names: by source, the names of its pictures in the index as it is, and their rows.
        problems: of files that did not change.
        unindexable: names and reasons of what is no readable file.
        other_files: files that are no pictures by their ending, counted by it.
    """

    sources: list[IndexSource]
    kept: list[np.ndarray] = field(default_factory=list)
    candidates: list[tuple[int, str, int, int]] = field(default_factory=list)
    records: list[int] = field(default_factory=list)
    names: list[dict[str, int]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unindexable: list[tuple[str, str]] = field(default_factory=list)
    other_files: Counter = field(default_factory=Counter)

    @property
    def kept_count(self) -> int:
        """The number of pictures that are kept."""
        return sum(map(len, self.kept))


def plan(parts: Sequence[Part], former: SearchIndex | None, excluded: Sequence[str]) -> Plan:
    """Compare the sources with the index as it is.

    Args:
        parts: the sources.
        former: the index as it is; None if everything is to be embedded.
        excluded: names and patterns of pictures that are left out.

    Raises:
        OSError: a source cannot be read.
    """
    made = Plan([part.source for part in parts])
    is_excluded = matcher(excluded)
    for number, part in enumerate(parts):
        rows, names = _former_pictures(former, part.former)
        stay = [not is_excluded(name) for name in names]
        place = dict(zip(names, rows.tolist(), strict=True))
        made.names.append(place)
        if part.look and part.source.kind == RECORDS:
            rows = _plan_records(made, number, part, rows, stay)
        elif part.look:
            rows = _plan_files(made, number, part, former, place, is_excluded)
        else:
            rows = rows[np.array(stay, bool)]
        made.kept.append(rows)
    return made


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return whether a name is one of the patterns, matches one, or is in a folder that is one.

    >>> is_excluded = matcher(["drafts", "*.gif"])
    >>> [is_excluded(name) for name in ("drafts/a.jpg", "drafts2/a.jpg", "b/c.gif")]
    [True, False, True]
    """
    if not patterns:
        return lambda name: False
    forms = [
        form
        for pattern in patterns
        for form in (translate(pattern), re.escape(pattern.rstrip("/")) + r"(/.*)?\Z")
    ]
    compiled = re.compile("|".join(f"(?:{form})" for form in forms), re.DOTALL)
    return lambda name: compiled.match(name) is not None


def _former_pictures(
    former: SearchIndex | None, number: int | None
) -> tuple[np.ndarray, list[str]]:
    """Return the rows and names of a source in the index as it is."""
    if number is None or former is None:
        return np.zeros(0, np.int64), []
    rows = np.flatnonzero(former.pictures["source"] == number)
    return rows, [name.decode() for name in former.names_of(rows)]


def _plan_records(
    made: Plan, number: int, part: Part, rows: np.ndarray, stay: list[bool]
) -> np.ndarray:
    source, manifest = part.source, part.source.manifest()
    fingerprint, splits = manifest.fingerprint(), source.splits()
    shards = tuple(shard.file for split in splits for shard in manifest.shards_of(split))
    made.sources[number] = replace(source, fingerprint=fingerprint, shards=shards)
    total = sum(shard.records for split in splits for shard in manifest.shards_of(split))
    # Fewer rows than records: some were excluded, and may not be any more.
    if part.former is None or fingerprint != source.fingerprint or len(rows) != total:
        made.records.append(number)
        return rows[:0]
    return rows[np.array(stay, bool)]


def _plan_files(
    made: Plan,
    number: int,
    part: Part,
    former: SearchIndex | None,
    place: dict[str, int],
    is_excluded: Callable[[str], bool],
) -> np.ndarray:
    """Divide the files of a folder into those that are unchanged and those to be read."""
    listing = _listing(part.source)
    made.unindexable += listing.problems
    made.other_files.update(listing.other_files)
    known = _known_problems(former, part.former)
    sure_before = 0 if former is None else int(former.description["synced"]) - _UNSURE
    files = {}
    if former is not None:
        rows = np.fromiter(place.values(), np.int64, len(place))
        states = (former.pictures[part][rows].tolist() for part in ("bytes", "modified"))
        files = dict(zip(place, zip(*states, strict=True), strict=True))
    kept = []
    for name, size, modified in zip(listing.names, listing.sizes, listing.modified, strict=True):
        if is_excluded(name):
            continue
        if files.get(name) == (size, modified) and modified < sure_before:
            kept.append(place[name])
            continue
        problem = known.get(name)
        if problem and (problem.size, problem.modified) == (size, modified):
            made.problems.append(replace(problem, source=number))
            continue
        made.candidates.append((number, name, size, modified))
    for below in listing.unreadable:  # Their pictures are not known to be gone.
        kept += [row for name, row in place.items() if name.startswith(below)]
    return np.array(kept, np.int64)


def _listing(source: IndexSource) -> Listing:
    if source.kind != FILE:
        return list_folder(source.path)
    if not source.path.exists():
        return Listing()
    status = source.path.stat()
    return Listing([source.path.name], [status.st_size], [status.st_mtime_ns])


def _known_problems(former: SearchIndex | None, number: int | None) -> dict[str, Problem]:
    if number is None or former is None:
        return {}
    listed = (Problem(*each) for each in former.description.get("problems", ()))
    return {each.name: each for each in listed if each.source == number}
