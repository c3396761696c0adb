"""An interrupted run ends bit for bit as if it had not been interrupted, or says why it cannot."""

import io
import json
import os
import shutil
import signal
import time
import zlib
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks.compared_runs import differences, result_of
from tfclip.models.saving import load_model
from tfclip.training.interval import Interval
from tfclip.training.loop.checkpoints import Checkpoints
from tfclip.training.options.recipes import RECIPES
from tfclip.training.run import train

SMALL = replace(
    RECIPES["shapes"],
    image_options={"widths": (8,), "stem": 2},
    text_options={"width": 16, "blocks": 1, "heads": 2},
)
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


# Raised in the main thread: os.kill may give the signal to a thread of TensorFlow, and Python's
# handler then runs later.
def terminate():
    signal.raise_signal(signal.SIGTERM)


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def flags(records, run, **given):
    """Dropout in the head, averaged weights, early stopping, validation."""
    options = {"records": str(records), "run": run, "text_head": "projection", **TINY, **given}
    options["feature_cache"] = run.parent / "features"
    return SMALL.flags(**options)


def trained(given, *callbacks):
    return train("shapes", given, callbacks, SMALL)


@pytest.fixture(scope="module")
def uninterrupted(training_records, flickr8k_records, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    trained(flags(training_records, run, val=f"{flickr8k_records}:dev"), Until())
    return run


def test_a_run_interrupted_twice_ends_the_same(
    uninterrupted, training_records, flickr8k_records, tmp_path
):
    given = flags(training_records, tmp_path / "run", val=f"{flickr8k_records}:dev")
    saved = Checkpoints(tmp_path / "run" / "checkpoints", Interval())
    # At the end of an epoch, before its evaluation; all that was in memory is gone.
    with pytest.raises(Interruption):
        trained(given, Until(10, interrupt))
    assert saved.newest().step == 9
    assert_saved_by_signal(given, terminate, "SIGTERM")
    assert_goes_on_to_the_end_of(uninterrupted, given)


@pytest.mark.slow
def test_ctrl_c_saves_and_a_second_one_ends_at_once(
    uninterrupted, training_records, flickr8k_records, tmp_path, capfd, request
):
    given = flags(training_records, tmp_path / "run", val=f"{flickr8k_records}:dev")
    saved = Checkpoints(tmp_path / "run" / "checkpoints", Interval())

    # A command in the background of a shell ignores SIGINT, and so would this test there.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, ignored))

    def press_twice():
        # With other threads at work Python may run the handler some instructions later.
        press_ctrl_c()
        told, end = "", time.monotonic() + 10
        while "press Ctrl-C again to stop at once" not in told:
            assert time.monotonic() < end, told
            told += capfd.readouterr().err
        press_ctrl_c()
        time.sleep(10)
        raise AssertionError("the run went on")

    # Within an epoch, after the checkpoint of step 6: the second Ctrl-C saves nothing.
    with pytest.raises(KeyboardInterrupt):
        trained(given, Until(7, press_twice))
    assert saved.newest().step == 6
    assert_saved_by_signal(given, press_ctrl_c, "SIGINT")
    assert_goes_on_to_the_end_of(uninterrupted, given)


def assert_saved_by_signal(given, act, name):
    """A signal saves within a step, also where no checkpoint is due."""
    ended = trained(given, Until(11, act))
    assert (ended["terminated"], ended["steps"], ended["signal"]) == (True, 11, name)
    assert Checkpoints(given.run / "checkpoints", Interval()).newest().step == 11


def assert_goes_on_to_the_end_of(uninterrupted, given):
    ended = trained(given, Until())
    assert (ended["terminated"], ended["steps"]) == (False, 14)
    assert differences(result_of(given.run), result_of(uninterrupted)) == []
    assert shown(given.run) == shown(uninterrupted)


def shown(run) -> dict:
    """What TensorBoard shows of a run: the values of each curve by step, and its pictures."""
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    curves = {
        tag: [(event.step, event.value) for event in board.Scalars(tag)]
        for tag in board.Tags()["scalars"]
    }
    for what in ("loss", "temperature", "learning_rate", "gradient_norm_image"):
        assert [step for step, _ in curves[f"step/{what}"]] == [10], what
    for what in ("val_loss", "val_recall", "learning_rate", "gradient_norm_text"):
        assert [step for step, _ in curves[f"evaluation/{what}"]] == [5, 10, 14], what
    pictures = [(image.step, image.encoded_image_string) for image in board.Images("retrievals")]
    assert [step for step, _ in pictures] == [5, 10, 14]
    for _, png in pictures:
        assert Image.open(io.BytesIO(png)).size == (240 + 5 * 108, 6 * 108)
    return {**curves, "pictures": pictures}


@pytest.mark.slow
def test_a_signal_before_an_evaluation_saves_and_the_run_goes_on(
    uninterrupted, training_records, flickr8k_records, tmp_path
):
    given = flags(
        training_records, tmp_path / "run", val=f"{flickr8k_records}:dev", checkpoint_every="1h"
    )
    ended = trained(given, Until(10, terminate))
    assert (ended["terminated"], ended["steps"], ended["signal"]) == (True, 10, "SIGTERM")
    ended = trained(given, Until())
    assert (ended["terminated"], ended["steps"]) == (False, 14)
    assert differences(result_of(tmp_path / "run"), result_of(uninterrupted)) == []


@pytest.mark.slow
def test_the_command_ends_well_after_sigterm_and_goes_on(forked, training_records, tmp_path):
    words = ["-m", "tfclip.fit", "shapes", f"--records={training_records}"]
    words += [f"--run={tmp_path / 'run'}", "--steps=9000", "--batch-size=4", "--image-size=16"]
    words += ["--checkpoint-every=1", "--evaluate-every=9000"]
    for number in (1, 2):
        with forked.start(*words) as running:
            saved = Checkpoints(tmp_path / "run" / "checkpoints", Interval())
            before = saved.newest_path()
            while saved.newest_path() == before and running.poll() is None:
                time.sleep(0.1)
            running.terminate()
            _, said = running.communicate()
        assert running.returncode == 0, said
        assert f"ended by SIGTERM: step {saved.newest().step} is saved" in said
        assert ("resuming after step" in said) == (number == 2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_saves_on_ctrl_c_in_a_terminal(forked, training_records, tmp_path, workers):
    """A terminal sends SIGINT to the command and to the workers that it started."""
    words = ["-m", "tfclip.fit", "shapes", f"--records={training_records}"]
    words += [f"--run={tmp_path / 'run'}", "--steps=9000", "--batch-size=4", "--image-size=16"]
    words += ["--checkpoint-every=1", "--evaluate-every=9000", f"--workers={workers}"]
    saved = Checkpoints(tmp_path / "run" / "checkpoints", Interval())
    with forked.start(*words) as running:  # in a session, and with it a group, of its own
        while saved.newest_path() is None and running.poll() is None:
            time.sleep(0.1)
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=180)
    assert running.returncode == 130, said
    assert f"step {saved.newest().step} is saved; run the same command again to resume" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_sigterm_breaks_off_an_evaluation_which_is_made_again(
    uninterrupted, training_records, flickr8k_records, tmp_path
):
    class InEvaluation(Until):
        def on_epoch_end(self, epoch, logs=None):
            if self.step and epoch == 1:
                terminate()
                raise AssertionError("the evaluation went on")

    given = flags(training_records, tmp_path / "run", val=f"{flickr8k_records}:dev")
    first = InEvaluation(step=99)
    assert trained(given, first)["terminated"]
    assert len(first.losses) == 10
    trained(given, InEvaluation())
    theirs = result_of(uninterrupted)
    # The same callback by another name.
    theirs["state"]["callbacks"] = theirs["state"]["callbacks"].replace("Until", "InEvaluation")
    assert differences(result_of(tmp_path / "run"), theirs) == []


def test_another_flag_is_refused_by_name(uninterrupted, training_records, flickr8k_records):
    given = {"val": f"{flickr8k_records}:dev", "learning_rate": 5e-3, "seed": 1}
    with pytest.raises(ValueError, match="--learning-rate 0.001, now 0.005; --seed 0, now 1"):
        trained(flags(training_records, uninterrupted, **given))


def test_a_run_that_has_ended_is_not_trained_again_also_with_its_records_in_another_place(
    uninterrupted, training_records, flickr8k_records, tmp_path, capsys
):
    before = result_of(uninterrupted)
    seen = Until()
    shutil.copytree(training_records, tmp_path / "moved")
    given = {"val": f"{flickr8k_records}:dev"}
    assert trained(flags(tmp_path / "moved", uninterrupted, **given), seen)["steps"] == 14
    assert len(seen.losses) == 14, "what the callback remembered, and no step more"
    assert "has ended after step 14" in capsys.readouterr().err
    assert differences(result_of(uninterrupted), before) == []
    vocabulary = training_records / "vocab.model"
    told = f"--records .*{training_records}.*, now .*{flickr8k_records}"
    with pytest.raises(ValueError, match=told):
        trained(flags(flickr8k_records, uninterrupted, vocabulary=vocabulary, **given))


def test_averaged_weights_and_what_they_stand_for_are_both_saved(uninterrupted):
    with np.load(uninterrupted / "checkpoints" / "step-00000014.npz") as packed:
        assert not [name for name in packed.files if name.startswith("variable")]
        saved = json.loads(packed["state.json"])["checksums"]
    weights = {}
    for folder in ("last", "last-unaveraged"):
        model = load_model(uninterrupted / "checkpoints" / folder).dual_encoder
        weights[folder] = [v.numpy() for v in model.trainable_variables if v.shape]
        assert all(zlib.crc32(value.tobytes()) in saved for value in weights[folder])
    changed = [not np.array_equal(*pair) for pair in zip(*weights.values(), strict=True)]
    assert np.mean(changed) > 0.9
    assert load_model(uninterrupted / "best-unaveraged").trained_on["steps"] == 14


@pytest.mark.slow
def test_damaged_checkpoints_fall_back_to_the_one_before(
    uninterrupted, training_records, flickr8k_records, tmp_path, capsys
):
    run = tmp_path / "run"
    given = flags(training_records, run, val=f"{flickr8k_records}:dev")
    with pytest.raises(Interruption):
        trained(given, Until(13, interrupt))
    saved = Checkpoints(run / "checkpoints", Interval())
    assert [path.name for path in saved._paths()] == [f"step-{step:08d}.npz" for step in (12, 9, 6)]
    last, middle, _ = saved._paths()
    content = bytearray(last.read_bytes())
    # A byte of a value: one of a zip header (its date, say) would do no harm.
    with np.load(last) as arrays:
        content[content.index(arrays["variable-00000"].tobytes())] ^= 1
    last.write_bytes(content)
    middle.write_bytes(middle.read_bytes()[:-1000])
    trained(given, Until())
    said = capsys.readouterr().err
    assert f"{last} is damaged" in said
    assert f"{middle} is damaged" in said
    assert "resuming after step 6" in said
    assert differences(result_of(run), result_of(uninterrupted)) == []
    for path in saved._paths():
        path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="all checkpoints in .* are damaged.*--overwrite"):
        trained(given)


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 6, 8])
def test_freed_towers_go_on_from_either_phase(step, locked, training_records, tmp_path):
    given = flags(training_records, tmp_path / "run", **LOCKED)
    with pytest.raises(Interruption):
        trained(given, Until(step, interrupt))
    trained(given, Until())
    assert differences(result_of(tmp_path / "run"), result_of(locked)) == []


LOCKED = {
    "lock": "image,text",
    "unlock_after": 6,
    "region_share": 0.0,
    "captions": 2,
    "checkpoint_every": "1",
}


@pytest.fixture(scope="module")
def locked(training_records, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "locked"
    trained(flags(training_records, run, **LOCKED), Until())
    return run


class Towers(keras.callbacks.Callback):
    """Looks at the towers, and changes one, before the run goes on."""

    def __init__(self, change=0.0):
        super().__init__()
        self.change = change

    def on_train_begin(self, logs=None):
        weights = [*self.model.image_tower.weights, *self.model.text_tower.weights]
        self.kernel = weights[0].numpy()
        weights[0].assign(weights[0] + self.change)


def test_locked_towers_are_in_no_checkpoint_and_must_be_the_same(training_records, tmp_path):
    given = flags(training_records, tmp_path / "run", **{**LOCKED, "unlock_after": None})
    towers = Towers()
    with pytest.raises(Interruption):
        trained(given, towers, Until(4, interrupt))
    (last, *_) = Checkpoints(tmp_path / "run" / "checkpoints", Interval())._paths()
    with np.load(last) as packed:
        arrays = [packed[name] for name in packed.files if name.startswith("variable")]
    assert len(arrays) > 10
    assert not any(np.array_equal(array, towers.kernel) for array in arrays)
    with pytest.raises(ValueError, match="frozen towers have other weights.*--image-weights"):
        trained(given, Towers(change=1.0))
