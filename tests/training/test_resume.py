"""An interrupted run ends bit for bit as if it had not been interrupted, or says why it cannot."""

import csv
import json
import os
import shutil
import signal

import h5py
import keras
import numpy as np
import pytest

from tfclip.fit import main
from tfclip.training.checkpoints import Checkpoints, Interval
from tfclip.training.recipes import RECIPES
from tfclip.training.run import train

TINY = {
    "image_size": 16,
    "batch_size": 4,
    "steps": 14,
    "evaluate_every": 5,
    "warmup_steps": 2,
    "average": 0.9,
    "patience": 9,
    "checkpoint_every": "3",
    "learning_rate": 1e-3,
}


class Interruption(Exception):
    """What a test ends a run with: all that was in memory is gone, as after a kill."""


class Until(keras.callbacks.Callback):
    """Remembers the loss of every step, and does something after one of them."""

    def __init__(self, step=None, act=None):
        super().__init__()
        self.losses = []
        self.step, self.act = step, act

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["batch_loss"])
        if len(self.losses) == self.step:
            self.act()


def interrupt():
    raise Interruption


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def flags(records, run, **given):
    """Dropout in the head, averaged weights, early stopping, validation."""
    options = {"records": str(records), "run": run, "text_head": "projection", **TINY, **given}
    return RECIPES["shapes"].flags(**options)


def result_of(run) -> dict:
    """Everything that must be equal, but for the times: the last checkpoint, the log, the models."""
    (last, *_) = Checkpoints(run / "checkpoints", Interval())._paths()
    with np.load(last) as packed:
        state = json.loads(packed["state.json"])
        found = {name: packed[name] for name in packed.files if name != "state.json"}
    del state["seconds"]
    state["callbacks"].pop("LogFile-1")  # the size of the file depends on the digits of the times
    rows = list(csv.DictReader((run / "log.csv").open()))
    times = "seconds", "examples_per_second", "waiting"
    found["log"] = [{k: v for k, v in row.items() if k not in times} for row in rows]
    found["state"] = state
    for folder in ("best", "checkpoints/last"):
        with h5py.File(run / folder / "model.weights.h5") as file:
            file.visititems(
                lambda name, item, folder=folder: (
                    found.update({f"{folder}/{name}": item[()]})
                    if isinstance(item, h5py.Dataset)
                    else None
                )
            )
    return found


def assert_equal(ours: dict, theirs: dict):
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)
        else:
            assert value == theirs[name], name


@pytest.fixture(scope="module")
def uninterrupted(training_records, flickr8k_records, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    train("shapes", flags(training_records, run, val=f"{flickr8k_records}:dev"), [Until()])
    return run


# 7: within an epoch, after the checkpoint of step 6. 10: at the end of one, before its evaluation.
def test_a_run_interrupted_twice_ends_the_same(
    uninterrupted, training_records, flickr8k_records, tmp_path
):
    given = flags(training_records, tmp_path / "run", val=f"{flickr8k_records}:dev")
    for step in (7, 10):
        with pytest.raises(Interruption):
            train("shapes", given, [Until(step, interrupt)])
    ended = train("shapes", given, [Until()])
    assert ended["steps"] == 14
    assert_equal(result_of(tmp_path / "run"), result_of(uninterrupted))
