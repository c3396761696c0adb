"""Batches to the replicas of a strategy, and their values back."""

from __future__ import annotations

import tensorflow as tf


def distribute(strategy: tf.distribute.Strategy, batches: tf.data.Dataset):
    """Cut each batch into one part per replica, in order.

    Several machines make their own `inputs.input_shards.InputShard` of a batch each, and cut that.
    """
    if strategy.num_replicas_in_sync == 1:
        return batches
    if strategy.cluster_resolver is not None:
        devices = len(strategy.extended.worker_devices)
        if devices > 1:
            rows = tf.nest.flatten(batches.element_spec)[0].shape[0]
            batches = batches.rebatch(rows // devices)
        return strategy.distribute_datasets_from_function(lambda _: batches)
    options = tf.data.Options()
    # By data, not by file: one worker must see the batches in the order that the seed decides.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return strategy.experimental_distribute_dataset(batches.with_options(options))


def first_replica(strategy: tf.distribute.Strategy, values: dict) -> dict:
    """The first replica's value of each entry; `train_step` makes them equal on all."""
    return {name: strategy.experimental_local_results(value)[0] for name, value in values.items()}
