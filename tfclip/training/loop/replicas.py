"""Distributes batches to the replicas of a strategy, and collects their results."""

from __future__ import annotations

import tensorflow as tf


def distribute(strategy: tf.distribute.Strategy, batches: tf.data.Dataset):
    """Split each batch into one part per replica, in order.

    With several workers, each reads its own `inputs.input_shards.InputShard` of a batch and splits
    that.
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
    # No sharding by file: a single worker must see all batches in the order set by the seed.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return strategy.experimental_distribute_dataset(batches.with_options(options))


def first_replica(strategy: tf.distribute.Strategy, values: dict) -> dict:
    """Return the first replica's value of each entry; `train_step` makes all replicas equal."""
    return {name: strategy.experimental_local_results(value)[0] for name, value in values.items()}
