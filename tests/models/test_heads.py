"""Heads: their formulas in plain NumPy, what they refuse, their configs."""

import keras
import numpy as np
import pytest
from scipy.special import erf

from tfclip.models import registry

FEATURES = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")


def built(name, embed_dim=4, **options):
    layer = registry.head(name)(embed_dim, **options)
    layer.build((None, 6))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape).astype("float32") for w in layer.get_weights()])
    return layer


def gelu(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def test_linear_multiplies():
    layer = built("linear")
    (kernel,) = layer.get_weights()
    np.testing.assert_allclose(layer(FEATURES), FEATURES @ kernel, rtol=1e-5, atol=1e-5)
    assert len(built("linear", use_bias=True).get_weights()) == 2


def test_projection_is_the_formula_of_liteclip():
    layer = built("projection")
    kernel, bias, gamma, beta = layer.get_weights()
    x = FEATURES @ kernel + bias
    y = gelu(x)
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer(FEATURES), x + y * gamma + beta, rtol=1e-4, atol=1e-4)


def test_perceptron_is_two_matrices_without_biases():
    layer = built("perceptron")
    hidden, out = layer.get_weights()
    assert hidden.shape == (6, 6)
    np.testing.assert_allclose(layer(FEATURES), gelu(FEATURES @ hidden) @ out, rtol=1e-4, atol=1e-4)


def test_residual_members_are_the_formula_each():
    layer = built("residual", members=2, hidden=5)
    layer.adapt(FEATURES)
    named = {w.path.split("residual/")[-1]: np.asarray(w.value) for w in layer.weights}
    x = (FEATURES - FEATURES.mean(0)) / FEATURES.std(0)
    parts = []
    for n in range(2):
        hidden = gelu(x @ named[f"hidden_{n}/kernel"] + named[f"hidden_{n}/bias"])
        y = hidden @ named[f"out_{n}/kernel"] + named[f"out_{n}/bias"]
        y += x @ named[f"straight_{n}/kernel"]
        parts.append(y / np.linalg.norm(y, axis=1, keepdims=True))
    expected = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(layer(FEATURES), expected, rtol=1e-4, atol=1e-4)


def test_residual_drops_out_in_training_alone_and_differently_by_member():
    layer = built("residual", members=2, hidden=5, input_dropout=0.5)
    first, second = (np.asarray(layer(FEATURES)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(np.asarray(layer(FEATURES, training=True)) - first).max() > 0.01


def test_members_must_divide_the_embedding():
    with pytest.raises(ValueError, match="divide embed_dim 4"):
        registry.head("residual")(4, members=3)


def test_a_feature_that_never_varies_stays_finite():
    layer = built("residual")
    constant = np.concatenate([FEATURES[:, :5], np.ones((3, 1), "float32")], axis=1)
    layer.adapt(constant)
    assert np.isfinite(layer(constant)).all()


def test_identity_needs_the_size_of_the_features():
    np.testing.assert_array_equal(built("identity", 6)(FEATURES), FEATURES)
    with pytest.raises(ValueError, match="embed_dim 6, the size of the.*Received: embed_dim 4"):
        built("identity", 4)


@pytest.mark.parametrize("name", sorted(registry.HEADS))
def test_heads_for_pooled_features_refuse_sequences(name):
    with pytest.raises(ValueError, match="another pooling than none"):
        registry.head(name)(6).build((None, 5, 6))


@pytest.mark.parametrize("name", sorted(registry.HEADS))
def test_heads_round_trip_through_their_config(name):
    layer = registry.head(name)(6)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()


def test_an_unknown_head_names_the_known():
    with pytest.raises(ValueError, match="linear"):
        registry.head("liner")
