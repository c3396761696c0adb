"""Splits for a source that brings none: parts held out by seed, with what belongs together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from tfclip.console import progress, say
from tfclip.records.fingerprint import FINGERPRINT, fingerprints, first_alike
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import stable_hash

TRAIN, VAL, TEST = 0, 1, 2
NAMES = {TRAIN: "train", VAL: "val", TEST: "test"}


def hold_out(source: Source, options: SourceOptions, threads: int) -> Source:
    """Return the source with the splits train, val and test, or as it is when none is asked for.

    Every picture is looked at first: those that are alike (see `records.fingerprint`) and those of
    one `Sample.group` go to the same split. Which one depends on the seed and on their keys alone,
    not on the order of the source. What the source rejects stays with the training pictures.

    Args:
        source: with one split.
        options: `val_fraction` and `test_fraction` of the pictures; `seed`.
        threads: pictures that are looked at side by side.

    Raises:
        ValueError: the source brings splits, or has too few pictures for a part.
    """
    fractions = {TEST: options.test_fraction, VAL: options.val_fraction}
    if not any(fractions.values()):
        return source
    if len(source.counts) != 1:
        listed = ", ".join(source.counts)
        raise ValueError(
            f"{source.name} brings the splits {listed}; --val-fraction and --test-fraction are for "
            "data without splits"
        )
    [(only, total)] = source.counts.items()
    found = _look(source, only, total, threads)
    parts = _drawn(found, fractions, options.seed)
    counts = {
        name: int((parts == part).sum())
        for part, name in NAMES.items()
        if part == TRAIN or fractions[part]
    }
    for name, count in counts.items():
        if not count:
            raise ValueError(
                f"{source.name} has {total:,} pictures in {found.together.max() + 1:,} groups, too "
                f"few for a split {name}; more pictures or other fractions are needed"
            )
    sizes = np.bincount(found.together[found.usable], minlength=1)
    kept = int(sizes[sizes > 1].sum())
    listed = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    say(
        f"{source.name}: split by --seed {options.seed} into {listed}; {kept:,} pictures are alike "
        "or of one group with others, and stay in one split with them"
    )
    return replace(source, counts=counts, read=partial(_read, source, only, parts))


@dataclass(frozen=True)
class _Found:
    """What is known of N items: which are pictures, (N,) bool, the hashes of their keys, (N,)
    int64, and the number of the set that each belongs to, (N,) int64."""

    usable: np.ndarray
    keys: np.ndarray
    together: np.ndarray


def _look(source: Source, split: str, total: int, threads: int) -> _Found:
    prints = np.zeros(total, FINGERPRINT)
    keys, groups = np.zeros(total, np.int64), np.full(total, -1, np.int64)
    usable = np.zeros(total, bool)
    pairs = fingerprints(source.read(split), _picture, threads)
    looked = progress(pairs, total=total, what=f"looking at {split}")
    for at, (item, found) in enumerate(looked):
        prints[at], keys[at] = found, stable_hash(item.key)
        usable[at] = isinstance(item, Sample)
        if usable[at] and item.group:
            groups[at] = stable_hash(item.group)
    alike, _ = first_alike(prints)
    return _Found(usable, keys, _components(alike, _first_of(groups)))


def _picture(item: Sample | Rejected):
    return item.image if isinstance(item, Sample) else None


def _first_of(groups: np.ndarray) -> np.ndarray:
    """Return the first position of the group of each, itself without one."""
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    return np.where(groups < 0, np.arange(len(groups)), first[number])


def _components(*links: np.ndarray) -> np.ndarray:
    """Return a number for each of N, equal for what is linked: links (N,) to a position or -1."""
    roots = np.arange(len(links[0]))

    def root(at: int) -> int:
        while roots[at] != at:
            roots[at] = at = roots[roots[at]]
        return at

    for linked in links:
        for at in np.flatnonzero((linked >= 0) & (linked != np.arange(len(linked)))).tolist():
            one, other = root(at), root(int(linked[at]))
            roots[max(one, other)] = min(one, other)
    final = [root(at) for at in range(len(roots))]
    return np.unique(final, return_inverse=True)[1]


def _drawn(found: _Found, fractions: dict[int, float], seed: int) -> np.ndarray:
    """Return the part of each picture, (N,) uint8."""
    sizes = np.bincount(found.together[found.usable], minlength=found.together.max() + 1)
    # The smallest key names a set, whatever the order of its pictures.
    names = np.full(len(sizes), np.iinfo(np.int64).max)
    np.minimum.at(names, found.together, found.keys)
    ranks = np.array([stable_hash(f"{seed}/{name}") for name in names])
    part_of = np.zeros(len(sizes), np.uint8)
    pictures = int(found.usable.sum())
    for part, fraction in fractions.items():
        wanted = max(1, round(fraction * pictures)) if fraction else 0
        for number in np.argsort(ranks, kind="stable").tolist():
            if part_of[number] == TRAIN and 0 < sizes[number] <= wanted:
                part_of[number] = part
                wanted -= int(sizes[number])
            if not wanted:
                break
    parts = part_of[found.together]
    parts[~found.usable] = TRAIN
    return parts


def _read(source: Source, only: str, parts: np.ndarray, split: str) -> Iterator[Sample | Rejected]:
    for part, item in zip(parts, source.read(only), strict=True):
        if NAMES[int(part)] == split:
            yield replace(item, split=split)
