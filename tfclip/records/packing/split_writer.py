"""Pack the shards of one split, all or some, in one pass over the source."""

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tfclip.console import progress
from tfclip.records.options import IN_ORDER, PackOptions, Span, sampled_positions
from tfclip.records.packing.journal import Finished, Inputs, Journal
from tfclip.records.packing.pool import PictureCheckers
from tfclip.records.packing.shard_writer import ShardWriter
from tfclip.records.packing.shuffled_items import shuffled_items
from tfclip.sources.sample import Rejected, Sample, Source
from tfclip.sources.splits import stable_hash


def pack_shards(
    source: Source,
    split: str,
    spans: Sequence[Span],
    wanted: Collection[Span],
    directory: Path,
    options: PackOptions,
    checkers: PictureCheckers,
    done: Callable[[Finished], None],
) -> None:
    """Pack the `wanted` shards of a split into `directory`, and call `done` with each, in order.

    Pictures of other shards are not opened.

    Raises:
        ValueError: the number of items differs from the count of the source.
        tf.errors.OpError: a file cannot be written, like OSError.
    """
    wanted = set(wanted)
    total = sum(span.end - span.start for span in wanted)
    items = items_to_pack(source, split, options, directory)
    needed = (
        item
        for span in spans
        for item in itertools.islice(items, span.end - span.start)
        if span in wanted
    )
    checking = checkers.in_order(needed, _picture)
    # Hashing a finished shard takes a tenth of the time of packing it, and runs in parallel.
    with contextlib.closing(checking), ThreadPoolExecutor(1) as hasher:
        checked = progress(checking, total=total, what=f"packing {split}")
        finishing = []
        for span in spans:
            if span in wanted:
                shard = ShardWriter(directory / span.file, split, options.image_size)
                shard.write(itertools.islice(checked, span.end - span.start))
                finishing.append(hasher.submit(lambda shard: done(shard.finish()), shard))
        for _ in itertools.chain(checked, items):  # runs the check of the count at the end
            pass
        for future in finishing:
            future.result()


def changed_shards(
    source: Source,
    split: str,
    spans: Sequence[Span],
    options: PackOptions,
    journal: Journal,
    directory: Path,
) -> list[str]:
    """Return the finished shards whose inputs have changed; no picture is opened."""
    changed = []
    items = items_to_pack(source, split, options, directory)
    for file, start, end in spans:
        inputs = Inputs(options.image_size)
        for item in itertools.islice(items, end - start):
            if file in journal:
                inputs.add(item)
        if file in journal and inputs.digest() != journal[file].inputs:
            changed.append(file)
    return changed


def items_to_pack(
    source: Source, split: str, options: PackOptions, directory: Path
) -> Iterator[Sample | Rejected]:
    """Yield the items to pack, in the order of the options.

    A shuffle writes a temporary file to `directory`.

    Raises:
        ValueError: the number of items differs from the count of the source.
    """
    items = _in_order(source, split, options)
    if options.order == IN_ORDER:
        return items
    return shuffled_items(items, (options.seed, stable_hash(split)), directory)


def _in_order(source: Source, split: str, options: PackOptions) -> Iterator[Sample | Rejected]:
    positions = sampled_positions(split, source.counts[split], options)
    at = -1
    for at, item in enumerate(source.read(split)):
        if positions is None or at in positions:
            yield item
    if at + 1 != source.counts[split]:
        raise ValueError(
            f"{source.name} changed while it was read: {split!r} had {source.counts[split]} "
            f"pictures, now {at + 1}"
        )


def _picture(item: Sample | Rejected) -> Path | bytes | None:
    return None if isinstance(item, Rejected) else item.image
