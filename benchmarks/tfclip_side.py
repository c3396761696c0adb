"""Packing and reading with tfclip, for benchmarks.records: in a process without webdataset."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.timing import Timing, timed
from tfclip.inputs.images import decode_record_jpeg, resize_picture
from tfclip.records import schema
from tfclip.records.options import PackOptions
from tfclip.records.reader import read_split
from tfclip.records.writer import pack
from tfclip.sources.sample import Sample, Source
from tfclip.sources.voc import CLASS_NAMES

THREADS = 2


def pack_records(samples: Sequence[Sample], out: Path, shards: int, workers: int) -> Timing:
    """Pack into `out`; `workers` processes check, this one writes."""
    source = Source("voc", {"train": len(samples)}, lambda split: iter(samples), CLASS_NAMES)
    options = PackOptions(shards=shards, workers=workers, overwrite=True)
    return timed(lambda: pack(source, out, options).splits["train"].images)


def read_records(records: Path, size: int, batch_size: int) -> Timing:
    """Read batches of resized pictures on two threads."""
    batches = _batches(records, size, batch_size)
    return timed(lambda: sum(len(pictures) for _, pictures in batches.as_numpy_iterator()))


def first_pictures(records: Path, size: int, count: int) -> dict[str, np.ndarray]:
    """Return the first resized pictures of the set by their keys, (size,size,3) uint8."""
    keys, pictures = next(_batches(records, size, count).as_numpy_iterator())
    return {key.decode(): picture for key, picture in zip(keys, pictures, strict=True)}


def _batches(records: Path, size: int, batch_size: int) -> tf.data.Dataset:
    def resized(record: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return record[schema.KEY], resize_picture(decode_record_jpeg(record[schema.IMAGE]), size)

    read = read_split(
        records,
        "train",
        features=(schema.KEY, schema.IMAGE),
        then=resized,
        num_parallel_calls=THREADS,
    )
    options = tf.data.Options()
    # With autotune, short timings snap to the grid of its steps.
    options.autotune.enabled = False
    options.threading.private_threadpool_size = THREADS
    return read.batch(batch_size).prefetch(2).with_options(options)
