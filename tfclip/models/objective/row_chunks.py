"""Loops over chunks of the rows of a large matrix, so that the matrix never exists as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

# Logits of a chunk of rows: 1 MB. About ten arrays of this size are in memory at once. With 4 MB a
# step of 16,384 pairs is a tenth faster, but needs more memory than small towers do.
CHUNK_LOGITS = 2**18
# On a GPU 64 MB: with fewer, each of a thousand turns would be too small to keep it busy.
CHUNK_LOGITS_ON_GPU = 2**24


def chunk_size(columns: tf.Tensor, rows: int | None = None) -> int | tf.Tensor:
    """Return the rows of a chunk: an int if the number of columns (G, D) is known.

    Args:
        columns: each row has a logit for each of them.
        rows: the number of rows if it is given; None chooses by the memory of the device.
    """
    if rows is not None:
        return rows
    logits = CHUNK_LOGITS_ON_GPU if tf.config.list_logical_devices("GPU") else CHUNK_LOGITS
    if columns.shape[0] is not None:
        return max(1, logits // max(1, columns.shape[0]))
    return tf.maximum(1, logits // tf.maximum(1, tf.shape(columns)[0]))


def over_chunks(
    one_chunk: Callable[[Sequence[tf.Tensor], tuple], tuple[tf.Tensor, tuple]],
    arrays: Sequence[tf.Tensor],
    sums: tuple,
    size: int | tf.Tensor,
) -> tuple[tf.Tensor, tuple]:
    """Call a function for chunks of rows, one after the other.

    If all shapes are known, the loop compiles under XLA; the results are the same bits.

    Args:
        one_chunk: takes parts of `arrays` with up to `size` rows, and the sums so far; returns an
            array (size, D) float32 and the new sums.
        arrays: (R, ...) each, the first (R, D).
        sums: the initial sums.
        size: rows of a chunk.

    Returns:
        The arrays of all chunks as one, (R, D), and the sums.
    """
    known = arrays[0].shape[0] is not None and isinstance(size, int)
    return (_over_known_rows if known else _over_unknown_rows)(one_chunk, arrays, sums, size)


def _over_known_rows(
    one_chunk: Callable, arrays: Sequence[tf.Tensor], sums: Any, size: int
) -> tuple:
    count, width = arrays[0].shape
    whole = count // size
    parts = []
    if whole:
        chunks = tf.TensorArray(tf.float32, size=whole, element_shape=[size, width])

        def body(number, chunks, *sums):
            part = [
                tf.slice(a, [number * size, *[0] * (a.shape.rank - 1)], [size, *a.shape[1:]])
                for a in arrays
            ]
            rows_of_chunk, sums = one_chunk(part, sums)
            return number + 1, chunks.write(number, rows_of_chunk), *sums

        _, chunks, *sums = tf.while_loop(
            lambda number, *_: number < whole,
            body,
            (tf.constant(0), chunks, *sums),
            parallel_iterations=1,
        )
        parts.append(tf.reshape(chunks.stack(), [whole * size, width]))
    if whole * size < count:
        rows_of_chunk, sums = one_chunk([array[whole * size :] for array in arrays], sums)
        parts.append(rows_of_chunk)
    return (parts[0] if len(parts) == 1 else tf.concat(parts, 0)), sums


def _over_unknown_rows(
    one_chunk: Callable, arrays: Sequence[tf.Tensor], sums: Any, size: int | tf.Tensor
) -> tuple:
    rows = arrays[0]
    chunks = tf.TensorArray(
        tf.float32,
        size=0,
        dynamic_size=True,
        infer_shape=False,
        element_shape=tf.TensorShape([None, rows.shape[1]]),
    )

    def body(start, chunks, *sums):
        rows_of_chunk, sums = one_chunk([array[start : start + size] for array in arrays], sums)
        return start + size, chunks.write(start // size, rows_of_chunk), *sums

    count = tf.shape(rows)[0]
    _, chunks, *sums = tf.while_loop(
        lambda start, *_: start < count,
        body,
        (tf.constant(0), chunks, *sums),
        parallel_iterations=1,
    )
    return tf.ensure_shape(chunks.concat(), rows.shape), sums
