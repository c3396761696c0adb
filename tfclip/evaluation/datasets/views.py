"""Makes the views (crops) of pictures from records or files, as `embed_pictures` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.graphs import as_written
from tfclip.inputs.images import decode_picture, decode_record_jpeg, picture_views
from tfclip.inputs.tiles import tile_boxes
from tfclip.records import schema
from tfclip.records.reader import read_split

WHOLE_PICTURE = tile_boxes("1")


def record_views(
    directory: Path, split: str, size: int, boxes: np.ndarray = WHOLE_PICTURE
) -> tf.data.Dataset:
    """Return the views of every picture of packed records, in their order.

    Args:
        directory: packed records.
        split: one of their splits.
        size: side length S of a view.
        boxes: (T,4) of the views, see `inputs.tiles.tile_boxes`.

    Returns:
        A dataset of (row () int64, views (T,S,S,3) uint8).
    """

    def views(record):
        return picture_views(decode_record_jpeg(record[schema.IMAGE]), boxes, size)

    return read_split(directory, split, features=(schema.IMAGE,), then=views).enumerate()


def file_views(
    paths: Sequence[Path], size: int, boxes: np.ndarray = WHOLE_PICTURE
) -> tf.data.Dataset:
    """Return the views of picture files; pictures that do not decode are left out.

    Returns:
        A dataset as from `record_views`; `row` is the index in `paths`.
    """

    def views(row, path):
        return row, picture_views(decode_picture(tf.io.read_file(path)), boxes, size)

    files = tf.data.Dataset.from_tensor_slices([str(path) for path in paths]).enumerate()
    return files.map(as_written(views), num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
