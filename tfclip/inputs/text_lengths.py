"""Trim the padding of batches of texts, to one of a few fixed lengths."""

from __future__ import annotations

import tensorflow as tf

from tfclip.graphs import as_written

# The number of lengths, and the number that each is rounded up to a multiple of.
PARTS = 4
MULTIPLE = 8


def text_lengths(context_length: int) -> list[int]:
    """Return the possible lengths of batches, ascending; the last is the context length.

    >>> text_lengths(77)
    [24, 40, 64, 77]
    """
    parts = (-(-context_length * part // PARTS) for part in range(1, PARTS + 1))
    rounded = {min(-(-part // MULTIPLE) * MULTIPLE, context_length) for part in parts}
    return sorted(rounded)


def shortened(batches: tf.data.Dataset, context_length: int) -> tf.data.Dataset:
    """Trim `token_ids` and `text_mask` of batches to the smallest length that holds all their
    texts.

    Only padding is removed, which towers ignore; a tower with weights for each position, such as a
    Mixer, pads its input again.

    Args:
        batches: batches with both, (..., context_length); others are returned unchanged.
        context_length: the padded length.
    """
    if "token_ids" not in batches.element_spec:
        return batches
    lengths = tf.constant(text_lengths(context_length))

    def cut(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(batch["text_mask"], tf.int32), axis=-1))
        length = lengths[tf.reduce_sum(tf.cast(lengths < longest, tf.int32))]
        return batch | {name: batch[name][..., :length] for name in ("token_ids", "text_mask")}

    return batches.map(as_written(cut), num_parallel_calls=1, deterministic=True).prefetch(1)
