"""Packing and reading with tfclip, for benchmarks.records: in a process without webdataset."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.timing import Timing, timed
from tfclip.inputs.images import decode_record_jpeg, resize_picture
from tfclip.records import schema
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.records.reader import read_split
from tfclip.sources.sample import Sample, Source
from tfclip.sources.voc import CLASS_NAMES

THREADS = 2


def pack_records(
    samples: Sequence[Sample], out: Path, shards: int, image_size: int | None, workers: int
) -> Timing:
    """Pack into `out`; `workers` processes check, this one writes."""
    source = Source("voc", {"train": len(samples)}, lambda split: iter(samples), CLASS_NAMES)
    options = PackOptions(image_size=image_size, shards=shards, workers=workers, overwrite=True)
    return timed(lambda: pack(source, out, options).splits["train"].images)


def read_records(records: Path, size: int, batch_size: int) -> Timing:
    """Read batches of resized pictures on two threads."""
    batches = _batches(records, size, batch_size)
    return timed(lambda: sum(len(pictures) for _, pictures in batches.as_numpy_iterator()))


def read_crops(records: Path, size: int, batch_size: int) -> Timing:
    """Read batches of the middle of each picture, decoded without the rest of it.

    A picture with a side shorter than `size` is resized as a whole.
    """

    def middle(record: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        height, width = (
            tf.cast(record[schema.HEIGHT], tf.int32),
            tf.cast(record[schema.WIDTH], tf.int32),
        )
        window = tf.stack([(height - size) // 2, (width - size) // 2, size, size])
        picture = tf.cond(
            tf.minimum(height, width) < size,
            lambda: resize_picture(decode_record_jpeg(record[schema.IMAGE]), size),
            lambda: tf.io.decode_and_crop_jpeg(
                record[schema.IMAGE], window, channels=3, dct_method="INTEGER_ACCURATE"
            ),
        )
        return record[schema.KEY], tf.ensure_shape(picture, [size, size, 3])

    features = (schema.KEY, schema.IMAGE, schema.HEIGHT, schema.WIDTH)
    batches = _read(records, features, middle).batch(batch_size).prefetch(2)
    return timed(lambda: sum(len(pictures) for _, pictures in batches.as_numpy_iterator()))


def decode_records(records: Path) -> Timing:
    """Decode every picture with tf.io.decode_jpeg, on the same threads, and drop the pixels."""

    def decoded(record: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.io.decode_jpeg(record[schema.IMAGE])

    pictures = _read(records, (schema.IMAGE,), decoded).prefetch(2)
    return timed(lambda: sum(1 for _ in pictures))


def write_pictures(records: Path, folder: Path) -> None:
    """Write the pictures of the set into files of their own, numbered in its order."""
    folder.mkdir()
    for at, record in enumerate(read_split(records, "train").as_numpy_iterator()):
        (folder / f"{at}.jpg").write_bytes(record[schema.IMAGE])


def first_pictures(records: Path, size: int, count: int) -> dict[str, np.ndarray]:
    """Return the first resized pictures of the set by their keys, (size,size,3) uint8."""
    keys, pictures = next(_batches(records, size, count).as_numpy_iterator())
    return {key.decode(): picture for key, picture in zip(keys, pictures, strict=True)}


def _batches(records: Path, size: int, batch_size: int) -> tf.data.Dataset:
    def resized(record: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return record[schema.KEY], resize_picture(decode_record_jpeg(record[schema.IMAGE]), size)

    return _read(records, (schema.KEY, schema.IMAGE), resized).batch(batch_size).prefetch(2)


def _read(records: Path, features: Sequence[str], then: Callable) -> tf.data.Dataset:
    options = tf.data.Options()
    # With autotune, short timings snap to the grid of its steps.
    options.autotune.enabled = False
    options.threading.private_threadpool_size = THREADS
    read = read_split(records, "train", features=features, then=then, num_parallel_calls=THREADS)
    return read.with_options(options)
