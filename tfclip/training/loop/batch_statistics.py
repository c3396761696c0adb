"""Statistics of the texts of a batch, computed in the graph of each training step."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

# [CLS] and [SEP], or the start and end tokens of byte pairs: shorter texts are empty.
FRAME = 2


def batch_health(batch: Mapping[str, tf.Tensor], context_length: int) -> dict[str, tf.Tensor]:
    """Return fractions of the texts of a batch, each () float32.

    Args:
        batch: see `DualEncoder`; with several replicas, the part of one.
        context_length: the longest text of the model, in tokens.

    Returns:
        `repeated_texts`: texts that another picture of the batch also has. If the batch has tokens,
        also `empty_texts`: texts without tokens, and `full_texts`: texts that fill the context and
        may have been cut.
    """
    captions = batch["caption_id"]
    images = batch["image_id"]
    if captions.shape.rank == 2:
        images = tf.repeat(images, tf.shape(captions)[1])
        captions = tf.reshape(captions, [-1])
    # A hash of the pair, which may overflow.
    pairs = captions * 31 + images
    repeated = _counts(captions) > _counts(pairs)
    fractions = {"repeated_texts": _fraction(repeated)}
    if "token_ids" in batch:
        lengths = tf.reduce_sum(tf.cast(batch["text_mask"], tf.int32), axis=-1)
        fractions["empty_texts"] = _fraction(lengths <= FRAME)
        fractions["full_texts"] = _fraction(lengths >= context_length)
    return fractions


def _counts(ids: tf.Tensor) -> tf.Tensor:
    """Return how often each id occurs: (N,) int32."""
    _, indices, counts = tf.unique_with_counts(ids)
    return tf.gather(counts, indices)


def _fraction(condition: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(condition, tf.float32))
