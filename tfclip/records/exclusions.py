"""Exclude pictures and captions from packing: listed ids, test pictures, duplicates."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tfclip.console import progress, say
from tfclip.records.excluded_ids import ExcludedIds
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
"""Why a picture is excluded: its id is listed, or it matches a picture of `exclude_images`."""
SAME, LIKE = 3, 4
"""Why a picture is excluded: it is the same file as an earlier picture, or a near-duplicate by
perceptual hash."""

_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Findings:
    """The exclusions among the N pictures of a source, split by split, training splits last.

    Attributes:
        splits: the range of positions of each split.
        why: (N,) uint8, the reason for the exclusion, 0 for a picture that is kept.
        original: (N,) int64, the position of the earlier picture, or the number of the picture in
            `exclude_images`; -1 for none.
        repeated: (M,) bool, for the captions of all pictures in order: whether the caption occurs
            before, in a picture that is kept or in the same one.
        caption_ends: (N,) int64, the end of the captions of each picture in `repeated`.
    """

    splits: dict[str, range]
    why: np.ndarray
    original: np.ndarray
    repeated: np.ndarray
    caption_ends: np.ndarray

    def counts(self, split: str) -> dict[str, int]:
        """Return the number of excluded pictures of a split by reason, and of repeated captions."""
        at = self.splits[split]
        names = {LISTED: "listed", EXCLUDED: "excluded", SAME: "same_file", LIKE: "alike"}
        frequencies = np.bincount(self.why[at.start : at.stop], minlength=5)
        captions = self.captions(at.start, at.stop)
        return {name: int(frequencies[k]) for k, name in names.items()} | {
            "repeated_captions": int(captions.sum())
        }

    def captions(self, start: int, stop: int) -> np.ndarray:
        """Return whether each caption of the pictures from `start` to before `stop` is repeated."""
        begin = self.caption_ends[start - 1] if start else 0
        return self.repeated[begin : self.caption_ends[stop - 1] if stop else 0]


def open_filtered(name: str, data: Path, options: SourceOptions, threads: int) -> Source:
    """Open a data set by name (`open_source`), with held-out splits (`hold_out`) and without the
    excluded pictures (`exclude`)."""
    source = hold_out(open_source(name, data, options), options, threads)
    return exclude(source, options, threads)


def exclude(source: Source, options: SourceOptions, threads: int) -> Source:
    """Return the source without the pictures and captions that the options exclude.

    The source is read once before; its pictures are hashed if the options need it. The exclusions
    depend on the source and the options alone. A picture in two splits is kept in the one that is
    not for training; pictures with the same key are intentionally the same and kept in both. Every
    picture keeps at least one caption.

    Args:
        source: the source; all its splits are read.
        options: `exclude_ids`, `exclude_images` and `deduplicate`.
        threads: the number of threads that hash pictures.

    Raises:
        FileNotFoundError: no such list of ids, or no picture in the folder `exclude_images`.
        ValueError: none of the listed ids matches a picture.
    """
    if not (options.exclude_ids or options.exclude_images or options.deduplicate):
        return source
    findings = find_exclusions(source, options, threads)
    counts = {}
    for split, at in findings.splits.items():
        reasons = findings.counts(split)
        counts[split] = int((findings.why[at.start : at.stop] == 0).sum())
        listed = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in reasons.items() if n)
        say(f"{split}: excluded {listed or 'nothing'}")
    counts = {split: counts[split] for split in source.counts}
    return replace(
        source,
        counts=counts,
        read=partial(_read, source, findings),
        exclusions=partial(_lines, source, findings, options),
    )


def find_exclusions(source: Source, options: SourceOptions, threads: int) -> Findings:
    """Find the pictures and captions of a source to exclude; see `exclude`."""
    listed = ExcludedIds(options.exclude_ids) if options.exclude_ids else None
    excluded = _hash_files(options.exclude_images, threads) if options.exclude_images else None
    hashing = excluded is not None or options.deduplicate
    order = sorted(source.counts, key=lambda split: split.startswith("train"))
    total = sum(source.counts.values())
    prints, keys = np.zeros(total if hashing else 0, FINGERPRINT), np.zeros(total, np.uint64)
    why, ends, captions = np.zeros(total, np.uint8), np.zeros(total, np.int64), _Numbers()
    splits, at = {}, 0
    for split in order:
        first = at
        items = source.read(split)
        pairs = fingerprints(items, _picture, threads) if hashing else ((i, None) for i in items)
        for item, hashes in progress(pairs, total=source.counts[split], what=f"hashing {split}"):
            if hashing:
                prints[at] = hashes
            keys[at] = stable_hash(item.key)
            if listed and listed.matches(item):
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
        # Equal files are compared with the first only, so copies of a copy are found by the chain.
        hit = _roots(before)[len(excluded) :]
        hit = np.where((how[len(excluded) :] > 0) & (hit < len(excluded)), hit, -1)
        hit[why > 0] = -1
        why[hit >= 0], original[hit >= 0] = EXCLUDED, hit[hit >= 0]
    if options.deduplicate:
        prints["level"][why > 0] = 0  # an excluded picture is not the original of another
        before, how = first_alike(prints)
        again = (how > 0) & (keys != keys[np.maximum(before, 0)])
        why[again & (how == EXACT)], why[again & (how == ALIKE)] = SAME, LIKE
        original[again] = before[again]
    return Findings(splits, why, original, _repeated(captions.array(), ends, why), ends)


def _picture(item: Sample | Rejected) -> Path | bytes | None:
    return item.image if isinstance(item, Sample) else None


def _normal(caption: str) -> str:
    """Return a caption without differences of case, spacing and final period; see
    `inputs.batches.caption_id`."""
    return _SPACE.sub(" ", caption).strip().rstrip(". ").casefold()


def _roots(before: np.ndarray) -> np.ndarray:
    """Return the first member of the chain of each position; `before` is (N,) int64, -1 for
    none."""
    roots = np.where(before < 0, np.arange(len(before)), before)
    while not np.array_equal(again := roots[roots], roots):
        roots = again
    return roots


def _repeated(captions: np.ndarray, ends: np.ndarray, why: np.ndarray) -> np.ndarray:
    """Return whether each caption occurs before in a kept picture; every picture keeps one."""
    repeated = np.zeros(len(captions), bool)
    if not len(captions):
        return repeated
    lengths = np.diff(ends, prepend=0)
    kept = np.flatnonzero(np.repeat(why == 0, lengths))
    order = kept[np.argsort(captions[kept], kind="stable")]
    repeated[order[1:]] = captions[order[1:]] == captions[order[:-1]]
    first = (ends - lengths)[lengths > 0]
    all_repeated = np.add.reduceat(repeated.astype(np.int64), first) == lengths[lengths > 0]
    repeated[first[all_repeated]] = False
    return repeated


class _Numbers:
    """A growing list of 63-bit numbers, 8 bytes each."""

    def __init__(self) -> None:
        self._blocks: list[np.ndarray] = []
        self._last: list[int] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def extend(self, numbers: Iterable[int]) -> None:
        """Append numbers."""
        before = len(self._last)
        self._last.extend(numbers)
        self._length += len(self._last) - before
        if len(self._last) > 100_000:
            self._blocks.append(np.array(self._last, np.int64))
            self._last = []

    def array(self) -> np.ndarray:
        """Return all numbers, (n,) int64."""
        return np.concatenate([*self._blocks, np.array(self._last, np.int64)])


def _excluded_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def _hash_files(folder: Path, threads: int) -> np.ndarray:
    files = _excluded_files(folder)
    if not files:
        raise FileNotFoundError(
            f"no picture in {folder}; --exclude-images takes a folder of pictures"
        )
    pairs = fingerprints(files, lambda path: path, threads)
    hashed = progress(pairs, total=len(files), what="hashing excluded pictures")
    prints = np.array([hashes for _, hashes in hashed], FINGERPRINT)
    if unreadable := int((prints["level"] == 0).sum()):
        say(f"{folder}: {unreadable} of {len(files)} files are not pictures and are ignored")
    return prints


def _read(source: Source, findings: Findings, split: str) -> Iterator[Sample | Rejected]:
    for at, item in zip(findings.splits[split], source.read(split), strict=True):
        if findings.why[at]:
            continue
        repeated = findings.captions(at, at + 1)
        if isinstance(item, Sample) and repeated.any():
            kept = tuple(c for c, again in zip(item.captions, repeated, strict=True) if not again)
            reasons = ("a repeated caption",) * int(repeated.sum())
            item = replace(item, captions=kept, dropped=(*item.dropped, *reasons))
        yield item


def _lines(source: Source, findings: Findings, options: SourceOptions) -> Iterator[dict[str, str]]:
    """Yield split, key and reason of every excluded picture."""
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
                EXCLUDED: lambda: f"near-duplicate of {files[original]}",  # noqa: B023
                SAME: lambda: f"the same file as {keys[original]}",  # noqa: B023
                LIKE: lambda: f"near-duplicate of {keys[original]}",  # noqa: B023
            }
            if why:
                yield {"split": split, "key": item.key, "reason": reasons[int(why)]()}
