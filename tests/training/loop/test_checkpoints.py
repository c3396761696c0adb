"""Checkpoint files: whole or absent, few, as often as asked, and of the right model only."""

import math
import os

import keras
import numpy as np
import pytest

from tfclip.training.interval import Interval
from tfclip.training.loop import checkpoints
from tfclip.training.loop.callback_state import CallbackStates
from tfclip.training.loop.checkpoints import Checkpoints, Misfit


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("auto", Interval()),
        ("500", Interval(steps=500)),
        ("90s", Interval(seconds=90)),
        ("1.5m", Interval(seconds=90)),
        ("2h", Interval(seconds=7200)),
    ],
)
def test_an_interval_is_read(text, interval):
    assert Interval.parse(text) == interval


@pytest.mark.parametrize("text", ["", "0", "-5", "0s", "m", "5 steps", "1.5", "nan"])
def test_what_is_no_interval_is_refused(text):
    with pytest.raises(ValueError, match="received --checkpoint-every .*500.*90s"):
        Interval.parse(text)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [1000.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    return now


def variables():
    return [
        keras.Variable(np.arange(6, dtype="float32").reshape(2, 3), name="kernel"),
        keras.Variable(np.array([1.5, -2.25]), dtype="bfloat16", name="half"),
        keras.Variable(np.array(7, "int64"), dtype="int64", name="count"),
    ]


def test_steps_and_seconds_decide_when_one_is_due(tmp_path, clock):
    by_steps = Checkpoints(tmp_path, Interval(steps=5))
    by_steps.begin(5)
    assert [step for step in range(5, 17) if by_steps.due(step)] == [10, 15]
    by_seconds = Checkpoints(tmp_path, Interval(seconds=30))
    by_seconds.begin(0)
    clock[0] += 29
    assert not by_seconds.due(1)
    clock[0] += 1
    assert by_seconds.due(1)


def test_by_default_saving_takes_two_percent_of_the_time_at_most(tmp_path, clock, monkeypatch):
    saved = Checkpoints(tmp_path, Interval())
    saved.begin(0)
    clock[0] += 59
    assert not saved.due(1)
    clock[0] += 1
    assert saved.due(1)
    # Writing takes four seconds: the next one is due when these are a fiftieth.
    synchronized = os.fsync
    slow = iter([4.0, 0.0])
    monkeypatch.setattr(
        os,
        "fsync",
        lambda file: (clock.__setitem__(0, clock[0] + next(slow)), synchronized(file)),
    )
    saved.save(1, variables(), {})
    clock[0] += 199
    assert not saved.due(2)
    clock[0] += 1
    assert saved.due(2)
    assert saved.seconds == 4.0


def test_the_last_three_are_kept_and_read_back(tmp_path):
    saved = Checkpoints(tmp_path, Interval(steps=1))
    for step in range(1, 6):
        saved.save(step, variables(), {"epoch": step, "loss": math.nan}, {"x": np.arange(step)})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-{step:08d}.npz" for step in (3, 4, 5)
    ]
    newest = saved.newest()
    assert (newest.step, newest.state["epoch"]) == (5, 5)
    assert math.isnan(newest.state["loss"])
    np.testing.assert_array_equal(newest.arrays["x"], np.arange(5))
    blank = [keras.Variable(np.zeros(v.shape), dtype=v.dtype) for v in variables()]
    newest.restore(blank)
    for ours, theirs in zip(blank, variables(), strict=True):
        assert ours.numpy().tobytes() == theirs.numpy().tobytes()


def test_what_a_kill_left_half_written_is_no_checkpoint(tmp_path):
    saved = Checkpoints(tmp_path, Interval(steps=1))
    saved.save(1, variables(), {})
    for name in ("step-00000002.npz.writing", ".step-00000002.npz.01234567.writing"):
        (tmp_path / name).write_bytes(b"half")
    # A model is a folder.
    (tmp_path / "last.writing").mkdir()
    (tmp_path / ".last.01234567.writing").mkdir()
    assert saved.newest().step == 1
    saved.begin(1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.npz"]


def test_each_single_damaged_byte_of_the_values_is_found(tmp_path, capsys):
    saved = Checkpoints(tmp_path, Interval(steps=1))
    saved.save(1, variables(), {})
    saved.save(2, variables(), {})
    path = saved.newest_path()
    sound = path.read_bytes()
    where = sound.index(variables()[0].numpy().tobytes())
    for place in range(where, where + 24, 5):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        assert saved.newest().step == 1
        assert f"{path} is damaged" in capsys.readouterr().err


def test_another_model_is_refused(tmp_path):
    saved = Checkpoints(tmp_path, Interval(steps=1))
    saved.save(1, variables(), {})
    with pytest.raises(Misfit, match="has 3 variables, this model 2"):
        saved.newest().restore(variables()[:2])
    wider = [keras.Variable(np.zeros((2, 4), "float32")), *variables()[1:]]
    with pytest.raises(Misfit, match=r"float32 \[2, 4\] for float32 \[2, 3\]"):
        saved.newest().restore(wider)


def test_a_machine_that_only_reads_writes_nothing(tmp_path):
    saved = Checkpoints(tmp_path, Interval(steps=1), writes=False)
    assert not saved.due(1)
    saved.save(1, variables(), {})
    assert list(tmp_path.iterdir()) == []


class Remembering(keras.callbacks.Callback):
    """A callback with all kinds of attributes."""

    def __init__(self, patience=3):
        super().__init__()
        self.patience = patience
        self.best, self.seen, self.shape = math.inf, {}, None
        self.weights = None
        self.file = object()


def test_what_callbacks_remember_comes_back_as_it_was():
    before = Remembering()
    states = CallbackStates([before])
    before.best, before.shape = np.float32(0.1), (2, "b", None)
    before.seen = {3: [1, 2.5, True], "a": {}}
    before.weights = [np.arange(3), np.eye(2)]
    taken, arrays = states.taken()

    # In a new process, with another patience: what has not changed is the constructor's.
    after = Remembering(patience=9)
    CallbackStates([after]).restore(taken, arrays)
    assert (after.best, after.shape) == (float(np.float32(0.1)), (2, "b", None))
    assert after.seen == before.seen
    assert after.patience == 9
    np.testing.assert_array_equal(after.weights[1], np.eye(2))


def test_keras_early_stopping_goes_on_counting():
    def at_epoch(callback, epoch, loss):
        callback.on_epoch_end(epoch, {"loss": loss})

    def stopping():
        callback = keras.callbacks.EarlyStopping("loss", patience=3, mode="min")
        callback.set_model(keras.Sequential())
        callback.on_train_begin()
        return callback

    first = stopping()
    states = CallbackStates([first])
    for epoch, loss in enumerate((1.0, 0.5, 0.6, 0.7)):
        at_epoch(first, epoch, loss)
    taken, arrays = states.taken()
    second = stopping()
    CallbackStates([second]).restore(taken, arrays)
    second.model.stop_training = False
    at_epoch(second, 4, 0.8)
    assert second.model.stop_training
    assert (second.best, second.stopped_epoch) == (0.5, 4)
