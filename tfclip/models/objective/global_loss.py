"""The loss of the global batch, computed from the embeddings of this replica's rows."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tfclip.models.objective import cross_replica
from tfclip.models.objective.losses import (
    sigmoid_contrastive,
    softmax_both_ways,
    softmax_contrastive,
    unit_norm,
)

LOSSES = ("softmax", "sigmoid")
# The most logits held in memory where one product serves both directions: 16 MB.
LOGITS_AT_ONCE = 2**22


def global_loss(
    embeddings: Mapping,
    batch: Mapping,
    *,
    loss: str,
    scale: tf.Tensor,
    bias: tf.Tensor | None = None,
    ensemble_size: int = 1,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return this replica's part of the loss of the global batch.

    Local rows are compared with the columns of all replicas (softmax: in both directions) and the
    sum is divided by the global number of rows. The parts of all replicas therefore add up to the
    loss of the whole batch on one device, also where replicas hold different numbers of rows.

    Args:
        embeddings: `image_embeddings` (R, D), and `text_embeddings` (R, D) or (R * K, D).
        batch: `image_id` (R,), and `caption_id` (R,) or (R, K), int64.
        loss: "softmax" or "sigmoid".
        scale: () float32, the factor that multiplies the cosine.
        bias: () float32, added to the scaled cosine; required by "sigmoid", unused by "softmax".
        ensemble_size: parts of the embedding that learn separately; the loss is their mean.

    Returns:
        This replica's part of the loss and of the image-to-text accuracy, both () float32.
    """
    image, text = embeddings["image_embeddings"], embeddings["text_embeddings"]
    image_ids = (batch["image_id"], batch["caption_id"])
    ids_of_texts = text_ids(batch)
    all_image_ids, all_text_ids = (
        tuple(cross_replica.gather_rows(part) for part in ids) for ids in (image_ids, ids_of_texts)
    )
    images = tf.cast(tf.shape(all_image_ids[0])[0], tf.float32)
    parts = [
        _one_loss(
            loss,
            (_member(image, n, ensemble_size), image_ids, all_image_ids),
            (_member(text, n, ensemble_size), ids_of_texts, all_text_ids),
            scale,
            bias,
        )
        for n in range(ensemble_size)
    ]
    total = tf.add_n([part[0] for part in parts]) / ensemble_size
    hits = tf.add_n([part[1] for part in parts]) / ensemble_size
    return total, hits / images


def flat_captions(batch: Mapping) -> dict:
    """Return the batch with one row per caption in the text columns, (R * K, ...)."""
    if batch["caption_id"].shape.rank == 1:
        return dict(batch)
    flat = {
        name: tf.reshape(batch[name], tf.concat([[-1], tf.shape(batch[name])[2:]], 0))
        for name in ("token_ids", "text_mask", "text_features")
        if name in batch
    }
    return {**batch, **flat}


def text_ids(batch: Mapping) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the image_id and caption_id of each row of `text_embeddings`."""
    ids = batch["caption_id"]
    if ids.shape.rank == 1:
        return batch["image_id"], ids
    return tf.repeat(batch["image_id"], ids.shape[1]), tf.reshape(ids, [-1])


def _one_loss(
    loss: str, image_part: tuple, text_part: tuple, scale: tf.Tensor, bias: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the loss of an ensemble member, and how many local pictures rank their text first.

    Args:
        loss, scale, bias: as in `global_loss`.
        image_part, text_part: local embeddings, their ids, and the ids of all replicas.
    """
    (image, image_ids, all_image_ids), (text, text_ids, all_text_ids) = image_part, text_part
    all_text = cross_replica.gather_rows(text)
    images, texts = (
        tf.cast(tf.shape(ids[0])[0], tf.float32) for ids in (all_image_ids, all_text_ids)
    )
    if loss == "sigmoid":
        total, hits = sigmoid_contrastive(image, all_text, scale, bias, image_ids, all_text_ids)
        return total / images, hits
    if cross_replica.replica_count() == 1 and _is_small(image, text):
        return softmax_both_ways(image, text, scale, image_ids, text_ids)
    to_text, hits = softmax_contrastive(image, all_text, scale, image_ids, all_text_ids)
    # One direction after the other: in parallel their chunks would need twice the memory.
    with tf.control_dependencies([to_text]):
        all_image = cross_replica.gather_rows(image)
        to_image, _ = softmax_contrastive(text, all_image, scale, text_ids, all_image_ids)
    return 0.5 * (to_text / images + to_image / texts), hits


def _is_small(images: tf.Tensor, texts: tf.Tensor) -> bool:
    """Return whether the batch size is known and its logits are small enough for the memory."""
    sizes = images.shape[0], texts.shape[0]
    return None not in sizes and sizes[0] * sizes[1] <= LOGITS_AT_ONCE


def _member(embeddings: tf.Tensor, number: int, ensemble_size: int) -> tf.Tensor:
    """Return an ensemble member's part of embeddings (R, D), unit norm: (R, D / ensemble_size)."""
    if ensemble_size == 1:
        return embeddings
    size = embeddings.shape[-1] // ensemble_size
    return unit_norm(embeddings[:, number * size : (number + 1) * size])
