"""The training loop: `strategy.run(model.train_step)` over Keras callbacks, on any strategy."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from tfclip.console import progress
from tfclip.models.dual_encoder import DualEncoder


def distribute(strategy: tf.distribute.Strategy, batches: tf.data.Dataset):
    """Cut each global batch into one part per replica, in order."""
    if strategy.num_replicas_in_sync == 1:
        return batches
    options = tf.data.Options()
    # By data, not by file: one worker must see the batches in the order that the seed decides.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return strategy.experimental_distribute_dataset(batches.with_options(options))


def run_steps(
    model: DualEncoder,
    strategy: tf.distribute.Strategy,
    batches: tf.data.Dataset,
    *,
    steps: int,
    epoch_steps: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.callbacks.History:
    """Train for `steps` updates, telling the callbacks what `Model.fit` would tell them.

    An epoch is `epoch_steps` updates, whatever the size of the data; the last one may be shorter.
    `Model.fit` on the same batches gives the same weights; this loop also runs where `fit` does
    not (several machines), and leaves the batches in our hands.

    Args:
        model: compiled, its optimizer built, created within `strategy`.
        batches: endless, of the global batch size.
        callbacks: any Keras callbacks; `model.stop_training` ends the run after the step.

    Returns:
        The history of the epochs' logs.
    """
    callback_list = keras.callbacks.CallbackList(
        list(callbacks), add_history=True, model=model, epochs=-(-steps // epoch_steps), steps=steps
    )

    @tf.function(reduce_retracing=True)
    def train_step(batch):
        return first_replica(strategy, strategy.run(model.train_step, args=(batch,)))

    iterator = iter(distribute(strategy, batches))
    model.stop_training = False
    callback_list.on_train_begin()
    logs: dict = {}
    for step in progress(range(steps), total=steps, what="training"):
        epoch, in_epoch = divmod(step, epoch_steps)
        if in_epoch == 0:
            model.reset_metrics()
            callback_list.on_epoch_begin(epoch)
        callback_list.on_train_batch_begin(in_epoch)
        logs = {name: float(value) for name, value in train_step(next(iterator)).items()}
        callback_list.on_train_batch_end(in_epoch, logs)
        last = step + 1 == steps or model.stop_training
        if last or in_epoch + 1 == epoch_steps:
            callback_list.on_epoch_end(epoch, logs)
        if last or model.stop_training:
            break
    callback_list.on_train_end(logs)
    return model.history


def first_replica(strategy: tf.distribute.Strategy, values: dict) -> dict:
    """The first replica's value of each entry; `train_step` makes them equal on all."""
    return {name: strategy.experimental_local_results(value)[0] for name, value in values.items()}


def mean_loss(
    model: DualEncoder, strategy: tf.distribute.Strategy, batches: tf.data.Dataset
) -> float:
    """The mean contrastive loss over whole batches; NaN when there is none.

    Args:
        model: created within `strategy`.
        batches: from `inputs.batches.validation_batches`.
    """

    @tf.function(reduce_retracing=True)
    def test_step(batch):
        return first_replica(strategy, strategy.run(model.test_step, args=(batch,)))

    model.reset_metrics()
    loss = float("nan")
    for batch in distribute(strategy, batches):
        loss = float(test_step(batch)["loss"])
    model.reset_metrics()
    return loss
