"""Read packed records with tf.data: parsed, not decoded, in an order that (seed, epoch) decides."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from tfclip.records import schema
from tfclip.records.manifest import load_manifest

SHARDS_AT_ONCE = 8
"""How many shards a shuffled reader mixes; a part of what decides the order."""


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
                f"{path} has {path.stat().st_size} bytes, was packed with {shard.bytes}; "
                f"run python -m tfclip.make_records verify {directory}"
            )
        files.append(str(path))
    return files


def read_shards(
    files: Sequence[str],
    *,
    shuffle_seed: int | None = None,
    epoch: int | tf.Tensor = 0,
    shuffle_block: int = 2048,
    features: Sequence[str] = schema.FEATURES,
    num_parallel_calls: int = tf.data.AUTOTUNE,
) -> tf.data.Dataset:
    """Return one pass over the records of these files, as dicts keyed by the names of `schema`.

    Nothing but the arguments decides the order: not the threads, not TensorFlow's global seed.

    Args:
        files: shards, from `split_files`; a machine of several takes its part of them.
        shuffle_seed: None reads in the order of packing. Otherwise the shards are permuted,
            `SHARDS_AT_ONCE` of them mixed, and every `shuffle_block` records permuted.
        epoch: every epoch has another order; may be a () int32 tensor.
        shuffle_block: records in memory for shuffling (encoded pictures).
        features: which features; see `schema.parse`.
        num_parallel_calls: threads that parse.
    """
    if shuffle_seed is None:
        records = tf.data.TFRecordDataset(list(files))
    else:
        # Seeded by themselves: Dataset.shuffle would mix TensorFlow's global seed in.
        seeds = tf.random.split([shuffle_seed, epoch], 2)
        order = tf.argsort(tf.random.stateless_uniform([len(files)], seeds[0]))
        block_seed = tf.random.stateless_uniform([], seeds[1], maxval=2**31 - 1, dtype=tf.int32)
        permuted = tf.data.Dataset.from_tensor_slices(tf.gather(list(files), order))
        records = permuted.interleave(
            tf.data.TFRecordDataset,
            cycle_length=min(SHARDS_AT_ONCE, len(files)),
            num_parallel_calls=num_parallel_calls,
            deterministic=True,
        )

        def permute(block: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
            seed = [block_seed, tf.cast(block, tf.int32)]
            keys = tf.random.stateless_uniform([tf.size(rows)], seed)
            return tf.gather(rows, tf.argsort(keys))

        records = records.batch(shuffle_block).enumerate().map(permute).unbatch()
    return records.map(
        lambda record: schema.parse(record, features),
        num_parallel_calls=num_parallel_calls,
        deterministic=True,
    )


def endless_shards(files: Sequence[str], *, shuffle_seed: int, **options) -> tf.data.Dataset:
    """Return epoch after epoch of `read_shards`, each in its own order, without an end."""
    return tf.data.Dataset.range(2**31).flat_map(
        lambda epoch: read_shards(
            files, shuffle_seed=shuffle_seed, epoch=tf.cast(epoch, tf.int32), **options
        )
    )


def read_split(directory: Path | str, split: str, **options) -> tf.data.Dataset:
    """Return one pass over a split of a packed set; options and order are those of `read_shards`.

    The dataset knows how many records it has.

    Raises:
        FileNotFoundError, ValueError: see `split_files`.
    """
    records = read_shards(split_files(directory, split), **options)
    images = load_manifest(directory).splits[split].images
    return records.apply(tf.data.experimental.assert_cardinality(images))
