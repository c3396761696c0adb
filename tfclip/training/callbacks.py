"""Keras callbacks of a training run: measure, keep the best and the last model, stop on NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import keras

from tfclip.console import say
from tfclip.models.saved import TrainedModel, copy_model, save_model


class Measure(keras.callbacks.Callback):
    """Adds measurements to the logs at the end of each epoch; put it before those that read them.

    Args:
        measures: name to a function without arguments that returns names and numbers.
    """

    def __init__(self, measures: Mapping[str, Callable[[], Mapping[str, float]]]):
        super().__init__()
        self.measures = dict(measures)

    def on_epoch_end(self, epoch, logs=None):
        """Run every measurement and say the result in one line."""
        for measure in self.measures.values():
            logs.update(measure())
        told = (f"{name} {value:.4g}" for name, value in sorted(logs.items()))
        say(f"evaluation {epoch + 1}: {', '.join(told)}")


class KeepModels(keras.callbacks.Callback):
    """Writes the last model at the end of each epoch, and the best one by a monitored number.

    Args:
        model: what to write.
        best, last: the folders.
        monitor: the log to compare; it is the better the higher, unless it ends in "loss".
    """

    def __init__(self, trained: TrainedModel, *, best: Path, last: Path, monitor: str):
        super().__init__()
        self.trained = trained
        self.best, self.last = best, last
        self.monitor = monitor
        self.best_value: float | None = None
        self.best_epoch: int | None = None

    def on_epoch_end(self, epoch, logs=None):
        """Save, unless the weights are broken: a folder of a good model is never overwritten so."""
        if not math.isfinite(logs["batch_loss"]):
            return
        save_model(self.last, self.trained)
        value = logs[self.monitor]
        sign = 1 if self.monitor.endswith("loss") else -1
        if self.best_value is None or sign * value < sign * self.best_value:
            self.best_value, self.best_epoch = value, epoch
            # What was just written, again: faster than from the model.
            copy_model(self.last, self.best)


class StopOnNaN(keras.callbacks.Callback):
    """Ends the run at the first loss that is not a number, before more steps are wasted."""

    def __init__(self):
        super().__init__()
        self.steps = 0
        self.stopped_at: int | None = None

    def on_train_batch_end(self, batch, logs=None):
        """Look at the loss of the step, not at its running mean."""
        self.steps += 1
        if not math.isfinite(logs["batch_loss"]) and self.stopped_at is None:
            self.stopped_at = self.steps
            self.model.stop_training = True
