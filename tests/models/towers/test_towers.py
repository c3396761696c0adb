"""Towers: parameter counts, pooled widths, blocks against plain NumPy, masks, normalisation."""

import keras
import numpy as np
import pytest
from scipy.special import erf

from tfclip.models import registry
from tfclip.models.layers.normalization import BatchNormalization
from tfclip.models.towers.mixer import MixerBlock
from tfclip.models.towers.text_transformer import MaskedMean, TokenAndPosition


def test_efficientnet_has_the_published_size():
    tower = registry.image_tower("efficientnet-b0").build(image_size=224)
    assert tower.count_params() == 4_049_571
    assert tower.output_shape == (None, 1280)


@pytest.mark.slow
def test_efficientnet_b5_has_the_published_size():
    tower = registry.image_tower("efficientnet-b5").build(image_size=224)
    assert tower.count_params() == 28_513_527
    assert tower.output_shape == (None, 2048)


def test_mixer_s32_has_the_parameters_of_the_formula():
    # Tolstikhin et al. 2021, table 1: S/32 has 8 blocks, C 512, P 32, S 49, D_S 256, D_C 2048.
    tower = registry.image_tower("mixer-s32").build(image_size=224)
    tokens, c, ds, dc = 49, 512, 256, 2048
    patches = 32 * 32 * 3 * c + c
    token = tokens * ds + ds + ds * tokens + tokens
    channel = c * dc + dc + dc * c + c
    assert tower.count_params() == patches + 8 * (token + channel + 4 * c) + 2 * c


def test_bert_small_has_the_parameters_of_its_preset():
    tower = registry.text_tower("bert-small").build(vocabulary_size=30_522, context_length=16)
    assert tower.count_params() == 28_763_648
    assert tower.output_shape == (None, 512)


def test_mixer_block_equals_the_equations_in_numpy():
    rng = np.random.default_rng(0)
    block = MixerBlock(token_width=5, channel_width=7)
    x = rng.normal(size=(2, 4, 6)).astype("float32")
    block(x)
    block.set_weights([rng.normal(size=w.shape).astype("float32") for w in block.get_weights()])
    named = {w.path.split("/", 1)[1]: np.asarray(w.value, "float64") for w in block.weights}
    layers = [layer.name for layer in block._layers]
    token_norm, token_in, token_out, channel_norm, channel_in, channel_out = layers

    def norm(name, x):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-6) * named[f"{name}/gamma"] + named[
            f"{name}/beta"
        ]

    def dense(name, x):
        return x @ named[f"{name}/kernel"] + named[f"{name}/bias"]

    def gelu(x):
        return 0.5 * x * (1 + erf(x / np.sqrt(2)))

    u = norm(token_norm, x.astype("float64")).transpose(0, 2, 1)
    u = x + dense(token_out, gelu(dense(token_in, u))).transpose(0, 2, 1)
    y = u + dense(channel_out, gelu(dense(channel_in, norm(channel_norm, u))))
    np.testing.assert_allclose(block(x), y, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["small-transformer", "bert-tiny"])
def test_padding_does_not_change_a_text(name):
    tower = registry.text_tower(name).build(vocabulary_size=50, context_length=12)
    ids = np.array([[2, 7, 9, 3]], "int32")
    longer = np.pad(ids, ((0, 0), (0, 8)))
    short = tower({"token_ids": ids, "text_mask": np.ones_like(ids, bool)})
    padded = tower({"token_ids": longer, "text_mask": longer > 0})
    np.testing.assert_allclose(short, padded, atol=1e-5)


def test_efficientnet_normalises_by_imagenet_statistics_whatever_was_loaded():
    tower = registry.image_tower("efficientnet-b0").build(image_size=32)
    (layer,) = (part for part in tower.layers if isinstance(part, keras.layers.Normalization))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected = (pixels / 255 - mean) / std
    np.testing.assert_allclose(layer(pixels / 255), expected, rtol=1e-4, atol=1e-5)
    assert sum(isinstance(part, keras.layers.Rescaling) for part in tower.layers) == 1


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_fused_normalisation_equals_keras(dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, (8, 5, 5, 4)).astype("float32")
    ours = BatchNormalization(momentum=0.9, dtype=dtype)
    theirs = keras.layers.BatchNormalization(momentum=0.9, dtype=dtype)
    tolerance = 1e-5 if dtype == "float32" else 0.05
    for training in (True, True, False):
        found, expected = ours(x, training=training), theirs(x, training=training)
        np.testing.assert_allclose(
            np.asarray(found, "float32"), np.asarray(expected, "float32"), atol=tolerance
        )
    for found, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_masked_mean_leaves_padding_out():
    tokens = np.array([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]], "float32")
    found = MaskedMean()(tokens, np.array([[True, True, False]]))
    np.testing.assert_allclose(found, [[2.0, 3.0]])


@pytest.mark.parametrize(
    "layer",
    [MixerBlock(3, 5), TokenAndPosition(9, 4, 6), MaskedMean(), BatchNormalization(momentum=0.7)],
)
def test_layers_round_trip_through_their_config(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()


def test_unknown_towers_name_the_known():
    with pytest.raises(ValueError, match="efficientnet-b0.*efficientnet-b7"):
        registry.image_tower("efficientnet-b8")
    with pytest.raises(ValueError, match="bert-small"):
        registry.text_tower("small-bert")


@pytest.mark.parametrize(("name", "size"), [("mixer-s32", 100), ("small-convolutional", 50)])
def test_sizes_that_do_not_fit_are_refused(name, size):
    with pytest.raises(ValueError, match="multiple"):
        registry.image_tower(name).build(image_size=size)
