"""Random train, val and test splits that keep related pictures together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tfclip.console import progress, say
from tfclip.records.fingerprint import FINGERPRINT, fingerprints, first_alike
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import stable_hash

TRAIN, VAL, TEST = 0, 1, 2
NAMES = {TRAIN: "train", VAL: "val", TEST: "test"}


def hold_out(source: Source, options: SourceOptions, threads: int) -> Source:
    """Return the source with the splits train, val and test; unchanged when both fractions are 0.

    All pictures are hashed first: near-duplicates (see `records.fingerprint`) and pictures with the
    same `Sample.group` go to the same split. The splits depend on the seed and the keys alone, not
    on the order of the source. Rejected inputs stay in train.

    Args:
        source: a source with one split.
        options: `val_fraction`, `test_fraction` and `seed`.
        threads: the number of threads that hash pictures.

    Raises:
        ValueError: the source has several splits, or too few pictures for a split.
    """
    fractions = {TEST: options.test_fraction, VAL: options.val_fraction}
    if not any(fractions.values()):
        return source
    if len(source.counts) != 1:
        listed = ", ".join(source.counts)
        raise ValueError(
            f"{source.name} has the splits {listed}; --val-fraction and --test-fraction are for "
            "data without splits"
        )
    [(only, total)] = source.counts.items()
    pictures = _hash_pictures(source, only, total, threads)
    parts = _sample_parts(pictures, fractions, options.seed)
    counts = {
        name: int((parts == part).sum())
        for part, name in NAMES.items()
        if part == TRAIN or fractions[part]
    }
    for name, count in counts.items():
        if not count:
            raise ValueError(
                f"{source.name} has {total:,} pictures in {pictures.cluster.max() + 1:,} groups, "
                f"too few for a split {name}; add pictures or change the fractions"
            )
    sizes = np.bincount(pictures.cluster[pictures.usable], minlength=1)
    related = int(sizes[sizes > 1].sum())
    listed = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    say(
        f"{source.name}: split at random by --seed {options.seed} into {listed}; {related:,} "
        "pictures have near-duplicates or a common group, and stay in one split with them"
    )
    return replace(source, counts=counts, read=partial(_read, source, only, parts))


@dataclass(frozen=True)
class _Pictures:
    """The N items of a source.

    Attributes:
        usable: (N,) bool, whether the item is a sample.
        keys: (N,) int64, the hashes of the keys.
        cluster: (N,) int64, a number that related pictures share.
    """

    usable: np.ndarray
    keys: np.ndarray
    cluster: np.ndarray


def _hash_pictures(source: Source, split: str, total: int, threads: int) -> _Pictures:
    prints = np.zeros(total, FINGERPRINT)
    keys, groups = np.zeros(total, np.int64), np.full(total, -1, np.int64)
    usable = np.zeros(total, bool)
    pairs = fingerprints(source.read(split), _picture, threads)
    hashed = progress(pairs, total=total, what=f"hashing {split}")
    for at, (item, hashes) in enumerate(hashed):
        prints[at], keys[at] = hashes, stable_hash(item.key)
        usable[at] = isinstance(item, Sample)
        if usable[at] and item.group:
            groups[at] = stable_hash(item.group)
    alike, _ = first_alike(prints)
    return _Pictures(usable, keys, _components(alike, _first_of(groups)))


def _picture(item: Sample | Rejected) -> Path | bytes | None:
    return item.image if isinstance(item, Sample) else None


def _first_of(groups: np.ndarray) -> np.ndarray:
    """Return the first position of the group of each item; without a group (-1) its own
    position."""
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    return np.where(groups < 0, np.arange(len(groups)), first[number])


def _components(*links: np.ndarray) -> np.ndarray:
    """Return the connected component of each of N items, (N,) int64.

    Each of `links` is (N,) int64: the position of a linked item, or -1.
    """
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


def _sample_parts(pictures: _Pictures, fractions: dict[int, float], seed: int) -> np.ndarray:
    """Return the part of each picture, (N,) uint8: TRAIN, VAL or TEST."""
    clusters = pictures.cluster
    sizes = np.bincount(clusters[pictures.usable], minlength=clusters.max() + 1)
    # A cluster is named by its smallest key, so the order of its pictures does not matter.
    names = np.full(len(sizes), np.iinfo(np.int64).max)
    np.minimum.at(names, clusters, pictures.keys)
    ranks = np.array([stable_hash(f"{seed}/{name}") for name in names])
    part_of = np.zeros(len(sizes), np.uint8)
    total = int(pictures.usable.sum())
    for part, fraction in fractions.items():
        wanted = max(1, round(fraction * total)) if fraction else 0
        for number in np.argsort(ranks, kind="stable").tolist():
            if part_of[number] == TRAIN and 0 < sizes[number] <= wanted:
                part_of[number] = part
                wanted -= int(sizes[number])
            if not wanted:
                break
    parts = part_of[clusters]
    parts[~pictures.usable] = TRAIN
    return parts


def _read(source: Source, only: str, parts: np.ndarray, split: str) -> Iterator[Sample | Rejected]:
    for part, item in zip(parts, source.read(only), strict=True):
        if NAMES[int(part)] == split:
            yield replace(item, split=split)
