"""The scalars of several steps are read at once, and nothing else changes."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.loop.train_on_replicas import BATCH, columns, encoder
from tfclip.training.callbacks.log_and_stop import StopOnNaN
from tfclip.training.callbacks.tensorboard import TensorBoardLog
from tfclip.training.interval import Interval
from tfclip.training.loop import trainer
from tfclip.training.loop.checkpoints import Checkpoints
from tfclip.training.loop.step_logs import (
    LONGEST,
    group_end,
    refuse_single_steps,
    steps_between_reads,
)
from tfclip.training.loop.step_timer import StepTimer
from tfclip.training.loop.trainer import Phase, run_steps
from tfclip.training.options.recipes import RECIPES
from tfclip.training.setup.build_model import compile_for_training

STEPS = 23


class Seen(keras.callbacks.Callback):
    """Remembers the logs of each step, and after how many updates it saw them."""

    def __init__(self, reads_every=None):
        super().__init__()
        self.logs, self.updates = [], []
        if reads_every is not None:
            self.reads_every = reads_every

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append(dict(logs))
        self.updates.append(int(self.model.optimizer.iterations.numpy()))


@pytest.fixture
def train(monkeypatch):
    """`train(*callbacks)`: trains a tiny model, and returns its weights and the result."""
    # Only the number of steps decides, however slow they are.
    monkeypatch.setattr(trainer, "SECONDS", math.inf)

    def run(*callbacks, break_at=None, dropout=0.1, **options):
        model = encoder(dropout=dropout)
        compile_for_training(model, RECIPES["shapes"].flags(steps=STEPS, batch_size=BATCH))
        step = model.train_step

        def broken(batch):
            values = step(batch)
            breaks = tf.equal(model.optimizer.iterations.value, break_at)
            loss = tf.where(breaks, math.nan, values["batch_loss"])
            return {**values, "batch_loss": loss}

        if break_at:
            model.train_step = broken
        whole = tf.data.Dataset.from_tensor_slices(columns(STEPS * BATCH))
        whole = whole.batch(BATCH, drop_remainder=True)
        phase = Phase(STEPS, lambda start: whole.skip(start))
        strategy = tf.distribute.get_strategy()
        ended = run_steps(model, strategy, [phase], epoch_steps=15, callbacks=callbacks, **options)
        return [np.array(weight.value) for weight in model.weights], ended

    return run


@pytest.mark.slow
def test_later_reads_change_neither_logs_nor_weights(train):
    at_once, later = Seen(), Seen(reads_every=0)
    one, other = train(at_once)[0], train(later)[0]
    assert at_once.updates == list(range(1, STEPS + 1))
    # After the first step, every tenth, and at the end of an epoch.
    reads = [1, *[10] * 9, *[15] * 5, *[20] * 5, *[STEPS] * 3]
    assert later.updates == reads
    assert at_once.logs == later.logs
    for weight, same in zip(one, other, strict=True):
        np.testing.assert_array_equal(weight, same)


@pytest.mark.slow
def test_steps_of_one_call_train_the_same_bits_and_resume(train, tmp_path):
    """Against one step a call, and a run that is stopped within a group against one that is not."""
    single, whole, grouped = (Seen(reads_every=0) for _ in range(3))
    alone, expected = train(single)[0], train(whole, steps_per_execution=4)[0]
    assert [logs.keys() for logs in single.logs] == [logs.keys() for logs in whole.logs]
    losses = [[logs["batch_loss"] for logs in seen.logs] for seen in (single, whole)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    for weight, same in zip(alone, expected, strict=True):
        np.testing.assert_allclose(weight, same, atol=1e-4)
    checkpoints = Checkpoints(tmp_path / "checkpoints", Interval(steps=10))

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    options = {"checkpoints": checkpoints, "steps_per_execution": 4}
    with pytest.raises(KeyboardInterrupt):
        train(Seen(reads_every=0), Stop(), **options)
    assert checkpoints.newest().step == 10  # the last before the epoch's end at 15
    weights, ended = train(grouped, Stop.__base__(), **{**options, "steps_per_execution": 5})
    assert ended.step == STEPS
    # The checkpoint has what was seen before it.
    assert grouped.logs == whole.logs
    assert grouped.updates == [*[4] * 4, *[10] * 6, *[15] * 5, *[20] * 5, *[STEPS] * 3]
    for weight, same in zip(expected, weights, strict=True):
        np.testing.assert_array_equal(weight, same)


def test_groups_of_steps_end_where_something_is_due():
    assert [group_end(step, 4, 10, last=23) for step in (0, 4, 8, 10, 20)] == [4, 8, 10, 12, 23]


def test_callbacks_that_see_single_steps_are_refused_by_name(tmp_path):
    one = tf.distribute.get_strategy()
    refuse_single_steps([Seen()], one, 1)
    refuse_single_steps([Seen(reads_every=0), TensorBoardLog(tmp_path)], one, 4)
    with pytest.raises(ValueError, match="the callback Seen has methods for single steps"):
        refuse_single_steps([TensorBoardLog(tmp_path), Seen()], one, 4)


def test_a_nan_is_reported_for_its_step_although_others_have_begun(train, tmp_path):
    seen = Seen(reads_every=0)
    stop = StopOnNaN(tmp_path / "broken.json", lambda update: [f"batch {update}"])
    folder = tmp_path / "checkpoints"
    ended = train(stop, seen, break_at=13, checkpoints=Checkpoints(folder, Interval(steps=5)))[1]
    assert stop.stopped_at == ended.step == len(seen.logs) == 13
    assert seen.updates[-1] == 15
    report = json.loads((tmp_path / "broken.json").read_text())
    assert (report["step"], report["keys"]) == (13, ["batch 12"])
    assert [path.name for path in sorted(folder.iterdir())] == [
        "step-00000005.npz",
        "step-00000010.npz",
    ]


def test_callbacks_that_see_single_steps_see_each_at_once(tmp_path):
    one = tf.distribute.get_strategy()
    only_epochs = keras.callbacks.EarlyStopping("loss")
    assert steps_between_reads([only_epochs], one) == LONGEST
    assert steps_between_reads([only_epochs, TensorBoardLog(tmp_path, every=4)], one) == 2
    assert steps_between_reads([Seen(reads_every=0), TensorBoardLog(tmp_path)], one) == LONGEST
    assert steps_between_reads([Seen()], one) == 1
    each = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda batch, logs: None)
    assert steps_between_reads([each], one) == 1


def test_waiting_is_what_the_device_waits():
    def waiting(steps, seconds):
        timer = StepTimer()
        timer.add(9.0, 9.0)  # the first step, which builds the graph
        timer.read(0.0)
        for step in steps:
            timer.add(*step)
        timer.read(seconds)
        assert timer.waiting + timer.training == pytest.approx(sum(map(sum, steps)) + seconds)
        return timer.waiting

    # On a CPU the call of a graph returns when it is done.
    assert waiting([(1.0, 4.0), (2.0, 3.0)], 0.0) == 3.0
    # A GPU that is busy all the time, while the host waits for batches ahead of it.
    assert waiting([(0.8, 0.0)] * 10, 2.0) == pytest.approx(0.0)
    # A GPU that takes 0.2 s for what the host waits 0.8 s for.
    assert waiting([(0.8, 0.0)] * 10, 0.2) == pytest.approx(10 * 0.6 + 0.2)


@pytest.mark.slow
def test_steps_that_xla_compiles_train_the_same(train):
    plain, compiled = Seen(reads_every=0), Seen(reads_every=0)
    train(plain, dropout=0.0)
    train(compiled, dropout=0.0, jit_compile=True)
    losses = [[logs["batch_loss"] for logs in seen.logs] for seen in (plain, compiled)]
    assert len(losses[0]) == STEPS
    np.testing.assert_allclose(*losses, rtol=1e-3)
