"""AdamW by layer: against Keras' own, by hand, and averaged weights that come and go."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.training.options.recipes import RECIPES
from tfclip.training.setup.optimizer import (
    LayerwiseAdamW,
    averages,
    depth_factors,
    exchanged,
    make_optimizer,
)


def updated(optimizer, variables, steps=4):
    for step in range(steps):
        gradients = [tf.fill(v.shape, 0.5 + step) for v in variables]
        optimizer.apply(gradients, variables)
    return [np.asarray(v.value) for v in variables]


def two_variables():
    return [keras.Variable([[1.0, -2.0]], name=name) for name in ("lower", "upper")]


def test_without_factors_it_is_keras_adamw():
    ours = updated(LayerwiseAdamW(0.1, weight_decay=0.3), two_variables())
    theirs = updated(keras.optimizers.AdamW(0.1, weight_decay=0.3), two_variables())
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "value"), [("gamma", [1.0]), ("bias", [[1.0]]), ("kernel", [[1.0]])]
)
def test_biases_and_norms_do_not_decay(name, value):
    ours = updated(LayerwiseAdamW(0.1, weight_decay=0.3), [keras.Variable(value, name=name)])
    decay = 0.3 if name == "kernel" else 0.0
    theirs = keras.optimizers.AdamW(0.1, weight_decay=decay)
    expected = updated(theirs, [keras.Variable(value, name=name)])
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_a_factor_is_that_of_the_learning_rate():
    variables = two_variables()
    optimizer = LayerwiseAdamW(0.1, weight_decay=0.3, factors={variables[0].path: 0.25})
    lower, upper = updated(optimizer, variables)
    np.testing.assert_allclose(
        lower,
        updated(keras.optimizers.AdamW(0.025, weight_decay=0.3), two_variables())[0],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        upper,
        updated(keras.optimizers.AdamW(0.1, weight_decay=0.3), two_variables())[1],
        rtol=1e-5,
    )


def test_it_round_trips_through_its_config():
    optimizer = LayerwiseAdamW(0.1, factors={"a": 0.5})
    copy = LayerwiseAdamW.from_config(optimizer.get_config())
    assert copy.factors == {"a": 0.5}


@pytest.mark.parametrize(
    ("schedule", "expected"), [("cosine", (0.5, 1.0, 0.5, 0.0)), ("constant", (0.5, 1, 1, 1))]
)
def test_the_schedule_warms_up_and_ends_as_asked(schedule, expected):
    flags = RECIPES["shapes"].flags(schedule=schedule, warmup_steps=10)
    rate = make_optimizer(flags.optimizer, 2.0, 50)._learning_rate
    found = [float(rate(step)) / 2 for step in (5, 10, 30, 50)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def tiny():
    return DualEncoder(
        ModelConfig(
            image_tower="small-convolutional",
            text_tower="small-transformer",
            image_size=16,
            embed_dim=8,
            context_length=6,
            vocabulary_size=20,
            image_options={"widths": (4, 8), "stem": 2},
            text_options={"width": 8, "blocks": 1, "heads": 2},
        )
    )


def test_lower_layers_have_lower_factors():
    tower = tiny().image_tower
    factors = depth_factors(tower, 0.5)
    assert set(factors) == {variable.path for variable in tower.trainable_variables}
    in_order = [factors[variable.path] for variable in tower.trainable_variables]
    assert in_order == sorted(in_order)
    assert in_order[0] == 0.5**11
    assert in_order[-1] >= 0.5


def test_averaged_weights_are_a_moving_average_and_are_exchanged():
    model = tiny()
    flags = RECIPES["shapes"].flags(average=0.5, warmup_steps=0)
    model.compile(optimizer=make_optimizer(flags.optimizer, 0.1, 10))
    model.optimizer.build(model.trainable_variables)
    variable = model.trainable_variables[0]
    expected = None
    for step in range(3):
        model.optimizer.apply(
            [tf.ones(v.shape) * (step + 1) for v in model.trainable_variables],
            model.trainable_variables,
        )
        now = np.asarray(variable.value)
        share = min(0.5, (1 + step) / (10 + step))
        expected = now if expected is None else share * expected + (1 - share) * now
    before = np.asarray(variable.value)
    with exchanged(averages(model)):
        np.testing.assert_allclose(variable.value, expected, rtol=1e-5, atol=1e-7)
        assert not np.allclose(variable.value, before)
        np.testing.assert_array_equal(averages(model)[0][1].value, before)
    np.testing.assert_array_equal(variable.value, before)
