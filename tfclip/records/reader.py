"""Read packed records with tf.data: parsed, not decoded, in an order that (seed, epoch) decides."""

import contextlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfclip.records import schema
from tfclip.records.manifest import load_manifest

Record = dict[str, tf.Tensor]
ROW = "row"
"""The place of a record in its split, () int64, beside its features where `counts` are given."""
SHARDS_AT_ONCE = 8
"""How many shards a shuffled reader mixes; a part of what decides the order."""
SHUFFLE_BLOCK = 2048


def split_files(directory: Path | str, split: str) -> list[str]:
    """Return the shard files of a split, in order, after a look at their sizes.

    Raises:
        FileNotFoundError: no such directory, not finished, or a shard is missing.
        ValueError: there is no such split, or a shard has another size than when it was packed.
    """
    directory = Path(directory)
    files = []
    for shard in load_manifest(directory).shards_of(split):
        path = directory / shard.file
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; pack again with --overwrite")
        if path.stat().st_size != shard.bytes:
            raise ValueError(
                f"{path} has {path.stat().st_size} bytes, was packed with {shard.bytes}: "
                f"record {_sound(path)} is damaged or missing; "
                f"run python -m tfclip.make_records verify {directory}"
            )
        files.append(str(path))
    return files


def _sound(path: Path) -> int:
    """Return how many records can be read before the first damaged one."""
    records = 0
    with contextlib.suppress(tf.errors.DataLossError):
        for _ in tf.data.TFRecordDataset(str(path)):
            records += 1
    return records


def shard_counts(directory: Path | str, split: str) -> list[int]:
    """Return how many records each file of `split_files` holds."""
    return [shard.records for shard in load_manifest(directory).shards_of(split)]


def read_shards(
    files: Sequence[str],
    *,
    shuffle_seed: int | None = None,
    epoch: int = 0,
    shuffle_block: int = SHUFFLE_BLOCK,
    features: Sequence[str] = schema.FEATURES,
    then: Callable[[Record], Any] | None = None,
    num_parallel_calls: int = tf.data.AUTOTUNE,
) -> tf.data.Dataset:
    """Return one pass over the records of these files, as dicts keyed by the names of `schema`.

    Nothing but the arguments decides the order: not the threads, not TensorFlow's global seed.

    Args:
        files: shards, from `split_files`; a machine of several takes its part of them.
        shuffle_seed: None reads in the order of packing. Otherwise the shards are permuted,
            `SHARDS_AT_ONCE` of them mixed, and every `shuffle_block` records permuted.
        epoch: every epoch has another order.
        shuffle_block: records in memory for shuffling (encoded pictures).
        features: which features; see `schema.parse`.
        then: applied to every parsed record, and its result taken in its place. Decoding here
            takes a sixth less time than in a map of its own.
        num_parallel_calls: threads that parse, and do what `then` asks.
    """
    if shuffle_seed is None:
        records = tf.data.TFRecordDataset(list(files))
    else:
        sources = [tf.constant(list(files))]
        records = _shuffled(sources, tf.data.TFRecordDataset, shuffle_seed, epoch, shuffle_block)

    def parse(record: tf.Tensor) -> Any:
        parsed = schema.parse(record, features)
        return parsed if then is None else then(parsed)

    return records.map(parse, num_parallel_calls=num_parallel_calls, deterministic=True)


def endless_shards(
    files: Sequence[str],
    *,
    shuffle_seed: int,
    start: int = 0,
    epoch_size: int | None = None,
    shuffle_block: int = SHUFFLE_BLOCK,
    features: Sequence[str] = schema.FEATURES,
    counts: Sequence[int] | None = None,
    keep: Callable[[tf.Tensor], tf.Tensor] | None = None,
    then: Callable[[tf.Tensor, Record], Any] | None = None,
    num_parallel_calls: int = tf.data.AUTOTUNE,
) -> tf.data.Dataset:
    """Return the epochs 0, 1, 2, ... of `read_shards` one after the other, without an end.

    Args:
        files, shuffle_seed, shuffle_block, num_parallel_calls: see `read_shards`.
        start: so many records are left out at the beginning, without being parsed.
        epoch_size: records in all files; known from `counts` too. Then what is left out is read at
            most for a part of one epoch, and not from the very first record on.
        features: as in `read_shards`; () with `counts` reads no file, and keeps the order.
        counts: records in each file, from `shard_counts`: adds `ROW` to every record.
        keep: whether a record is wanted, by its number, () int64, which counts over all epochs
            from 0; the others are left out without being parsed.
        then: as in `read_shards`, but called with the number of the record too.
    """
    sources = [tf.constant(list(files))]
    if counts is not None:
        sources += [tf.constant(np.cumsum([0, *counts])[:-1]), tf.constant(counts, tf.int64)]

    def opened(file: tf.Tensor, first: tf.Tensor = 0, count: tf.Tensor = 0) -> tf.data.Dataset:
        if counts is None:
            return tf.data.TFRecordDataset(file)
        rows = tf.data.Dataset.range(first, first + count)
        return tf.data.Dataset.zip(rows, tf.data.TFRecordDataset(file)) if features else rows

    if counts is not None:
        epoch_size = sum(counts)
    before, left_out = divmod(start, epoch_size) if epoch_size else (0, start)
    epochs = tf.data.Dataset.range(before, 2**31)
    records = epochs.flat_map(
        lambda epoch: _shuffled(sources, opened, shuffle_seed, epoch, shuffle_block)
    )

    def parse(number: tf.Tensor, element: Any) -> Any:
        row, serialized = (None, element) if counts is None else (element, None)
        if counts is not None and features:
            row, serialized = element
        parsed = schema.parse(serialized, features) if features else {}
        if row is not None:
            parsed[ROW] = row
        return parsed if then is None else then(number, parsed)

    numbered = records.skip(left_out).enumerate(start)
    if keep is not None:
        numbered = numbered.filter(lambda number, element: keep(number))
    return numbered.map(parse, num_parallel_calls=num_parallel_calls, deterministic=True)


def _shuffled(
    sources: Sequence[tf.Tensor],
    opened: Callable[..., tf.data.Dataset],
    seed: int,
    epoch: int | tf.Tensor,
    block_size: int,
) -> tf.data.Dataset:
    """Permute the sources, mix what `opened` makes of some at a time, and permute in blocks."""
    # Stateless draws: Dataset.shuffle would mix TensorFlow's global seed into its own.
    of_epoch = tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])

    def permuted(elements: Any, draw: int | tf.Tensor) -> Any:
        count = tf.shape(tf.nest.flatten(elements)[0])[0]
        keys = tf.random.stateless_uniform([count], tf.random.fold_in(of_epoch, draw))
        order = tf.argsort(keys, stable=True)
        return tf.nest.map_structure(lambda part: tf.gather(part, order), elements)

    order = tf.data.Dataset.from_tensor_slices(tuple(permuted(list(sources), 0)))
    mixed = order.interleave(
        opened,
        cycle_length=min(SHARDS_AT_ONCE, sources[0].shape[0]),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    blocks = mixed.batch(block_size).enumerate()
    return blocks.map(lambda block, elements: permuted(elements, block + 1)).unbatch()


def sample_split(directory: Path | str, split: str, count: int, seed: int) -> list[dict]:
    """Return `count` records of a split, or all when it has fewer, as NumPy values: every record is
    as likely as any other, whatever the order they were packed in. They come in a drawn order."""
    files, sizes = split_files(directory, split), shard_counts(directory, split)
    total = sum(sizes)
    drawn = random.Random(seed).sample(range(total), min(count, total))
    found: dict[int, dict] = {}
    start = 0
    for file, size in zip(files, sizes, strict=True):
        wanted = sorted(position - start for position in drawn if start <= position < start + size)
        if wanted:
            rows = tf.data.TFRecordDataset(file).take(wanted[-1] + 1).enumerate()
            rows = rows.filter(lambda row, _, wanted=wanted: tf.reduce_any(row == wanted))
            for row, record in rows.map(lambda row, record: (row, schema.parse(record))):
                values = {name: value.numpy() for name, value in record.items()}
                found[start + int(row)] = values
        start += size
    return [found[position] for position in drawn]


def read_split(directory: Path | str, split: str, **options) -> tf.data.Dataset:
    """Return one pass over a split of a packed set; options and order are those of `read_shards`.

    The dataset knows how many records it has.

    Raises:
        FileNotFoundError, ValueError: see `split_files`.
    """
    records = read_shards(split_files(directory, split), **options)
    images = load_manifest(directory).splits[split].images
    return records.apply(tf.data.experimental.assert_cardinality(images))
