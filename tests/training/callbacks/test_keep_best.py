"""The best model that is written is the one that was measured, whatever came between."""

import keras
import numpy as np
import pytest

from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.saving import TrainedModel, load_model
from tfclip.training.callbacks.keep_best import KeepBest
from tfclip.training.options.recipes import RECIPES
from tfclip.training.setup.optimizer import averages, exchanged, make_optimizer


@pytest.fixture
def trained(tiny_model):
    """A model of that kind, to be changed."""
    keras.utils.set_random_seed(0)
    return TrainedModel(DualEncoder(tiny_model.config), tiny_model.tokenizer)


def with_new_optimizer(model, average):
    flags = RECIPES["shapes"].flags(average=average, warmup_steps=0)
    model.compile(optimizer=make_optimizer(flags.optimizer, 0.1, 10))
    model.optimizer.build(model.trainable_variables)


def step(model, size):
    gradients = [np.full(v.shape, size, "float32") for v in model.trainable_variables]
    model.optimizer.apply(gradients, model.trainable_variables)


def weights(model):
    return [v.numpy() for v in model.trainable_variables]


def evaluated(keep, model, epoch, value):
    """As the loop does it: with the averaged weights in the model."""
    with exchanged(averages(model)):
        measured = weights(model)
        keep.on_epoch_end(epoch, {"batch_loss": 1.0, "map": value})
    return measured, weights(model)


def test_both_models_are_those_of_the_best_epoch_also_after_a_new_phase(trained, tmp_path):
    model, keep = trained.dual_encoder, KeepBest(trained, tmp_path / "best", "map")
    with_new_optimizer(model, 0.9)
    for epoch, value in enumerate((0.1, 0.5, 0.2)):
        step(model, 1.0 + epoch)
        found = evaluated(keep, model, epoch, value)
        if epoch == 1:
            averaged, own = found
    with_new_optimizer(model, 0.9)
    step(model, -3.0)
    now = weights(model)
    keep.before_checkpoint()
    for name, expected in (("best", averaged), ("best-unaveraged", own)):
        written = weights(load_model(tmp_path / name).dual_encoder)
        for ours, theirs in zip(written, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert any((a != b).any() for a, b in zip(averaged, own, strict=True))
    for before, after in zip(now, weights(model), strict=True):
        np.testing.assert_array_equal(before, after)


def test_without_averages_there_is_one_model(trained, tmp_path):
    with_new_optimizer(trained.dual_encoder, 0.0)
    keep = KeepBest(trained, tmp_path / "best", "map")
    evaluated(keep, trained.dual_encoder, 0, 0.3)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
