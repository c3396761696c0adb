"""What can be wrong with the texts of a batch, counted in the graph beside each training step."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

# [CLS] and [SEP], or the start and the end of byte pairs: a text of no more says nothing.
FRAME = 2


def batch_health(batch: Mapping[str, tf.Tensor], context_length: int) -> dict[str, tf.Tensor]:
    """Shares of the texts of a batch, each () float32.

    Args:
        batch: see `DualEncoder`; of several replicas, the part of one.
        context_length: the longest text that the model reads.

    Returns:
        `repeated_texts`: texts that another picture of the batch has too. Where texts come as
        tokens, `empty_texts`: those without a token of their own, and `full_texts`: those that fill
        the context, which may have been cut.
    """
    captions = batch["caption_id"]
    images = batch["image_id"]
    if captions.shape.rank == 2:
        images = tf.repeat(images, tf.shape(captions)[1])
        captions = tf.reshape(captions, [-1])
    # Wraps around: a hash of the pair.
    pairs = captions * 31 + images
    repeated = _times(captions) > _times(pairs)
    shares = {"repeated_texts": _share(repeated)}
    if "token_ids" in batch:
        lengths = tf.reduce_sum(tf.cast(batch["text_mask"], tf.int32), axis=-1)
        shares["empty_texts"] = _share(lengths <= FRAME)
        shares["full_texts"] = _share(lengths >= context_length)
    return shares


def _times(ids: tf.Tensor) -> tf.Tensor:
    """How often each id occurs: (N,) int32."""
    _, place, count = tf.unique_with_counts(ids)
    return tf.gather(count, place)


def _share(true: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(true, tf.float32))
