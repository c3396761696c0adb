"""Keras callbacks of a training run: validate, stop on NaN, write the log."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import keras

from tfclip import files
from tfclip.console import json_text
from tfclip.training.loop.trainer import is_sound

TIMES = ("seconds", "steps_per_second", "waiting")


class Validation(keras.callbacks.Callback):
    """Adds measurements to the logs at the end of each epoch; put it before those that read them.

    Args:
        measurements: name to a function without arguments that returns names and numbers.
    """

    def __init__(self, measurements: Mapping[str, Callable[[], Mapping[str, float]]]):
        super().__init__()
        self.measurements = dict(measurements)

    def on_epoch_end(self, epoch, logs=None):
        """Run every measurement."""
        for measure in self.measurements.values():
            logs.update(measure())


class StopOnNaN(keras.callbacks.Callback):
    """Ends the run at the first loss or gradient that is not a number, and writes what it was of.

    Args:
        path: the JSON file to write: the step, its numbers, and the keys of its records.
        keys: the keys of the records of an update, counted from 0.
        writes: False for a machine of several which only stops.
    """

    def __init__(self, path: Path, keys: Callable[[int], list[str]], *, writes: bool = True):
        super().__init__()
        self.writes = writes
        self.path, self.keys = Path(path), keys
        self.steps = 0
        self.stopped_at: int | None = None

    def on_train_batch_end(self, batch, logs=None):
        """Look at the loss of the step, not at its running mean."""
        self.steps += 1
        if is_sound(self.model, logs) or self.stopped_at is not None:
            return
        self.stopped_at = self.steps
        self.model.stop_training = True
        if not self.writes:
            return
        report = {"step": self.steps, "logs": dict(logs), "keys": self.keys(self.steps - 1)}
        files.write_text(self.path, json_text(report, indent=2) + "\n")


class LogFile(keras.callbacks.Callback):
    """Writes the scalars of each epoch to a CSV file, one row each; a resumed run goes on with it.

    What came after the checkpoint from which it goes on is cut off. Columns that tell times come
    last: they are all that differs between two runs of the same command.

    Args:
        path: the file.
        times: returns the numbers of `TIMES`.
        step: returns how many updates were made.
    """

    def __init__(
        self, path: Path, times: Callable[[], Mapping[str, float]], step: Callable[[], int]
    ):
        super().__init__()
        self.path, self.times, self.step = Path(path), times, step
        self.size = 0
        self.columns: list[str] | None = None

    def on_epoch_end(self, epoch, logs=None):
        """Add a row."""
        if self.columns is None:
            self.columns = ["step", "epoch", *sorted(logs), *TIMES]
        if not self.path.exists() or self.path.stat().st_size < self.size:
            self.path.touch()
            self.size = 0  # somebody took the rows away
        with self.path.open("r+", newline="") as file:
            file.truncate(self.size)
            file.seek(self.size)
            writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore")
            if not self.size:
                writer.writeheader()
            writer.writerow({"step": self.step(), "epoch": epoch, **logs, **self.times()})
            self.size = file.tell()
