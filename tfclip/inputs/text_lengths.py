"""Batches of texts cut back to their longest one, in a few fixed lengths."""

from __future__ import annotations

import tensorflow as tf

# Parts of the context; each length is rounded up to a multiple of this.
PARTS = 4
MULTIPLE = 8


def text_lengths(context_length: int) -> list[int]:
    """The lengths that batches are padded to: rising, the last one is the context."""
    parts = (-(-context_length * part // PARTS) for part in range(1, PARTS + 1))
    rounded = {min(-(-part // MULTIPLE) * MULTIPLE, context_length) for part in parts}
    return sorted(rounded)


def shortened(batches: tf.data.Dataset, context_length: int) -> tf.data.Dataset:
    """Cut `token_ids` and `text_mask` of batches to the least length that holds all their texts.

    What is cut is padding alone, which no tower looks at; one with weights for each place, a Mixer
    over tokens, pads its input again.

    Args:
        batches: with both (..., context_length); others stay as they are.
        context_length: what they are padded to.
    """
    if "token_ids" not in batches.element_spec:
        return batches
    lengths = tf.constant(text_lengths(context_length))

    def cut(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        longest = tf.reduce_max(tf.reduce_sum(tf.cast(batch["text_mask"], tf.int32), axis=-1))
        length = lengths[tf.reduce_sum(tf.cast(lengths < longest, tf.int32))]
        return batch | {name: batch[name][..., :length] for name in ("token_ids", "text_mask")}

    return batches.map(cut, num_parallel_calls=1, deterministic=True).prefetch(1)
