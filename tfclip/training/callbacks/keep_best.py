"""Keeps the best model of a run, and writes it as rarely as it may."""

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
    """Keeps the best model by a monitored number, in memory, and writes it as often as it must.

    It is written when it is the first one, before each checkpoint, and at the end: a run that was
    killed finds its later ones again when it goes on. Writing each of them took a quarter of a run
    of small heads.

    Args:
        trained: what to keep.
        best: the folder.
        monitor: the log to compare; it is the better the higher, unless it ends in "loss".
        beside: what to call the weights that were not measured, see `save_trained`.
        writes: False for a machine of several which only trains.
    """

    def __init__(
        self,
        trained: TrainedModel,
        best: Path,
        monitor: str,
        *,
        beside: str = "unaveraged",
        writes: bool = True,
    ):
        super().__init__()
        self.trained = trained
        self.best = best
        self.monitor = monitor
        self.beside = beside
        self.writes = writes
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self._unwritten: Callable[[], None] | None = None

    def on_epoch_end(self, epoch, logs=None):
        """Keep the model, unless its weights are broken: a good one is never overwritten so."""
        if not math.isfinite(logs["batch_loss"]):
            return
        value = logs[self.monitor]
        sign = 1 if self.monitor.endswith("loss") else -1
        # So put that NaN is never better.
        if self.best_value is not None and not sign * value < sign * self.best_value:
            return
        first, self.best_value, self.best_epoch = self.best_value is None, value, epoch
        # Those of now: a phase that comes before it is written brings an optimizer of its own.
        pairs = averages(self.trained.dual_encoder)
        kept = keep_weights(self.trained.dual_encoder, pairs)

        def write() -> None:
            with kept():
                save_trained(self.best, self.trained, self.beside, pairs)

        self._unwritten = write
        if first:
            self.before_checkpoint()

    def before_checkpoint(self) -> None:
        """Write the best model, where it is not written yet."""
        if self._unwritten is not None and self.writes:
            self._unwritten()
        self._unwritten = None

    def on_train_end(self, logs=None):
        """Write the best model."""
        self.before_checkpoint()


def save_trained(folder: Path, trained: TrainedModel, beside: str, pairs: Pairs) -> None:
    """Write the model; and beside it, as `best-unaveraged`, with the weights that its averages
    stand for, or as `best-averaged` with the averages, where it is trained with any."""
    save_model(folder, trained)
    if pairs:
        with exchanged(pairs):
            save_model(folder.with_name(f"{folder.name}-{beside}"), trained)


def keep_weights(model: DualEncoder, pairs: Pairs) -> Callable[[], AbstractContextManager]:
    """Copy the weights that training may change, and the averages; returns what gives them back
    for a while."""
    fixed = {id(variable) for variable in unchanged_variables(model)}
    variables = [variable for variable in model.weights if id(variable) not in fixed]
    variables += [average for _, average in pairs]
    kept = [variable.numpy() for variable in variables]

    @contextmanager
    def kept_again() -> Iterator[None]:
        now = [variable.numpy() for variable in variables]
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
        try:
            yield
        finally:
            for variable, value in zip(variables, now, strict=True):
                variable.assign(value)

    return kept_again
