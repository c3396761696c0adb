"""How a source is packed: the options, and what follows from them and from the source's counts."""

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
    """What decides the content of a packed set, and how the work is done."""

    image_size: int | None = None
    """Shrink pictures with a longer short side to this; by default all keep their size."""
    splits: tuple[str, ...] = ()
    """The splits to pack; by default all that the source has."""
    max_images: int | None = None
    """At most so many pictures of every split, drawn by --seed."""
    seed: int = 0
    """Decides the order, which pictures --max-images takes, and the split of a source without."""
    order: str = IN_ORDER
    """The order of the records: shuffled by --seed, so that every batch holds pictures from all
    parts of sorted data (what make_records does by itself); or source, as the data set has them."""
    shards: int | None = None
    """Shards for every split; by default one for about 1,000 pictures."""
    max_skipped: float = 0.01
    """The largest share of rejected pictures that still makes a set; more ends with exit code 3."""
    workers: int = field(default_factory=lambda: min(2, os.cpu_count() or 1))
    """Processes that check pictures; the result does not depend on it."""
    overwrite: bool = False
    """Replace a finished set, when the new one is complete."""

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
        """Return the options that decide the content, for the manifest."""
        names = ("image_size", "splits", "max_images", "seed", "order", "shards")
        return {name: getattr(self, name) for name in names}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def planned(source: Source, options: PackOptions) -> dict[str, int]:
    """Return how many items of which splits will be packed.

    Raises:
        ValueError: an unknown split, one without pictures, or a name no file can have.
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
                f"split {split!r} of {source.name} is empty; leave it out with --splits"
            )
    most = options.max_images
    return {s: min(source.counts[s], most or source.counts[s]) for s in splits}


def drawn(split: str, count: int, options: PackOptions) -> frozenset[int] | None:
    """Return the positions of the items to pack, out of `count`; None means all."""
    if options.max_images is None or options.max_images >= count:
        return None
    return frozenset(
        random.Random(f"{options.seed}/{split}").sample(range(count), options.max_images)
    )


def shard_ends(count: int, shards: int | None) -> list[int]:
    """Return where each shard ends: shard k of S holds the items k * count // S and on."""
    number = min(count, shards or max(1, round(count / IMAGES_PER_SHARD)))
    return [(k + 1) * count // number for k in range(number)]


class Span(NamedTuple):
    """A shard, and the items that it holds: those from `start` to before `end`."""

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
    """Return the file name of a shard: train-00003-of-00016.tfrecord."""
    return f"{split}-{number:05d}-of-{of:05d}.tfrecord"
