"""Keeps pictures and captions out of what is packed: test pictures, duplicates."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tfclip.console import progress, say
from tfclip.records.excluded_ids import ListedIds
from tfclip.records.fingerprint import (
    ALIKE,
    EXACT,
    FINGERPRINT,
    fingerprints,
    first_alike,
)
from tfclip.records.holdout import hold_out
from tfclip.sources.image_folder import ENDINGS
from tfclip.sources.registry import open_source
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import stable_hash

LISTED, EXCLUDED = 1, 2
"""Why a picture is left out: its id is listed, or it matches an excluded one."""
SAME, LIKE = 3, 4
"""The same file as an earlier picture, or the same by perceptual hash."""

_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Findings:
    """What was found about the N pictures of a source, split after split, training splits last.

    Attributes:
        splits: the range of positions of each split.
        why: (N,) uint8, 0 for what stays.
        original: (N,) int64, the position of the earlier picture, or of the excluded one.
        repeated: (M,) bool, of the captions of all pictures one after the other: an earlier
            picture that stays, or the same one, has said it.
        caption_ends: (N,) int64, where the captions of each picture end in `repeated`.
    """

    splits: dict[str, range]
    why: np.ndarray
    original: np.ndarray
    repeated: np.ndarray
    caption_ends: np.ndarray

    def counts(self, split: str) -> dict[str, int]:
        """Return how many pictures of a split there are of each kind, and repeated captions."""
        at = self.splits[split]
        names = {LISTED: "listed", EXCLUDED: "excluded", SAME: "same_file", LIKE: "alike"}
        found = np.bincount(self.why[at.start : at.stop], minlength=5)
        captions = self.captions(at.start, at.stop)
        return {name: int(found[k]) for k, name in names.items()} | {
            "repeated_captions": int(captions.sum())
        }

    def captions(self, start: int, stop: int) -> np.ndarray:
        """Return which captions of the pictures `start` to before `stop` are repeated."""
        begin = self.caption_ends[start - 1] if start else 0
        return self.repeated[begin : self.caption_ends[stop - 1] if stop else 0]


def open_without(name: str, data: Path, options: SourceOptions, threads: int) -> Source:
    """Open a data set by its name, see `open_source`, with the splits that `hold_out` makes and
    without what `leave_out` excludes."""
    source = hold_out(open_source(name, data, options), options, threads)
    return leave_out(source, options, threads)


def leave_out(source: Source, options: SourceOptions, threads: int) -> Source:
    """Return the source without what `options` excludes; it is the same one when that is nothing.

    A pass over all pictures comes first where they must be looked at. What is left out depends on
    the source and the options alone. Where two splits have the same picture, it stays in the one
    that is not for training; one with an equal key is the same by intention, and stays in both. A
    picture keeps one caption, whatever other pictures say.

    Args:
        source: all its splits are looked at.
        options: `exclude_ids`, `exclude_images` and `deduplicate`.
        threads: pictures that are looked at side by side.

    Raises:
        FileNotFoundError: no list of ids, or no picture in the folder of excluded ones.
        ValueError: no id of the list is one of the source's.
    """
    if not (options.exclude_ids or options.exclude_images or options.deduplicate):
        return source
    findings = find(source, options, threads)
    counts = {}
    for split, at in findings.splits.items():
        reasons = findings.counts(split)
        counts[split] = int((findings.why[at.start : at.stop] == 0).sum())
        listed = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in reasons.items() if n)
        say(f"{split}: left out {listed or 'nothing'}")
    counts = {split: counts[split] for split in source.counts}
    return replace(
        source,
        counts=counts,
        read=partial(_read, source, findings),
        exclusions=partial(_lines, source, findings, options),
    )


def find(source: Source, options: SourceOptions, threads: int) -> Findings:
    """Look at every picture of a source; see `leave_out`."""
    listed = ListedIds(options.exclude_ids) if options.exclude_ids else None
    excluded = _excluded(options.exclude_images, threads) if options.exclude_images else None
    looked = excluded is not None or options.deduplicate
    order = sorted(source.counts, key=lambda split: split.startswith("train"))
    total = sum(source.counts.values())
    prints, keys = np.zeros(total if looked else 0, FINGERPRINT), np.zeros(total, np.uint64)
    why, ends, captions = np.zeros(total, np.uint8), np.zeros(total, np.int64), _Numbers()
    splits, at = {}, 0
    for split in order:
        first = at
        items = source.read(split)
        pairs = fingerprints(items, _picture, threads) if looked else ((i, None) for i in items)
        for item, found in progress(pairs, total=source.counts[split], what=f"looking at {split}"):
            if looked:
                prints[at] = found
            keys[at] = stable_hash(item.key)
            if listed and listed.have(item):
                why[at] = LISTED
            if options.deduplicate and isinstance(item, Sample):
                captions.extend(stable_hash(_normal(caption)) for caption in item.captions)
            ends[at] = len(captions)
            at += 1
        splits[split] = range(first, at)
    if listed:
        listed.check(source.name)
    original = np.full(total, -1, np.int64)
    if excluded is not None:
        before, how = first_alike(np.concatenate([excluded, prints]))
        # Copies of a copy of an excluded picture too: equal files are compared with the first only.
        hit = _roots(before)[len(excluded) :]
        hit = np.where((how[len(excluded) :] > 0) & (hit < len(excluded)), hit, -1)
        hit[why > 0] = -1
        why[hit >= 0], original[hit >= 0] = EXCLUDED, hit[hit >= 0]
    if options.deduplicate:
        prints["known"][why > 0] = 0  # what is left out anyway is nobody's original
        before, how = first_alike(prints)
        again = (how > 0) & (keys != keys[np.maximum(before, 0)])
        why[again & (how == EXACT)], why[again & (how == ALIKE)] = SAME, LIKE
        original[again] = before[again]
    return Findings(splits, why, original, _repeated(captions.array(), ends, why), ends)


def _picture(item: Sample | Rejected) -> Path | bytes | None:
    return item.image if isinstance(item, Sample) else None


def _normal(caption: str) -> str:
    """Return a caption without what does not change its meaning; see `inputs.caption_id`."""
    return _SPACE.sub(" ", caption).strip().rstrip(". ").casefold()


def _roots(before: np.ndarray) -> np.ndarray:
    """Follow every chain to its first member."""
    roots = np.where(before < 0, np.arange(len(before)), before)
    while not np.array_equal(again := roots[roots], roots):
        roots = again
    return roots


def _repeated(captions: np.ndarray, ends: np.ndarray, why: np.ndarray) -> np.ndarray:
    """Return which captions were said before, by pictures that stay; each keeps one."""
    repeated = np.zeros(len(captions), bool)
    if not len(captions):
        return repeated
    lengths = np.diff(ends, prepend=0)
    stays = np.flatnonzero(np.repeat(why == 0, lengths))
    order = stays[np.argsort(captions[stays], kind="stable")]
    repeated[order[1:]] = captions[order[1:]] == captions[order[:-1]]
    first = (ends - lengths)[lengths > 0]
    all_said = np.add.reduceat(repeated.astype(np.int64), first) == lengths[lengths > 0]
    repeated[first[all_said]] = False
    return repeated


class _Numbers:
    """63-bit numbers in blocks, 8 bytes each."""

    def __init__(self):
        self._blocks, self._last, self._length = [], [], 0

    def __len__(self) -> int:
        return self._length

    def extend(self, numbers) -> None:
        before = len(self._last)
        self._last.extend(numbers)
        self._length += len(self._last) - before
        if len(self._last) > 100_000:
            self._blocks.append(np.array(self._last, np.int64))
            self._last = []

    def array(self) -> np.ndarray:
        return np.concatenate([*self._blocks, np.array(self._last, np.int64)])


def _excluded_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def _excluded(folder: Path, threads: int) -> np.ndarray:
    files = _excluded_files(folder)
    if not files:
        raise FileNotFoundError(f"no picture in {folder}; --exclude-images takes a folder of them")
    pairs = fingerprints(files, lambda path: path, threads)
    looked = progress(pairs, total=len(files), what="looking at excluded pictures")
    prints = np.array([found for _, found in looked], FINGERPRINT)
    if unreadable := int((prints["known"] == 0).sum()):
        say(f"{folder}: {unreadable} of {len(files)} files are no pictures, and exclude nothing")
    return prints


def _read(source: Source, findings: Findings, split: str) -> Iterator[Sample | Rejected]:
    for at, item in zip(findings.splits[split], source.read(split), strict=True):
        if findings.why[at]:
            continue
        repeated = findings.captions(at, at + 1) if isinstance(item, Sample) else ()
        if any(repeated):
            kept = tuple(c for c, again in zip(item.captions, repeated, strict=True) if not again)
            reason = ("a caption that was said before",) * int(sum(repeated))
            item = replace(item, captions=kept, dropped=(*item.dropped, *reason))
        yield item


def _lines(source: Source, findings: Findings, options: SourceOptions) -> Iterator[dict[str, str]]:
    """Yield split, key and reason of every picture that is left out."""
    files = _excluded_files(options.exclude_images) if options.exclude_images else []
    wanted = set(findings.original[findings.why >= SAME].tolist())
    keys: dict[int, str] = {}
    for split, positions in findings.splits.items():
        for at, item in zip(positions, source.read(split), strict=True):
            if at in wanted:
                keys[at] = item.key
            why, original = findings.why[at], int(findings.original[at])
            reasons: dict[int, Callable[[], str]] = {
                LISTED: lambda: f"listed in {options.exclude_ids}",
                EXCLUDED: lambda: f"looks like {files[original]}",  # noqa: B023
                SAME: lambda: f"the same file as {keys[original]}",  # noqa: B023
                LIKE: lambda: f"looks like {keys[original]}",  # noqa: B023
            }
            if why:
                yield {"split": split, "key": item.key, "reason": reasons[int(why)]()}
