"""The options of packing, and what follows from them: counts, sampled items and shards."""

import os
import random
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from tfclip.naming import unknown
from tfclip.sources.sample import Source

IMAGES_PER_SHARD = 1000
SHUFFLED, IN_ORDER = ORDERS = ("shuffled", "source")


@dataclass(frozen=True)
class PackOptions:
    """The options that determine the content of a record set, and how it is made."""

    image_size: int | None = None
    """Shrink pictures whose short side is longer than this, in pixels; by default none."""
    splits: tuple[str, ...] = ()
    """The splits to pack; by default all."""
    max_images: int | None = None
    """The largest number of pictures of each split, sampled by --seed."""
    seed: int = 0
    """Seed of the order, of the sample of --max-images, and of random splits."""
    order: str = IN_ORDER
    """The order of the records: `shuffled` by --seed, so that batches of sorted data are mixed (the
    default of make_records); or `source`, the order of the data set."""
    shards: int | None = None
    """The number of shards of each split; by default one per 1,000 pictures."""
    max_skipped: float = 0.01
    """The largest allowed fraction of rejected pictures; with more, exit code 3 and no records."""
    workers: int = field(default_factory=lambda: min(2, os.cpu_count() or 1))
    """The number of processes that check pictures; it does not affect the result."""
    overwrite: bool = False
    """Replace a finished set as soon as the new one is complete."""

    def __post_init__(self):
        for name in ("image_size", "max_images", "shards", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"received {_flag(name)} {value}; allowed: 1 or more")
        if self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)
        if self.seed < 0:
            raise ValueError(f"received --seed {self.seed}; allowed: 0 or more")
        if not 0 <= self.max_skipped <= 1:
            raise ValueError(f"received --max-skipped {self.max_skipped}; allowed: 0 to 1")

    def content(self) -> dict:
        """Return the options that determine the content, for the manifest."""
        names = ("image_size", "splits", "max_images", "seed", "order", "shards")
        return {name: getattr(self, name) for name in names}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def planned_counts(source: Source, options: PackOptions) -> dict[str, int]:
    """Return the number of items to pack of each split.

    Raises:
        ValueError: an unknown or empty split, or a name that is not allowed in a file name.
    """
    splits = tuple(dict.fromkeys(options.splits)) or tuple(source.counts)
    if not splits:
        raise ValueError(f"{source.name} has no split to pack")
    for split in splits:
        if split not in source.counts:
            raise unknown(f"split of {source.name}", split, source.counts)
        if not re.fullmatch(r"\w[\w.-]*", split):
            raise ValueError(f"received the split name {split!r}; allowed: letters, digits, _ . -")
        if not source.counts[split]:
            raise ValueError(
                f"split {split!r} of {source.name} is empty; choose the others with --splits"
            )
    most = options.max_images
    return {s: min(source.counts[s], most or source.counts[s]) for s in splits}


def sampled_positions(split: str, count: int, options: PackOptions) -> frozenset[int] | None:
    """Return the positions, out of `count`, of the items to pack; None for all."""
    if options.max_images is None or options.max_images >= count:
        return None
    return frozenset(
        random.Random(f"{options.seed}/{split}").sample(range(count), options.max_images)
    )


def shard_ends(count: int, shards: int | None) -> list[int]:
    """Return the end of each shard; shard k of S begins at item k * count // S.

    >>> shard_ends(10, shards=3)
    [3, 6, 10]
    """
    number = min(count, shards or max(1, round(count / IMAGES_PER_SHARD)))
    return [(k + 1) * count // number for k in range(number)]


class Span(NamedTuple):
    """A shard and the range of its items, from `start` to before `end`."""

    file: str
    start: int
    end: int


def shard_spans(split: str, count: int, shards: int | None) -> list[Span]:
    """Return the shards of a split of `count` items, in order."""
    ends = shard_ends(count, shards)
    return [
        Span(shard_name(split, number, len(ends)), start, end)
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
    ]


def shard_name(split: str, number: int, of: int) -> str:
    """Return the file name of a shard.

    >>> shard_name("train", 3, 16)
    'train-00003-of-00016.tfrecord'
    """
    return f"{split}-{number:05d}-of-{of:05d}.tfrecord"
