"""Keeps the best model of a run in memory, and writes it as rarely as possible."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import keras

from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.saving import TrainedModel, save_model
from tfclip.training.loop.variables import unchanged_variables
from tfclip.training.setup.optimizer import Pairs, averages, exchanged


class KeepBest(keras.callbacks.Callback):
    """Keeps the best model by a monitored metric in memory, and writes it when necessary.

    The first one is written at once, later ones before each checkpoint and at the end, so that a
    killed run can be resumed without losing one. Writing each of them would take a quarter of the
    time of a run with small heads.

    Args:
        trained: the model.
        best: the folder to write.
        monitor: the metric to compare; higher is better, unless its name ends in "loss".
        other_suffix: the suffix of the folder with the weights that were not evaluated; see
            `save_trained`.
        writes: False for workers other than the chief.
    """

    def __init__(
        self,
        trained: TrainedModel,
        best: Path,
        monitor: str,
        *,
        other_suffix: str = "unaveraged",
        writes: bool = True,
    ):
        super().__init__()
        self.trained = trained
        self.best = best
        self.monitor = monitor
        self.other_suffix = other_suffix
        self.writes = writes
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self._unwritten: Callable[[], None] | None = None

    def on_epoch_end(self, epoch, logs=None):
        """Keep the model if it is better and its loss is finite."""
        if not math.isfinite(logs["batch_loss"]):
            return
        value = logs[self.monitor]
        sign = 1 if self.monitor.endswith("loss") else -1
        # Written such that NaN is never better.
        if self.best_value is not None and not sign * value < sign * self.best_value:
            return
        first, self.best_value, self.best_epoch = self.best_value is None, value, epoch
        # Read now, because a later phase replaces the optimizer before the model is written.
        pairs = averages(self.trained.dual_encoder)
        kept = keep_weights(self.trained.dual_encoder, pairs)

        def write() -> None:
            with kept():
                save_trained(self.best, self.trained, self.other_suffix, pairs)

        self._unwritten = write
        if first:
            self.before_checkpoint()

    def before_checkpoint(self) -> None:
        """Write the best model if it is not yet written."""
        if self._unwritten is not None and self.writes:
            self._unwritten()
        self._unwritten = None

    def on_train_end(self, logs=None):
        """Write the best model."""
        self.before_checkpoint()


def save_trained(folder: Path, trained: TrainedModel, other_suffix: str, pairs: Pairs) -> None:
    """Write the model; if its weights are averaged, also write its other weights to a folder with
    the suffix `other_suffix`: `best-unaveraged` or `best-averaged`."""
    save_model(folder, trained)
    if pairs:
        with exchanged(pairs):
            save_model(folder.with_name(f"{folder.name}-{other_suffix}"), trained)


def keep_weights(model: DualEncoder, pairs: Pairs) -> Callable[[], AbstractContextManager]:
    """Copy the trained weights and averages; return a context manager that restores them within
    it."""
    fixed = {id(variable) for variable in unchanged_variables(model)}
    variables = [variable for variable in model.weights if id(variable) not in fixed]
    variables += [average for _, average in pairs]
    kept = [variable.numpy() for variable in variables]

    @contextmanager
    def restored() -> Iterator[None]:
        now = [variable.numpy() for variable in variables]
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
        try:
            yield
        finally:
            for variable, value in zip(variables, now, strict=True):
                variable.assign(value)

    return restored
