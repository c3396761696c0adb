"""Layers with gradients of their own give what Keras, SciPy and finite differences give."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import ndtr

from tfclip.models.layers.activations import gelu
from tfclip.models.layers.normalization import LayerNormalization
from tfclip.models.towers.applications import faster


def test_gelu_and_its_first_two_derivatives_are_scipys():
    x = tf.constant(np.linspace(-9, 9, 181))
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = gelu(x)
        slope = inner.gradient(y, x)
    curve = outer.gradient(slope, x)
    at = x.numpy()
    density = np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(y, at * ndtr(at), atol=1e-14)
    np.testing.assert_allclose(slope, ndtr(at) + at * density, atol=1e-14)
    np.testing.assert_allclose(curve, (2 - at**2) * density, atol=1e-14)


def test_gelu_is_keras_activation_in_all_precisions():
    x = np.random.default_rng(0).normal(0, 3, (4, 5, 6))
    for dtype, apart in (("float32", 1e-6), ("bfloat16", 2e-2), ("float16", 2e-3)):
        ours = gelu(tf.cast(x, dtype))
        assert ours.dtype == dtype
        theirs = keras.activations.gelu(tf.cast(x, dtype), approximate=False)
        np.testing.assert_allclose(
            tf.cast(ours, "float64"), tf.cast(theirs, "float64"), atol=apart, rtol=apart
        )


def pair(shape, **options):
    layers = [kind(**options) for kind in (LayerNormalization, keras.layers.LayerNormalization)]
    generator = np.random.default_rng(1)
    for layer in layers:
        layer.build(shape)
    values = [generator.normal(size=w.shape) for w in layers[0].weights]
    for layer in layers:
        layer.set_weights(values)
    return layers


def both(layer, x, compiled):
    """The output, and the gradients of input, scale and shift for some weighting of it."""

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            weights = tf.reshape(tf.cos(tf.range(tf.size(y), dtype=tf.float32)), tf.shape(y))
            total = tf.reduce_sum(tf.cast(weights, y.dtype) * y)
        return y, *tape.gradient(total, [x, *[v.value for v in layer.trainable_variables]])

    return (tf.function(run) if compiled else run)(x)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("shape", [(6, 8), (3, 5, 8), (2, 3, 4, 8)])
def test_layer_normalization_is_keras_forward_and_backward(shape, compiled):
    x = tf.constant(np.random.default_rng(2).normal(3, 2, shape), tf.float32)
    ours, theirs = (both(layer, x, compiled) for layer in pair(shape, epsilon=1e-6))
    assert len(ours) == 4
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-5, rtol=2e-5)


def test_layer_normalization_by_finite_differences():
    (layer, _) = pair((2, 6), epsilon=1e-3, dtype="float64")
    x = tf.constant(np.random.default_rng(3).normal(size=(2, 6)))
    computed, numeric = tf.test.compute_gradient(lambda x: layer(x), [x])
    np.testing.assert_allclose(computed[0], numeric[0], atol=1e-7)


@pytest.mark.parametrize(
    ("precision", "last"), [("mixed_bfloat16", 2**-8), ("mixed_float16", 2**-10)]
)
def test_half_precision_is_normalised_in_float32(precision, last):
    ours, theirs = pair((3, 8), dtype=precision)
    x = np.random.default_rng(4).normal(100, 1, (3, 8)).astype("float32")
    assert ours(x).dtype == theirs(x).dtype == ours.compute_dtype
    # Equal but for a last bit that was rounded the other way.
    outputs = (tf.cast(layer(x), "float32") for layer in (ours, theirs))
    np.testing.assert_allclose(*outputs, rtol=last)


@pytest.mark.parametrize("options", [{"axis": 1}, {"center": False}, {"scale": False}])
def test_what_the_short_way_does_not_cover_goes_keras_way(options):
    ours, theirs = pair((4, 5, 8), **options)
    x = np.random.default_rng(5).normal(size=(4, 5, 8)).astype("float32")
    np.testing.assert_array_equal(ours(x), theirs(x))


def test_weights_and_configuration_are_keras(tmp_path):
    def network(kind):
        pictures = keras.Input((5, 8))
        return keras.Model(pictures, kind(epsilon=1e-5, name="norm")(pictures))

    ours, theirs = network(LayerNormalization), network(keras.layers.LayerNormalization)
    theirs.set_weights([np.arange(8.0), np.ones(8)])
    theirs.save_weights(tmp_path / "norm.weights.h5")
    ours.load_weights(tmp_path / "norm.weights.h5")
    x = np.random.default_rng(6).normal(size=(2, 5, 8)).astype("float32")
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-6)
    ours.save(tmp_path / "norm.keras")
    again = keras.models.load_model(tmp_path / "norm.keras")
    assert isinstance(again.get_layer("norm"), LayerNormalization)
    np.testing.assert_array_equal(again(x), ours(x))


def test_the_layers_of_keras_applications_are_replaced_with_their_names_and_outputs():
    x = np.random.default_rng(7).normal(size=(2, 5, 8)).astype("float32")
    slow = keras.layers.LayerNormalization(epsilon=1e-3, name="a"), keras.layers.Activation("gelu")
    for layer in slow:
        layer.build(x.shape)
        fast = faster(layer)
        assert fast.name == layer.name
        assert isinstance(fast, LayerNormalization) or fast.activation is gelu
        np.testing.assert_allclose(fast(x), layer(x), atol=2e-6)
