"""Sums and gathers over the replicas of a `tf.distribute` strategy; identities on one device."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

# The method by which Keras' optimizers sum gradients over the replicas.
SUMS = "_all_reduce_sum_gradients"


def replica_count() -> int:
    """Return the number N of replicas that run this step together."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def gather_rows(rows: tf.Tensor) -> tf.Tensor:
    """Gather the rows of all replicas, in order: (R, ...) -> (G, ...), with exact gradients.

    The gradient of a row is the sum over the losses of all replicas. Rows must be float32 or
    integers: gathering bfloat16 raises on CPU devices.
    """
    if replica_count() == 1:
        return rows
    # On several machines TensorFlow refuses tensors without a device, as iterators return them.
    rows = tf.identity(rows)
    return tf.distribute.get_replica_context().all_gather(rows, axis=0)


def sum_over_replicas(values):
    """Return the sum over replicas of each tensor in a (nested) structure."""
    if replica_count() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def global_rows(rows: tf.Tensor) -> tf.Tensor:
    """Return the number of rows on all replicas, () float32, given those of this one, (R, ...)."""
    return sum_over_replicas(tf.cast(tf.shape(rows)[0], tf.float32))


def take_reduced(optimizer: keras.optimizers.Optimizer) -> None:
    """Make an optimizer apply gradients as they are: those of `reduce_and_clip` are sums already.

    Keras' optimizers sum gradients over the replicas when they apply them, after clipping. A second
    sum would move all bytes once more. Clipping by the optimizer itself becomes right as well.
    """
    own = getattr(optimizer, "inner_optimizer", optimizer)
    if not hasattr(own, SUMS):
        raise NotImplementedError(f"Keras' optimizers have no method {SUMS} in this version")
    setattr(own, SUMS, list)


def reduce_and_clip(gradients: Sequence, clip_norm: float | None, loss_scale=None):
    """Return the gradients of the global batch, clipped by global norm, for `optimizer.apply`.

    The reduced gradient must be clipped: Keras' `global_clipnorm` clips on each replica before the
    reduction, which silently optimises something else. Embedding gradients are made dense first,
    because the norm of IndexedSlices with repeated rows is not that of their sum. The optimizer
    must not sum over the replicas again, see `take_reduced`.

    Args:
        gradients: one per variable, already scaled so that their sum over replicas is the
            gradient of the global loss; an entry may be None.
        clip_norm: largest global norm, or None for no clipping.
        loss_scale: () float32 factor in the gradients (float16), kept in the result.

    Returns:
        The gradients in the same order, their global norm before clipping, () float32, and the
        norm of each one of the V, (V,) float32, 0 for None.
    """
    dense = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
    present = sum_over_replicas([g for g in dense if g is not None])
    scale = 1.0 if loss_scale is None else loss_scale
    # Like `tf.linalg.global_norm`, but keeps the norms of the parts from the same pass.
    squares = tf.stack([2.0 * tf.nn.l2_loss(tf.cast(g, tf.float32)) for g in present])
    norm = tf.sqrt(tf.reduce_sum(squares)) / scale
    places = [[place] for place, g in enumerate(dense) if g is not None]
    norms = tf.scatter_nd(places, tf.sqrt(squares) / scale, [len(dense)])
    if clip_norm is not None:
        # A norm of inf or NaN stays in the product, so that a loss-scaling optimizer sees it.
        factor = clip_norm / tf.maximum(norm, clip_norm)
        present = [g * tf.cast(factor, g.dtype) for g in present]
    kept = iter(present)
    return [None if g is None else next(kept) for g in dense], norm, norms
