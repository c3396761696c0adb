"""The shards of one split: all, or those that are wanted, out of one pass over the source."""

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tfclip.console import progress
from tfclip.records.options import IN_ORDER, PackOptions, Span, drawn
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
    """Pack the wanted shards of a split into `directory`; `done` is told each, in order.

    Pictures of other shards are not opened.

    Raises:
        ValueError: the source yields another number of items than it counted.
        tf.errors.OpError, OSError: a file cannot be written.
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
    # Hashing a finished shard takes a tenth of the time of packing it, and can go on beside.
    with contextlib.closing(checking), ThreadPoolExecutor(1) as hasher:
        checked = progress(checking, total=total, what=f"packing {split}")
        finishing = []
        for span in spans:
            if span in wanted:
                shard = ShardWriter(directory / span.file, split, options.image_size)
                shard.write(itertools.islice(checked, span.end - span.start))
                finishing.append(hasher.submit(lambda shard: done(shard.finish()), shard))
        for _ in itertools.chain(checked, items):  # the source's own check comes at its end
            pass
        for shard in finishing:
            shard.result()


def changed_shards(
    source: Source,
    split: str,
    spans: Sequence[Span],
    options: PackOptions,
    journal: Journal,
    directory: Path,
) -> list[str]:
    """Return the finished shards whose inputs are not what they were; no picture is opened."""
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
    """Yield the items to pack, in the order that the options say, and see that the source keeps its
    word about how many there are; a shuffle keeps its file in `directory`."""
    items = _in_order(source, split, options)
    if options.order == IN_ORDER:
        return items
    return shuffled_items(items, (options.seed, stable_hash(split)), directory)


def _in_order(source: Source, split: str, options: PackOptions) -> Iterator[Sample | Rejected]:
    positions = drawn(split, source.counts[split], options)
    at = -1
    for at, item in enumerate(source.read(split)):
        if positions is None or at in positions:
            yield item
    if at + 1 != source.counts[split]:
        raise ValueError(
            f"{source.name} changed while it was read: {source.counts[split]} pictures were "
            f"counted in {split!r}, {at + 1} were there"
        )


def _picture(item: Sample | Rejected) -> Path | bytes | None:
    return None if isinstance(item, Rejected) else item.image
