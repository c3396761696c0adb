"""A part of a run for the training loop, and the result of the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf


@dataclass(frozen=True)
class Phase:
    """A part of a run: `steps` updates, after `begin` has prepared the model.

    `batches` returns the endless dataset of global batches after a number of updates of the whole
    run; it is called when the phase starts or is resumed.
    """

    steps: int
    batches: Callable[[int], tf.data.Dataset]
    begin: Callable[[], None] | None = None


@dataclass(frozen=True)
class Trained:
    """The result of the training loop.

    Attributes:
        history: the logs of all epochs, including those before an interruption.
        step: the number of updates of the whole run.
        seconds: the time of the whole run.
        terminated: whether a signal ended the loop, so that the run can be resumed.
        signal: the signal that this worker received, "SIGTERM" or "SIGINT" (Ctrl-C); None if the
            run finished.
        was_finished: whether the run had ended before, and all its models are written.
    """

    history: keras.callbacks.History
    step: int
    seconds: float
    terminated: bool
    signal: str | None = None
    was_finished: bool = False
