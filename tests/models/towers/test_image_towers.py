"""Image towers: exact sizes, poolings, round trips, and outputs against NumPy and keras_hub."""

import os
from pathlib import Path

import h5py
import keras
import keras_hub
import numpy as np
import pytest
from PIL import Image
from scipy.special import erf

from tfclip.models import registry
from tfclip.models.layers.normalization import BatchNormalization
from tfclip.models.layers.pixel_normalization import CAFFE, HALF, IMAGENET, PixelNormalization
from tfclip.models.towers.applications import BUILDERS, application, from_official, official
from tfclip.models.towers.mixer import MixerBlock
from tfclip.models.towers.vision_transformer import ClassAndPosition, EncoderBlock
from tfclip.models.weights.image_weights import load_image_weights

DATA = Path(os.environ.get("TFCLIP_DATA", "missing"))
SQUEEZENET = DATA / "weights" / "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
HEAD_512, HEAD_384 = 768 * 512, 512 * 384 + 384


@pytest.mark.parametrize(
    ("name", "parameters", "width"),
    [
        # Iandola et al. 2016 with fire modules of version 1.1: the file's 722,496.
        ("squeezenet", 722_496, 512),
        # Torch's 11,689,512 less a classifier of 513,000, and 9,600 moving statistics.
        ("resnet-18", 11_689_512 - 513_000 + 9_600, 512),
        ("mobilenet-v3-small", 939_120, 576),
        ("teensy-mixer-4m", 4_031_352 - HEAD_384, 512),
        pytest.param("teensy-mixer-5m", 5_177_888 - HEAD_384, 512, marks=pytest.mark.slow),
        ("clip-mixer-b32", 59_705_400 - HEAD_512, 768),
        # CLIP's 151,277,313 less both projections, the scale and the text transformer.
        ("clip-vit-b32", 151_277_313 - HEAD_512 - 512 * 512 - 1 - 63_165_952, 768),
        # Dosovitskiy et al. 2020, table 1: 86 M; keras_hub lists its preset with this number.
        pytest.param("vit-b16", 85_798_656, 768, marks=pytest.mark.slow),
    ],
)
def test_towers_have_the_published_size(name, parameters, width):
    tower = registry.image_tower(name).build(image_size=224)
    assert tower.count_params() == parameters
    assert tower.output_shape == (None, width)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters", "width"),
    [
        ("resnet-50", 23_587_712, 2048),
        # Torch's 25,557,032 less a classifier of 2,049,000, and 53,120 moving statistics.
        ("resnet-50-v1.5", 25_557_032 - 2_049_000 + 53_120, 2048),
        ("convnext-tiny", 27_820_128, 768),
        ("efficientnetv2-s", 20_331_360, 1280),
        ("mobilenet-v3-large", 2_996_352, 960),
        ("vit-b32", 87_455_232, 768),
    ],
)
def test_large_towers_have_the_published_size(name, parameters, width):
    tower = registry.image_tower(name).build(image_size=224)
    assert tower.count_params() == parameters
    assert tower.output_shape == (None, width)


SMALL = {
    "squeezenet": {},
    "resnet-18": {"blocks": (1, 1, 1, 1)},
    "resnet-50-v1.5": {"blocks": (1, 1, 1, 1)},
    "mobilenet-v3-small": {},
    "efficientnet-lite0": {"width": 0.25, "depth": 0.3},
    "vit-b32": {"blocks": 1, "width": 32, "heads": 2},
    "clip-vit-b32": {"blocks": 1, "width": 32, "heads": 2},
    "mixer-b32": {"blocks": 1, "width": 32},
    "clip-mixer-b32": {"blocks": 1, "width": 32},
    "teensy-mixer-4m": {"blocks": 1, "width": 32},
    "small-convolutional": {"widths": (8, 16)},
}
SLOW = "mobilenet", "efficientnet"
ALL_SMALL = [
    pytest.param(name, marks=pytest.mark.slow if name.startswith(SLOW) else ()) for name in SMALL
]
CLASS_TOKEN = ("vit-b32", "clip-vit-b32", "clip-mixer-b32")


@pytest.mark.parametrize("name", ALL_SMALL)
def test_pooling_ends_the_same_sequence(name, randomize, pictures):
    build = registry.image_tower(name).build
    sequence = randomize(build(image_size=64, pooling="none", **SMALL[name]))(pictures).numpy()
    pooled = randomize(build(image_size=64, **SMALL[name]))(pictures).numpy()
    if name in CLASS_TOKEN:
        expected = sequence[:, 0]
    elif name == "small-convolutional":
        expected = np.concatenate([sequence.mean(1), sequence.max(1)], axis=1)
    else:
        expected = sequence.mean(axis=1)
    np.testing.assert_allclose(pooled, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL_SMALL)
def test_towers_round_trip_through_their_config(name, randomize, pictures):
    tower = randomize(registry.image_tower(name).build(image_size=64, **SMALL[name]))
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(tower))
    copy.set_weights(tower.get_weights())
    np.testing.assert_allclose(copy(pictures), tower(pictures), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        EncoderBlock(2, 8, "quick_gelu", 1e-5, 0.1),
        ClassAndPosition(positions=False),
        MixerBlock(3, 5, "quick_gelu", 1e-5),
        PixelNormalization(*CAFFE, blue_first=True),
    ],
)
def test_layers_round_trip_through_their_config(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()


def test_unknown_pooling_names_the_known():
    with pytest.raises(ValueError, match="pooling 'class'; known.*mean"):
        registry.image_tower("squeezenet").build(image_size=64, pooling="class")
    with pytest.raises(ValueError, match="pooling 'max'; known.*mean-max"):
        registry.image_tower("small-convolutional").build(image_size=64, pooling="max")


@pytest.mark.parametrize(
    ("name", "size"), [("squeezenet", 30), ("mobilenet-v3-small", 31), ("vit-b32", 100)]
)
def test_sizes_that_do_not_fit_are_refused(name, size):
    with pytest.raises(ValueError, match=f"Received: {size}"):
        registry.image_tower(name).build(image_size=size)


@pytest.mark.parametrize(
    ("constants", "blue_first"),
    [(IMAGENET, False), (CAFFE, True), (HALF, False)],
)
def test_pixels_are_normalised_as_keras_applications_does(constants, blue_first, pictures):
    mode = {IMAGENET: "torch", CAFFE: "caffe", HALF: "tf"}[constants]
    # The library works in place.
    from_library = keras.applications.imagenet_utils.preprocess_input(pictures.copy(), mode=mode)
    layer = PixelNormalization(*constants, blue_first=blue_first)
    np.testing.assert_allclose(layer(pictures), from_library, rtol=1e-4, atol=1e-4)


def test_half_precision_keeps_the_mean_colour(pictures):
    layer = PixelNormalization(*IMAGENET, dtype="mixed_bfloat16")
    expected = (pictures - IMAGENET[0]) / IMAGENET[1]
    found = np.asarray(layer(pictures), "float32")
    np.testing.assert_allclose(found, expected, rtol=2**-8, atol=1e-6)


# The library's own preprocessing, as its documentation names it for each network.
PREPROCESSING = {
    "EfficientNetB0": keras.applications.efficientnet.preprocess_input,
    "EfficientNetV2S": keras.applications.efficientnet_v2.preprocess_input,
    "MobileNetV3Small": keras.applications.mobilenet_v3.preprocess_input,
    "MobileNetV3Large": keras.applications.mobilenet_v3.preprocess_input,
    "ResNet50": keras.applications.resnet.preprocess_input,
    "ConvNeXtTiny": keras.applications.convnext.preprocess_input,
}


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(name, marks=[] if name == "MobileNetV3Small" else pytest.mark.slow)
        for name in PREPROCESSING
    ],
)
def test_applications_equal_the_library_with_its_own_preprocessing(network, randomize, pictures):
    build = getattr(keras.applications, network)
    original = build(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg")
    randomize(original)
    inputs = PREPROCESSING[network](pictures.copy())
    tower = application(64, network)
    tower.set_weights(from_official(original.get_weights(), tower))
    for model in (original, tower):
        for layer in model.layers:
            if network == "EfficientNetB0" and isinstance(layer, keras.layers.Normalization):
                mean, deviation = (np.array(values) / 255 for values in IMAGENET)
                layer.set_weights([mean, deviation**2, np.array(0)])
                layer.finalize_state()
    expected = original(inputs).numpy()
    np.testing.assert_allclose(tower(pictures), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_applications_train_with_the_fused_kernel_only():
    for network in set(BUILDERS.values()) - {f"EfficientNetB{n}" for n in range(1, 8)}:
        norms = [
            layer
            for layer in application(32, network).layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        assert all(type(layer) is BatchNormalization for layer in norms), network
        assert bool(norms) == (network != "ConvNeXtTiny")


@pytest.mark.slow
@pytest.mark.parametrize("network", ["MobileNetV3Small", "ResNet50"])
def test_fused_normalisation_trains_as_the_library(network, randomize, pictures):
    original = randomize(official(network, 64))
    tower = application(64, network, pooling="none")
    tower.set_weights(original.get_weights())
    expected = original(pictures, training=True).numpy()
    found = tower(pictures, training=True).numpy().reshape(expected.shape)
    # Two pictures leave two values per channel in the last stage: a wide tolerance.
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    for ours, theirs in zip(tower.get_weights(), original.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())


@pytest.mark.slow
def test_convnext_has_depthwise_layers_and_equal_outputs(randomize, pictures):
    original = randomize(official("ConvNeXtTiny", 64))
    tower = application(64, "ConvNeXtTiny", pooling="none")
    tower.set_weights(from_official(original.get_weights(), tower))
    depthwise = [part for part in tower.layers if isinstance(part, keras.layers.DepthwiseConv2D)]
    assert len(depthwise) == 18
    assert not any(getattr(layer, "groups", 1) > 1 for layer in tower.layers)
    expected = original(pictures).numpy().reshape(2, 4, 768)
    np.testing.assert_allclose(tower(pictures), expected, atol=1e-5)


def test_resnet_equals_keras_hub(randomize, pictures):
    backbone = randomize(
        keras_hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[7],
            stackwise_num_filters=[64, 128, 256, 512],
            stackwise_num_blocks=[1, 2, 1, 1],
            stackwise_num_strides=[1, 2, 2, 2],
            block_type="bottleneck_block",
        )
    )
    tower = registry.image_tower("resnet-50-v1.5").build(
        image_size=64, blocks=(1, 2, 1, 1), pooling="none"
    )
    for layer in backbone.layers:
        if layer.weights:
            tower.get_layer(layer.name).set_weights(layer.get_weights())
    normalised = keras.applications.imagenet_utils.preprocess_input(pictures.copy(), mode="torch")
    expected = backbone(normalised).numpy().reshape(2, 4, 2048)
    np.testing.assert_allclose(tower(pictures), expected, atol=1e-4 * np.abs(expected).max())


def norm(x, gamma, beta, epsilon):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def quick_gelu(x):
    return x / (1 + np.exp(-1.702 * x))


def gelu(x):
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def test_quick_gelu_mixer_block_equals_the_equations_in_numpy(randomize):
    block = MixerBlock(5, 7, "quick_gelu", 1e-5)
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32")
    block(x)
    randomize(block)
    g1, b1, t1, u1, t2, u2, g2, b2, c1, v1, c2, v2 = (w.astype("f8") for w in block.get_weights())
    y = norm(x.astype("f8"), g1, b1, 1e-5).transpose(0, 2, 1)
    u = x + (quick_gelu(y @ t1 + u1) @ t2 + u2).transpose(0, 2, 1)
    expected = u + quick_gelu(norm(u, g2, b2, 1e-5) @ c1 + v1) @ c2 + v2
    np.testing.assert_allclose(block(x), expected, atol=1e-5)


@pytest.mark.parametrize(("hidden", "function"), [("gelu", gelu), ("quick_gelu", quick_gelu)])
def test_encoder_block_equals_the_equations_in_numpy(hidden, function, randomize):
    block = EncoderBlock(heads=2, mlp_width=10, hidden_activation=hidden)
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    block(x)
    randomize(block)
    g1, b1, *attention, g2, b2, w1, c1, w2, c2 = (w.astype("f8") for w in block.get_weights())
    q, k, v = (
        np.einsum("btc,chd->bhtd", norm(x.astype("f8"), g1, b1, 1e-6), kernel) + bias[:, None]
        for kernel, bias in zip(attention[0:6:2], attention[1:6:2], strict=True)
    )
    scores = np.exp(np.einsum("bhtd,bhsd->bhts", q, k) / np.sqrt(3))
    mixed = np.einsum("bhts,bhsd->bhtd", scores / scores.sum(-1, keepdims=True), v)
    u = x + np.einsum("bhtd,hdc->btc", mixed, attention[6]) + attention[7]
    expected = u + function(norm(u, g2, b2, 1e-6) @ w1 + c1) @ w2 + c2
    np.testing.assert_allclose(block(x), expected, atol=1e-5)


def clip_constants(pictures):
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return (pictures / 255 - mean) / deviation


def test_clip_mixer_equals_its_layers_in_numpy(randomize, pictures):
    tower = registry.image_tower("clip-mixer-b32").build(image_size=64, blocks=2, width=16)
    randomize(tower)
    kernel = np.asarray(tower.get_layer("patches").kernel, "f8")
    patches = clip_constants(pictures).reshape(2, 2, 32, 2, 32, 3).transpose(0, 1, 3, 2, 4, 5)
    x = np.einsum("bnmhwc,hwcf->bnmf", patches, kernel).reshape(2, 4, 16)
    token = np.broadcast_to(tower.get_layer("tokens").get_weights()[0], (2, 1, 16))
    x = np.concatenate([token, x], axis=1)
    x = norm(x, *tower.get_layer("pre_norm").get_weights(), 1e-5)
    for index in range(2):
        assert tower.get_layer(f"block_{index}").token_width == 20
        x = tower.get_layer(f"block_{index}")(x.astype("float32")).numpy()
    expected = norm(x, *tower.get_layer("norm").get_weights(), 1e-5)[:, 0]
    np.testing.assert_allclose(tower(pictures), expected, rtol=1e-4, atol=1e-4)


def test_clip_transformer_equals_keras_hub(randomize, pictures):
    encoder = keras_hub.models.CLIPVisionEncoder(
        patch_size=16,
        hidden_dim=64,
        num_layers=3,
        num_heads=4,
        intermediate_dim=256,
        image_shape=(64, 64, 3),
    )
    embedding = encoder.embedding
    ids = np.arange(17)[None]
    randomize(encoder)
    embedding.position_ids.assign(ids)
    tower = registry.image_tower("clip-vit-b16").build(
        image_size=64, blocks=3, width=64, heads=4, pooling="none"
    )
    given = [
        np.asarray(embedding.patch_embedding.kernel),
        np.asarray(embedding.class_embedding),
        np.asarray(embedding.position_embedding.embeddings),
        *encoder.pre_layer_norm.get_weights(),
        *(array for block in encoder.encoder_layers for array in block.get_weights()),
        *encoder.layer_norm.get_weights(),
    ]
    tower.set_weights(given)
    expected = encoder({"images": clip_constants(pictures)})
    np.testing.assert_allclose(tower(pictures), expected, atol=1e-4)


def convolve(x, kernel, bias, stride=1):
    side = kernel.shape[0]
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    return np.maximum(np.einsum("bhwcij,ijco->bhwo", windows, kernel, optimize=True) + bias, 0)


def max_pool(x):
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    return windows[:, ::2, ::2].max(axis=(-1, -2))


def squeezenet_in_numpy(rgb, file):
    def layer(x, name, stride=1):
        group = file[name]
        arrays = {}
        group.visititems(lambda path, item: arrays.update({path.split("/")[-1]: item}))
        return convolve(x, arrays["kernel:0"][()], arrays["bias:0"][()], stride)

    x = rgb[..., ::-1].astype("float64") - [103.939, 116.779, 123.68]
    x = max_pool(layer(x, "conv1", stride=2))
    for fire in range(2, 10):
        x = layer(x, f"fire{fire}/squeeze1x1")
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        one, three = layer(x, f"fire{fire}/expand1x1"), layer(padded, f"fire{fire}/expand3x3")
        x = np.concatenate([one, three], axis=-1)
        if fire in (3, 5):
            x = max_pool(x)
    return x


@pytest.mark.skipif(not SQUEEZENET.is_file(), reason="TFCLIP_DATA holds no weights/")
def test_squeezenet_equals_numpy_on_a_photograph():
    photograph = sorted((DATA / "flickr8k" / "Flicker8k_Dataset").glob("*.jpg"))[0]
    rgb = np.asarray(Image.open(photograph).convert("RGB"))[None]
    tower = registry.image_tower("squeezenet").build(image_size=224, pooling="none")
    load_image_weights(tower, "squeezenet", str(SQUEEZENET))
    with h5py.File(SQUEEZENET) as file:
        expected = squeezenet_in_numpy(rgb, file).reshape(1, 169, 512)
    np.testing.assert_allclose(tower(rgb.astype("float32")), expected, atol=1e-4 * expected.max())
    # Trained features are sparse and differ from place to place; random ones would not be both.
    assert 0.5 < (expected == 0).mean() < 0.99
