"""The pictures of an index, read when they are shown: bytes, captions and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from tfclip.evaluation.search.index import SearchIndex
from tfclip.evaluation.search.picture_bytes import decodable
from tfclip.evaluation.search.records_file import read_record
from tfclip.records import schema
from tfclip.records.check import check_picture


@dataclass(frozen=True)
class IndexedPicture:
    """A picture of an index.

    Attributes:
        key: the key of a record, or the path within its folder.
        path: the file, or the directory of records.
        captions, labels: of a record; () for a file.
        encoded: the picture as a model takes it; None if its file is gone or no longer a picture.
        jpeg: the picture, upright, as an RGB JPEG; None like `encoded`.
        problem: why there is no picture, or "".
    """

    key: str
    path: Path
    captions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    encoded: bytes | None = None
    jpeg: bytes | None = None
    problem: str = ""


def read_picture(index: SearchIndex, row: int, *, pixels: bool = True) -> IndexedPicture:
    """Read a picture of an index; a file that is gone is not an error.

    Args:
        index: an opened index.
        row: the number of the picture.
        pixels: whether to read the bytes of a file.

    Raises:
        OSError: the records cannot be read.
    """
    source, path = index.source(row), index.path(row)
    if path is None:
        place = index.pictures[row]
        data = read_record(source.path / source.shards[place["shard"]], int(place["offset"]))
        record = schema.parse(tf.constant(data))
        captions, labels = (
            tuple(text.decode("utf-8", "replace") for text in record[name].numpy())
            for name in (schema.CAPTION, schema.LABEL)
        )
        key = record[schema.KEY].numpy().decode("utf-8", "replace")
        jpeg = record[schema.IMAGE].numpy()
        return IndexedPicture(key, source.path, captions, labels, jpeg, jpeg)
    key = index.name(row) or path.name
    if not pixels:
        return IndexedPicture(key, path)
    try:
        encoded = decodable(path.read_bytes())
        return IndexedPicture(key, path, encoded=encoded, jpeg=check_picture(encoded).jpeg)
    except OSError as error:
        return IndexedPicture(key, path, problem=f"cannot be read: {error.strerror}")
    except ValueError as error:
        return IndexedPicture(key, path, problem=str(error))
