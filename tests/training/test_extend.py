"""`fit --extend`: a run that has ended trains on, with a new schedule, and resumes exactly."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from benchmarks.compared_runs import differences, result_of
from tfclip.models.saving import load_model
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
    "evaluate_every": 2,
    "warmup_steps": 1,
    "checkpoint_every": "1",
    "learning_rate": 1e-3,
    "region_share": 0.0,
}


class Watch(keras.callbacks.Callback):
    """Keeps the weights and the learning rate before each step, also of the steps before."""

    def __init__(self):
        super().__init__()
        self.weights, self.rates = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.weights.append([np.asarray(weight) for weight in self.model.trainable_weights])
        self.rates.append(float(self.model.optimizer.learning_rate))


class Interrupt(Watch):
    """Ends the run after two steps of an optimizer."""

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == 2:
            raise InterruptedError


def fit(records, run, steps, watch=None, **given):
    flags = SMALL.flags(records=str(records), run=run, steps=steps, **TINY, **given)
    return train("shapes", flags, [watch or Watch()], SMALL)


@pytest.mark.slow
def test_an_ended_run_goes_on_and_resumes_exactly(training_records, tmp_path, capsys):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for run in (whole, broken):
        fit(training_records, run, 3)
    with pytest.raises(ValueError, match="--steps 3, now 7"):
        fit(training_records, whole, 7)
    ended = load_model(whole / "checkpoints" / "last").dual_encoder.trainable_weights
    ended = [np.asarray(weight) for weight in ended]
    capsys.readouterr()
    watch = Watch()
    fit(training_records, whole, 7, watch, extend=True)
    said = capsys.readouterr().err
    assert "4 more steps after step 3" in said and "1 steps of warm-up" in said
    # It begins with the last weights, and with the warm-up.
    for old, new in zip(ended, watch.weights[3], strict=True):
        np.testing.assert_array_equal(old, new)
    assert watch.rates[3:] == pytest.approx([0, 1e-3, 0.75e-3, 0.25e-3], rel=1e-4)
    config = json.loads((whole / "config.json").read_text())
    assert config["flags"]["steps"] == 7 and config["extended_after"] == [3]
    assert load_model(whole).trained_on["steps"] == 7

    with pytest.raises(InterruptedError):
        fit(training_records, broken, 7, Interrupt(), extend=True)
    fit(training_records, broken, 7)  # the flag is not needed any more
    results = result_of(whole), result_of(broken)
    for result in results:
        del result["state"]["callbacks"]  # those of this test have seen different steps
    differ = differences(*results)
    assert not [name for name in differ if not name.startswith("callback-")]
    # Once more.
    fit(training_records, whole, 9, extend=True)
    assert json.loads((whole / "config.json").read_text())["extended_after"] == [3, 7]
    with pytest.raises(ValueError, match="ended after step 9"):
        fit(training_records, whole, 8, extend=True)


@pytest.mark.slow
def test_a_run_with_frozen_towers_is_extended(training_records, tmp_path):
    run, watch = tmp_path / "run", Watch()
    fit(training_records, run, 2, freeze="image,text")
    ended = load_model(run / "checkpoints" / "last").dual_encoder
    fit(training_records, run, 4, watch, freeze="image,text", extend=True)
    heads = [ended.image_head, ended.text_head]
    before = {weight.path: np.asarray(weight) for head in heads for weight in head.weights}
    assert len(watch.weights) == 4 and len(before) >= 2
    kept = [np.asarray(weight) for weight in watch.weights[2]]
    assert all(any(np.array_equal(old, new) for new in kept) for old in before.values())
    assert load_model(run).trained_on["steps"] == 4


def test_what_cannot_be_extended_is_refused(training_records, tmp_path):
    with pytest.raises(ValueError, match="there is no run"):
        fit(training_records, tmp_path / "none", 4, extend=True)
