"""Gradients of a large batch from micro-batches (Gao et al. 2021, GradCache, arXiv:2101.06983)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from tfclip.models.layers.dropout_seeds import seed_dropout
from tfclip.models.objective.global_loss import global_loss

if TYPE_CHECKING:
    from tfclip.models.dual_encoder import DualEncoder

SIDES = ("image_embeddings", "text_embeddings")


def cached_gradients(
    model: DualEncoder, batch: Mapping, micro_batch: int, loss_scale: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """The loss of the global batch and its gradients, with the towers run on a few rows at a time.

    Once without a tape, for the embeddings alone; then the loss over all of them gives each
    embedding its gradient; then once more, with a tape of one micro-batch, which continues these
    gradients into the weights. What is kept at once is the activations of one micro-batch and the
    embeddings of all. The gradients are those of the whole batch, with the same dropout in both
    passes. Batch normalisation that trains sees a micro-batch in the place of the batch, in both
    passes alike; its moving statistics follow the second.

    Args:
        model: compiled; in a replica context under a strategy.
        batch: this replica's R rows, as `DualEncoder` takes them.
        micro_batch: pictures, each with its captions, that go through the towers at a time; the
            last ones may be fewer.
        loss_scale: () float32 factor on the loss (float16), or None.

    Returns:
        The shares of the loss and of the accuracy, () float32, see `global_loss`; and the dense
        gradients of the share by `model.trainable_variables`, times the loss scale.
    """
    rows = tf.shape(batch["image_id"])[0]
    captions = 1 if batch["caption_id"].shape.rank == 1 else batch["caption_id"].shape[1]
    widths = dict(zip(SIDES, (micro_batch, micro_batch * captions), strict=True))
    variables = [variable.value for variable in model.trainable_variables]
    step = model.optimizer.iterations.value

    def embed(number: tf.Tensor) -> dict[str, tf.Tensor]:
        seed_dropout(model, step, number)
        start = number * micro_batch
        part = {name: value[start : start + micro_batch] for name, value in batch.items()}
        return model.embed_batch(part, training=True)

    def cached(number: tf.Tensor, *arrays: tf.TensorArray):
        # Moving statistics of batch normalisation are not to move twice.
        with keras.StatelessScope():
            embeddings = embed(number)
        written = [
            array.write(number, embeddings[side]) for array, side in zip(arrays, SIDES, strict=True)
        ]
        return number + 1, *written

    count = (rows + micro_batch - 1) // micro_batch
    arrays = [_growing() for _ in SIDES]
    _, *arrays = _loop(count, cached, arrays)
    embeddings = {
        side: tf.ensure_shape(array.concat(), [None, model.config.embed_dim])
        for side, array in zip(SIDES, arrays, strict=True)
    }

    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        seed_dropout(model, step, count)
        loss, accuracy = global_loss(model, embeddings, batch, training=True)
        scaled = loss if loss_scale is None else loss * loss_scale
    by_embedding, direct = tape.gradient(
        scaled, [embeddings, variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
    )

    def continued(number: tf.Tensor, *gradients: tf.Tensor):
        with tf.GradientTape() as tape:
            embeddings = embed(number)
        own = {
            side: by_embedding[side][number * width : (number + 1) * width]
            for side, width in widths.items()
        }
        further = tape.gradient(
            embeddings,
            variables,
            output_gradients=own,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        # Made dense: the sum of two IndexedSlices would grow with the number of micro-batches.
        added = [g + tf.convert_to_tensor(f) for g, f in zip(gradients, further, strict=True)]
        return number + 1, *added

    _, *gradients = _loop(count, continued, [tf.convert_to_tensor(g) for g in direct])
    return loss, accuracy, gradients


def _loop(count: tf.Tensor, body, values: list) -> list:
    return tf.while_loop(
        lambda number, *_: number < count,
        body,
        [tf.constant(0), *values],
        parallel_iterations=1,
    )


def _growing() -> tf.TensorArray:
    shape = tf.TensorShape([None, None])
    return tf.TensorArray(
        tf.float32, size=0, dynamic_size=True, infer_shape=False, element_shape=shape
    )
