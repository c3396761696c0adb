"""Keras callbacks that validate, stop on NaN, and write the log file."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import keras

from tfclip import files
from tfclip.console import json_text
from tfclip.training.loop.step_logs import is_sound

TIMES = ("seconds", "steps_per_second", "waiting")


class Validation(keras.callbacks.Callback):
    """Adds measurements to the logs at the end of each epoch; it must come before their readers.

    Args:
        measurements: functions by name, without arguments, that return metrics by name.
    """

    def __init__(self, measurements: Mapping[str, Callable[[], Mapping[str, float]]]):
        super().__init__()
        self.measurements = dict(measurements)

    def on_epoch_end(self, epoch, logs=None):
        """Run every measurement."""
        for measure in self.measurements.values():
            logs.update(measure())


class StopOnNaN(keras.callbacks.Callback):
    """Stops the run at the first NaN or infinite loss or gradient, and writes the batch's keys.

    Args:
        path: the JSON file to write: the step, its logs, and the keys of its records.
        keys: returns the record keys of an update, counted from 0.
        writes: False for workers other than the chief.
    """

    # It only uses the logs, see `step_logs.steps_between_reads`.
    reads_every = 0

    def __init__(self, path: Path, keys: Callable[[int], list[str]], *, writes: bool = True):
        super().__init__()
        self.writes = writes
        self.path, self.keys = Path(path), keys
        self.steps = 0
        self.stopped_at: int | None = None

    def on_train_batch_end(self, batch, logs=None):
        """Check the loss of the step, not its running mean."""
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
    """Writes the scalars of each epoch as a row of a CSV file; a resumed run appends to it.

    Rows after the checkpoint from which it resumes are removed. The columns of times come last:
    only they differ between two runs of the same command.

    Args:
        path: the CSV file.
        times: returns the columns `TIMES`.
        step: returns the number of updates so far.
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
            self.size = 0  # the file was removed or truncated
        with self.path.open("r+", newline="") as file:
            file.truncate(self.size)
            file.seek(self.size)
            writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore")
            if not self.size:
                writer.writeheader()
            writer.writerow({"step": self.step(), "epoch": epoch, **logs, **self.times()})
            self.size = file.tell()
