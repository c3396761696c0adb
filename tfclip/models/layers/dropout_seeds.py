"""Dropout that differs by replica and micro-batch, and that the step number alone decides."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

# How Keras names the two numbers of a `keras.random.SeedGenerator`: a seed, and a count of draws.
STATE = "seed_generator_state"


def seed_dropout(model: keras.Model, step: tf.Tensor, micro_batch: tf.Tensor | int = 0) -> None:
    """Set what the model's dropout draws next: a function of its seed, step, replica and part.

    Left to themselves, seed generators count alike on all replicas, and every replica drops the
    same places (of other examples). So set, replicas and micro-batches differ, a second pass over a
    micro-batch draws the masks of the first, and a run that goes on draws what it would have drawn.

    Args:
        model: built; its seed generators keep their seeds and get another count.
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
    """The seeds of the model's dropout, which Keras does not save, in the model's order."""
    return [int(variable.numpy()[0]) for variable in model.variables if variable.name == STATE]


def restore_dropout_seeds(model: keras.Model, seeds: Sequence[int]) -> None:
    """Give the model the seeds of `dropout_seeds`; none leaves it those it has."""
    states = [variable for variable in model.variables if variable.name == STATE]
    for variable, seed in zip(states, seeds, strict=bool(seeds)):
        variable.assign([seed, 0])
