"""Read record sets with tf.data: parsed, not decoded, in an order determined by seed and epoch."""

import contextlib
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfclip.graphs import as_written
from tfclip.records import schema
from tfclip.records.manifest import load_manifest

Record = dict[str, tf.Tensor]
ROW = "row"
"""The position of a record in its split, () int64; added to the features where `counts` are
given."""
SHARDS_AT_ONCE = 8
"""The number of shards that a shuffled reader interleaves; changing it changes the order."""
SHUFFLE_BLOCK = 2048
"""The number of records permuted at a time; changing it changes the order."""


def split_files(directory: Path | str, split: str) -> list[str]:
    """Return the paths of the shards of a split, in order, after checking their sizes.

    Raises:
        FileNotFoundError: no such directory, an unfinished set, or a missing shard.
        ValueError: an unknown split, or a shard whose size differs from the manifest.
    """
    directory = Path(directory)
    files = []
    for shard in load_manifest(directory).shards_of(split):
        path = directory / shard.file
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; pack again with --overwrite")
        if path.stat().st_size != shard.bytes:
            raise ValueError(
                f"{path} has {path.stat().st_size} bytes, the manifest lists {shard.bytes}: "
                f"record {_count_intact(path)} is damaged or missing; "
                f"run python -m tfclip.make_records verify {directory}"
            )
        files.append(str(path))
    return files


def _count_intact(path: Path) -> int:
    """Return the number of records before the first damaged one."""
    records = 0
    with contextlib.suppress(tf.errors.DataLossError):
        for _ in tf.data.TFRecordDataset(str(path)):
            records += 1
    return records


def shard_counts(directory: Path | str, split: str) -> list[int]:
    """Return the number of records in each file of `split_files`."""
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

    The order depends on the arguments alone, not on threads or TensorFlow's global seed.

    Args:
        files: shards, from `split_files`, or some of them.
        shuffle_seed: None reads in the order of packing. Otherwise the shards are permuted,
            `SHARDS_AT_ONCE` of them interleaved, and each block of `shuffle_block` records
            permuted.
        epoch: the number of the pass; each has a different order.
        shuffle_block: the number of records (encoded pictures) in memory for shuffling.
        features: the features to parse, see `schema.parse`.
        then: applied to every parsed record; its result replaces the record. Decoding here takes a
            sixth less time than in a separate map.
        num_parallel_calls: the number of threads that parse and call `then`.

    Returns:
        A dataset of records, or of the results of `then`.

    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> file = f"{folder.name}/train.tfrecord"
    >>> with tf.io.TFRecordWriter(file) as writer:
    ...     for name in ("coco/1", "coco/2"):
    ...         writer.write(schema.encode({schema.KEY: [name], schema.CAPTION: ["a dog"]}))
    >>> records = read_shards([file], features=(schema.KEY, schema.CAPTION))
    >>> [(record["image/key"], *record["image/caption"]) for record in records.as_numpy_iterator()]
    [(b'coco/1', b'a dog'), (b'coco/2', b'a dog')]
    """
    if shuffle_seed is None:
        records = tf.data.TFRecordDataset(list(files))
    else:
        sources = [tf.constant(list(files))]
        records = _shuffled(sources, tf.data.TFRecordDataset, shuffle_seed, epoch, shuffle_block)

    def parse(record: tf.Tensor) -> Any:
        parsed = schema.parse(record, features)
        return parsed if then is None else then(parsed)

    return records.map(as_written(parse), num_parallel_calls=num_parallel_calls, deterministic=True)


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
    """Return the epochs 0, 1, 2, ... of `read_shards` as one endless dataset.

    Args:
        files: as in `read_shards`, like `shuffle_seed`, `shuffle_block` and `num_parallel_calls`.
        start: the number of records to skip at the beginning; they are not parsed.
        epoch_size: the number of records in all files (`counts` gives it too). With it only the
            records of the first unfinished epoch are read to be skipped, not all from record 0.
        features: as in `read_shards`; () with `counts` reads no file and gives the same order.
        counts: the number of records in each file, from `shard_counts`; adds `ROW` to every record.
        keep: given the number of a record, () int64, counted from 0 over all epochs, returns
            whether to keep it; the others are not parsed.
        then: as in `read_shards`, but called with the number of the record and the record.
    """
    sources = [tf.constant(list(files))]
    if counts is not None:
        sources += [tf.constant(np.cumsum([0, *counts])[:-1]), tf.constant(counts, tf.int64)]

    def open_shard(file: tf.Tensor, first: tf.Tensor = 0, count: tf.Tensor = 0) -> tf.data.Dataset:
        if counts is None:
            return tf.data.TFRecordDataset(file)
        rows = tf.data.Dataset.range(first, first + count)
        return tf.data.Dataset.zip(rows, tf.data.TFRecordDataset(file)) if features else rows

    if counts is not None:
        epoch_size = sum(counts)
    first_epoch, skipped = divmod(start, epoch_size) if epoch_size else (0, start)
    epochs = tf.data.Dataset.range(first_epoch, 2**31)
    records = epochs.flat_map(
        as_written(lambda epoch: _shuffled(sources, open_shard, shuffle_seed, epoch, shuffle_block))
    )

    def parse(number: tf.Tensor, element: Any) -> Any:
        row, serialized = (None, element) if counts is None else (element, None)
        if counts is not None and features:
            row, serialized = element
        parsed = schema.parse(serialized, features) if features else {}
        if row is not None:
            parsed[ROW] = row
        return parsed if then is None else then(number, parsed)

    numbered = records.skip(skipped).enumerate(start)
    if keep is not None:
        numbered = numbered.filter(as_written(lambda number, element: keep(number)))
    return numbered.map(
        as_written(parse), num_parallel_calls=num_parallel_calls, deterministic=True
    )


def _shuffled(
    sources: Sequence[tf.Tensor],
    open_shard: Callable[..., tf.data.Dataset],
    seed: int,
    epoch: int | tf.Tensor,
    block_size: int,
) -> tf.data.Dataset:
    """Permute the shards, interleave the records of some at a time, and permute them in blocks.

    `sources` are the arguments of `open_shard` for all shards: (S,) tensors.
    """
    # Stateless random numbers: Dataset.shuffle also depends on TensorFlow's global seed.
    epoch_seed = tf.stack([tf.cast(seed, tf.int64), tf.cast(epoch, tf.int64)])

    def permuted(elements: Any, number: int | tf.Tensor) -> Any:
        count = tf.shape(tf.nest.flatten(elements)[0])[0]
        keys = tf.random.stateless_uniform([count], tf.random.fold_in(epoch_seed, number))
        order = tf.argsort(keys, stable=True)
        return tf.nest.map_structure(lambda part: tf.gather(part, order), elements)

    order = tf.data.Dataset.from_tensor_slices(tuple(permuted(list(sources), 0)))
    mixed = order.interleave(
        as_written(open_shard),
        cycle_length=min(SHARDS_AT_ONCE, sources[0].shape[0]),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    blocks = mixed.batch(block_size).enumerate()
    return blocks.map(as_written(lambda block, elements: permuted(elements, block + 1))).unbatch()


def sample_split(directory: Path | str, split: str, count: int, seed: int) -> list[dict]:
    """Return `count` records of a split, or all when it has fewer, sampled uniformly at random.

    Args:
        directory: a record set.
        split: one of its splits.
        count: the number of records.
        seed: determines the records and their order.

    Returns:
        Dicts of NumPy values, keyed by feature name, in random order.
    """
    files, sizes = split_files(directory, split), shard_counts(directory, split)
    total = sum(sizes)
    positions = random.Random(seed).sample(range(total), min(count, total))
    records: dict[int, dict] = {}
    start = 0
    for file, size in zip(files, sizes, strict=True):
        wanted = sorted(at - start for at in positions if start <= at < start + size)
        if wanted:
            rows = tf.data.TFRecordDataset(file).take(wanted[-1] + 1).enumerate()
            rows = rows.filter(
                as_written(lambda row, _, wanted=wanted: tf.reduce_any(row == wanted))
            )
            rows = rows.map(as_written(lambda row, record: (row, schema.parse(record))))
            for row, record in rows:
                values = {name: value.numpy() for name, value in record.items()}
                records[start + int(row)] = values
        start += size
    return [records[position] for position in positions]


def read_split(directory: Path | str, split: str, **options: Any) -> tf.data.Dataset:
    """Return one pass over a split of a record set; the options are those of `read_shards`.

    The dataset has the right cardinality.

    Raises:
        FileNotFoundError: no such records, see `split_files`.
        ValueError: an unknown split, or a damaged shard.
    """
    records = read_shards(split_files(directory, split), **options)
    images = load_manifest(directory).splits[split].images
    return records.apply(tf.data.experimental.assert_cardinality(images))
