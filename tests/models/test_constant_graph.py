"""Graphs with constant weights equal the model, and have no normalisation of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tfclip.models.constant_graph import constant_graph, fold_normalizations
from tfclip.models.layers.normalization import BatchNormalization

SPEC = tf.TensorSpec([None, 6, 6, 2], tf.float32)


@pytest.fixture(scope="module")
def tower():
    """A convolution and a depthwise one with normalisations; one map is read twice."""
    layers = keras.layers
    start = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 1, use_bias=False)(start)
    x = layers.ReLU(6.0)(BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = twice = layers.ReLU(6.0)(BatchNormalization()(x))
    x = layers.Conv2D(4, 1, use_bias=False)(x)
    x = layers.Add()([twice, BatchNormalization()(x), x])
    model = keras.Model(start, layers.GlobalAveragePooling2D()(x))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def test_the_graph_equals_the_tower_for_any_number_of_pictures(tower):
    graph = constant_graph(tower, [SPEC])
    for count in (1, 3):
        pictures = np.random.default_rng(1).normal(size=(count, 6, 6, 2)).astype("float32")
        np.testing.assert_allclose(graph(pictures), tower(pictures), rtol=1e-5)


def test_normalisations_become_kernels_and_biases(tower):
    traced = tf.function(tower, input_signature=[SPEC], autograph=False).get_concrete_function()
    definition, found = fold_normalizations(convert_variables_to_constants_v2(traced).graph)
    # Two normalisations of two parts each; the third one's convolution is read elsewhere too.
    assert found == 4
    assert sum(node.op == "BiasAdd" for node in definition.node) == 2
    convolutions = [n for n in definition.node if "onv" in n.op and n.op != "Const"]
    kernels = [name for node in convolutions for name in node.input[1:]]
    assert sum(name.endswith("/kernel") for name in kernels) == 2


def test_only_factors_of_channels_are_folded():
    """Twice, in a depthwise convolution with two kernels for a channel; not a factor of places."""
    rng = np.random.default_rng(0)
    kernel, scale, places = (rng.normal(size=s) for s in ((3, 3, 2, 2), 4, (1, 6, 6, 4)))

    def work(pictures):
        out = tf.nn.depthwise_conv2d(pictures, tf.constant(kernel, tf.float32), [1] * 4, "SAME")
        out = out * tf.constant(scale, tf.float32) * tf.constant(scale, tf.float32) + 0.5
        out = tf.nn.conv2d(out, tf.ones([1, 1, 4, 4]), 1, "SAME")
        return out * tf.constant(places, tf.float32)

    traced = tf.function(work, input_signature=[SPEC], autograph=False).get_concrete_function()
    assert fold_normalizations(traced.graph)[1] == 2
    pictures = rng.normal(size=(2, 6, 6, 2)).astype("float32")
    np.testing.assert_allclose(constant_graph(work, [SPEC])(pictures), work(pictures), atol=1e-5)


def test_a_function_without_convolutions_stays_as_it_is():
    graph = constant_graph(lambda x: 2.0 * x, [tf.TensorSpec([None], tf.float32)])
    np.testing.assert_array_equal(graph(np.array([1.0, 2.0], "float32")), [2.0, 4.0])
