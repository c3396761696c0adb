"""Sums and gathers over the replicas of a `tf.distribute` strategy; identities on one device."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def replica_count() -> int:
    """The number N of replicas that run this step together."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def gather_rows(rows: tf.Tensor) -> tf.Tensor:
    """All replicas' rows, in replica order: (R, ...) -> (G, ...), with exact gradients.

    A row's gradient is the sum of what every replica's loss says of it. Rows must be float32 or
    integers: gathering bfloat16 raises on CPU devices.
    """
    if replica_count() == 1:
        return rows
    # On several machines, what comes as it is from the iterator has no device and is refused.
    rows = tf.identity(rows)
    return tf.distribute.get_replica_context().all_gather(rows, axis=0)


def sum_over_replicas(values):
    """The sum over replicas of each tensor in a (nested) structure."""
    if replica_count() == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def global_rows(rows: tf.Tensor) -> tf.Tensor:
    """The number of rows on all replicas together, () float32, of (R, ...) on this one."""
    return sum_over_replicas(tf.cast(tf.shape(rows)[0], tf.float32))


def reduce_and_clip(gradients: Sequence, clip_norm: float | None, loss_scale=None):
    """Gradients of the global batch, clipped by their global norm, ready for `optimizer.apply`.

    Clipping has to see the reduced gradient: Keras' own `global_clipnorm` clips on each replica
    before the reduce, which trains something else without an error. Embedding gradients are made
    dense first, because the norm of an IndexedSlices with repeated rows is not that of its sum.
    The optimizer sums over the replicas once more when it applies, so N divides here.

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
    # As `tf.linalg.global_norm` does it, with the parts kept: a pass over all gradients for both.
    squares = tf.stack([2.0 * tf.nn.l2_loss(tf.cast(g, tf.float32)) for g in present])
    norm = tf.sqrt(tf.reduce_sum(squares)) / scale
    places = [[place] for place, g in enumerate(dense) if g is not None]
    norms = tf.scatter_nd(places, tf.sqrt(squares) / scale, [len(dense)])
    factor = 1.0 / replica_count()
    if clip_norm is not None:
        # A norm of inf or nan stays in the product, so that the loss-scaling optimizer sees it.
        factor *= clip_norm / tf.maximum(norm, clip_norm)
    if replica_count() > 1 or clip_norm is not None:  # a product with 1 is a pass for nothing
        present = [g * tf.cast(factor, g.dtype) for g in present]
    kept = iter(present)
    return [None if g is None else next(kept) for g in dense], norm, norms
