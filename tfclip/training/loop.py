"""The training loop: `strategy.run(model.train_step)` over Keras callbacks, on any strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import keras
import tensorflow as tf

from tfclip.console import progress
from tfclip.models.dual_encoder import DualEncoder
from tfclip.training.optimizer import averaged_weights, keep_averaged_weights


def distribute(strategy: tf.distribute.Strategy, batches: tf.data.Dataset):
    """Cut each global batch into one part per replica, in order."""
    if strategy.num_replicas_in_sync == 1:
        return batches
    options = tf.data.Options()
    # By data, not by file: one worker must see the batches in the order that the seed decides.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return strategy.experimental_distribute_dataset(batches.with_options(options))


@dataclass(frozen=True)
class Phase:
    """A part of a run: `steps` updates on `batches`, after `begin` has prepared the model."""

    steps: int
    batches: tf.data.Dataset
    begin: Callable[[], None] | None = None


def run_steps(
    model: DualEncoder,
    strategy: tf.distribute.Strategy,
    phases: Sequence[Phase],
    *,
    epoch_steps: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.callbacks.History:
    """Train phase after phase, telling the callbacks what one `Model.fit` would tell them.

    An epoch is `epoch_steps` updates, whatever the size of the data; the last one may be shorter.
    `Model.fit` on the same batches gives the same weights; this loop also runs where `fit` does
    not (several machines), and leaves the batches in our hands. At the end of an epoch the model
    has its averaged weights, where it keeps some, and after the last one it keeps them.

    Args:
        model: compiled, its optimizer built, created within `strategy`.
        phases: batches are endless, of the global batch size.
        callbacks: any Keras callbacks; `model.stop_training` ends the run after the step.

    Returns:
        The history of the epochs' logs.
    """
    steps = sum(phase.steps for phase in phases)
    callback_list = keras.callbacks.CallbackList(
        list(callbacks), add_history=True, model=model, epochs=-(-steps // epoch_steps), steps=steps
    )
    model.stop_training = False
    callback_list.on_train_begin()
    logs: dict = {}
    updates = progress(_updates(model, strategy, phases), total=steps, what="training")
    for step, update in enumerate(updates):
        epoch, in_epoch = divmod(step, epoch_steps)
        if in_epoch == 0:
            model.reset_metrics()
            callback_list.on_epoch_begin(epoch)
        callback_list.on_train_batch_begin(in_epoch)
        logs = {name: float(value) for name, value in update().items()}
        callback_list.on_train_batch_end(in_epoch, logs)
        last = step + 1 == steps or model.stop_training
        if last or in_epoch + 1 == epoch_steps:
            with averaged_weights(model):
                callback_list.on_epoch_end(epoch, logs)
        if last or model.stop_training:
            break
    keep_averaged_weights(model)
    callback_list.on_train_end(logs)
    return model.history


def _updates(
    model: DualEncoder, strategy: tf.distribute.Strategy, phases: Sequence[Phase]
) -> Iterator[Callable[[], dict]]:
    """One function for each update; a phase begins when its first update is asked for."""
    for phase in phases:
        if phase.begin is not None:
            with strategy.scope():
                phase.begin()
        iterator = iter(distribute(strategy, phase.batches))

        @tf.function(reduce_retracing=True)
        def train_step(batch):
            return first_replica(strategy, strategy.run(model.train_step, args=(batch,)))

        for _ in range(phase.steps):
            yield lambda: train_step(next(iterator))  # noqa: B023 - called before the next phase


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
