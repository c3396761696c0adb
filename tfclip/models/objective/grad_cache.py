"""Gradients of a large batch from micro-batches (Gao et al. 2021, GradCache, arXiv:2101.06983)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import keras
import tensorflow as tf

NAMES = ("image_embeddings", "text_embeddings")


def cached_gradients(
    embed: Callable[[Mapping, tf.Tensor], Mapping],
    loss_fn: Callable[[Mapping, tf.Tensor], Sequence[tf.Tensor]],
    variables: Sequence[tf.Variable],
    batch: Mapping,
    micro_batch: int,
) -> tuple[Sequence[tf.Tensor], list[tf.Tensor]]:
    """Return the loss of the global batch and its gradients, with a few rows at a time in memory.

    A first pass without a tape computes the embeddings of all micro-batches. The loss over all
    embeddings gives the gradient of each. A second pass, with a tape per micro-batch, propagates
    these gradients to the weights. Memory holds the activations of one micro-batch and the
    embeddings of all. The gradients equal those of the whole batch if `embed` uses the same dropout
    masks in both passes. Batch normalisation in training uses the statistics of the micro-batch
    instead of the batch, in both passes; its moving statistics are updated in the second.

    Args:
        embed: takes rows of the batch and the number of the micro-batch, () int32; returns
            `image_embeddings` (r, D) and `text_embeddings` (r, D) or (r * K, D).
        loss_fn: takes the embeddings of all R local rows and the number of micro-batches, () int32;
            returns tensors, of which the first, () float32, is differentiated.
        variables: the variables to differentiate by.
        batch: columns of R rows each.
        micro_batch: rows per call of `embed`; the last call may have fewer.

    Returns:
        The result of `loss_fn`, and the dense gradients by `variables`.
    """
    rows = tf.shape(next(iter(batch.values())))[0]
    count = (rows + micro_batch - 1) // micro_batch

    def embed_rows(number: tf.Tensor) -> Mapping:
        start = number * micro_batch
        part = {name: value[start : start + micro_batch] for name, value in batch.items()}
        return embed(part, number)

    def cached(number: tf.Tensor, *arrays: tf.TensorArray):
        # Moving statistics of batch normalisation must not be updated twice.
        with keras.StatelessScope():
            embeddings = embed_rows(number)
        written = [
            array.write(number, embeddings[name]) for array, name in zip(arrays, NAMES, strict=True)
        ]
        return number + 1, *written

    _, *arrays = _loop(count, cached, [_growing() for _ in NAMES])
    embeddings = {name: array.concat() for name, array in zip(NAMES, arrays, strict=True)}

    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        outputs = loss_fn(embeddings, count)
    by_embedding, direct = tape.gradient(
        outputs[0], [embeddings, variables], unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    # Embeddings per micro-batch: with K captions per picture, K texts per row.
    widths = {
        name: micro_batch * (tf.shape(embeddings[name])[0] // tf.maximum(rows, 1)) for name in NAMES
    }

    def continued(number: tf.Tensor, *gradients: tf.Tensor):
        with tf.GradientTape() as tape:
            embeddings = embed_rows(number)
        own = {
            name: by_embedding[name][number * width : (number + 1) * width]
            for name, width in widths.items()
        }
        further = tape.gradient(
            embeddings,
            variables,
            output_gradients=own,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        # Dense: a sum of IndexedSlices would grow with the number of micro-batches.
        added = [g + tf.convert_to_tensor(f) for g, f in zip(gradients, further, strict=True)]
        return number + 1, *added

    _, *gradients = _loop(count, continued, [tf.convert_to_tensor(g) for g in direct])
    return outputs, gradients


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
