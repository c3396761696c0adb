"""Seeds dropout by step, replica and micro-batch, so that training can be resumed exactly."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

# Keras' name for the variable of a `keras.random.SeedGenerator`: its seed and its counter.
STATE = "seed_generator_state"


def seed_dropout(model: keras.Model, step: tf.Tensor, micro_batch: tf.Tensor | int = 0) -> None:
    """Set the counters of the model's dropout from seed, step, replica and micro-batch.

    By default the counters are equal on all replicas, which then drop the same positions. With
    these counters replicas and micro-batches differ, a second pass over a micro-batch repeats the
    masks of the first, and a resumed run draws the masks that the uninterrupted run would draw.

    Args:
        model: a built model; its seed generators keep their seeds and get new counters.
        step: () integer, the number of the update.
        micro_batch: () integer, its number within the step on this replica.
    """
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    place = [tf.cast(part, tf.int32) for part in (step, replica, micro_batch)]
    mixed = tf.random.fold_in(tf.random.fold_in(tf.stack([place[0], 0]), place[1]), place[2])
    count = tf.random.stateless_uniform([], mixed, maxval=2**31 - 1, dtype=tf.int32)
    for variable in model.variables:
        if variable.name == STATE:
            state = tf.convert_to_tensor(variable.value)
            variable.assign(tf.stack([state[0], tf.cast(count, state.dtype)]))


def dropout_seeds(model: keras.Model) -> list[int]:
    """Return the seeds of the model's dropout, which Keras does not save, in the model's order."""
    return [int(variable.numpy()[0]) for variable in model.variables if variable.name == STATE]


def restore_dropout_seeds(model: keras.Model, seeds: Sequence[int]) -> None:
    """Set the seeds that `dropout_seeds` returned; an empty list changes nothing."""
    states = [variable for variable in model.variables if variable.name == STATE]
    for variable, seed in zip(states, seeds, strict=bool(seeds)):
        variable.assign([seed, 0])
