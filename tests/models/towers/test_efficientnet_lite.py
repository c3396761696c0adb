"""EfficientNet-Lite: sizes, every layer against NumPy, PyTorch's own outputs, statistics."""

import json
import math

import keras
import numpy as np
import pytest

from tfclip.models import registry
from tfclip.models.layers.normalization import BatchNormalization
from tfclip.models.towers.efficientnet_lite import STAGES, _scaled
from tfclip.models.weights.image_folders import read_packaged
from tfclip.models.weights.image_weights import load_image_weights
from tfclip.models.weights.pretrained.catalogue import PRETRAINED
from tfclip.models.weights.pretrained.download import fetch


@pytest.mark.parametrize(
    ("name", "published", "moving", "width"),
    [
        # timm lists these parameters with a classifier of 1,281,000; moving statistics come on top.
        ("efficientnet-lite0", 4_652_008, 42_016, 4048),
        pytest.param("efficientnet-lite1", 5_416_680, 53_664, 4048, marks=pytest.mark.slow),
        ("efficientnet-lite2", 6_092_072, 58_096, 4192),
    ],
)
def test_towers_have_the_published_size(name, published, moving, width):
    tower = registry.image_tower(name).build(image_size=64, pooling="statistics")
    assert tower.count_params() == published - 1_281_000 + moving
    assert tower.output_shape == (None, width)
    norms = [x for x in tower.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert all(type(x) is BatchNormalization for x in norms)


def same_padding(x, kernel, stride):
    """TensorFlow's: as much as needed, the odd pixel after."""
    pads = [(0, 0)]
    for side in x.shape[1:3]:
        total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, [*pads, (0, 0)])


def convolve(x, kernel, stride=1, depthwise=False):
    """A kernel as PyTorch stores it: (out, in, h, w), or (C, 1, h, w) depthwise."""
    side = kernel.shape[-1]
    x = same_padding(x, side, stride)
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    if depthwise:
        return np.einsum("bhwcij,cij->bhwc", windows, kernel[:, 0])
    return np.einsum("bhwcij,ocij->bhwo", windows, kernel, optimize=True)


class Packaged:
    """Random tensors by the names of the package, and the network over them in NumPy."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.state, self.inner = {}, []

    def conv(self, x, name, out, kernel=1, stride=1, depthwise=False):
        shape = (out, 1 if depthwise else x.shape[-1], kernel, kernel)
        scale = 1.5 / np.sqrt(np.prod(shape[1:]))
        weight = self.rng.normal(size=shape).astype("f4") * np.float32(scale)
        self.state[f"{name}.weight"] = weight
        return convolve(x, weight.astype("f8"), stride, depthwise)

    def norm(self, x, name, relu=True):
        gamma, beta, mean = (self.rng.uniform(-0.3, 1.3, x.shape[-1]) for _ in range(3))
        variance = self.rng.uniform(0.5, 2, x.shape[-1])
        parts = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
        self.state |= {f"{name}.{key}": value.astype("f4") for key, value in parts.items()}
        self.state[f"{name}.num_batches_tracked"] = np.int64(7)
        x = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
        return np.clip(x, 0, 6) if relu else x

    def run(self, pictures):
        x = pictures.astype("f8") / 127.5 - 1
        x = self.norm(self.conv(x, "_conv_stem", 32, 3, 2), "_bn0")
        at = 0
        for stage, (blocks, kernel, stride, expansion, channels) in enumerate(STAGES):
            for block in range(blocks):
                name, start, step = f"_blocks.{at}.", x, stride if block == 0 else 1
                if expansion > 1:
                    wide = expansion * x.shape[-1]
                    x = self.norm(self.conv(x, f"{name}_expand_conv", wide), f"{name}_bn0")
                wide = x.shape[-1]
                x = self.conv(x, f"{name}_depthwise_conv", wide, kernel, step, depthwise=True)
                x = self.norm(x, f"{name}_bn1")
                x = self.norm(
                    self.conv(x, f"{name}_project_conv", channels), f"{name}_bn2", relu=False
                )
                if step == 1 and start.shape[-1] == channels:
                    x = x + start
                at += 1
            if stage >= 2:
                self.inner.append(x)
        self.state |= {"_fc.weight": np.zeros((9, 1280)), "_fc.bias": np.zeros(9)}
        return self.norm(self.conv(x, "_conv_head", 1280), "_bn1")


def test_tower_and_packaged_weights_equal_numpy():
    # 44 pixels: sides of 22, 11, 6, 3, 2, so that padding is uneven once on each kind of side.
    pictures = np.random.default_rng(1).integers(0, 256, (2, 44, 44, 3)).astype("f4")
    packaged = Packaged()
    expected = packaged.run(pictures)
    build = registry.image_tower("efficientnet-lite0").build
    tower = build(image_size=44, pooling="none")
    read_packaged(tower, "efficientnet-lite0", packaged.state, "numbers")
    found = tower(pictures).numpy().reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert expected.std() > 0.1
    statistics = build(image_size=44, pooling="statistics")
    statistics.set_weights(tower.get_weights())
    maps = [expected, *packaged.inner]
    told = np.concatenate([f(x, axis=(1, 2)) for x in maps for f in (np.mean, np.max)], axis=1)
    np.testing.assert_allclose(statistics(pictures), told, atol=2e-4)


def test_lite2_rounds_channels_as_published():
    # 1.1 times 16, 24, 40, 80, 112, 192, 320, to multiples of 8 that lose less than a tenth.
    assert [_scaled(c, 1.1) for *_, c in STAGES] == [16, 24, 48, 88, 120, 208, 352]
    assert _scaled(12, 1.0) == 16


def test_weights_of_another_network_are_refused(tmp_path):
    tower = registry.image_tower("efficientnet-lite0").build(image_size=32)
    before = tower.get_weights()
    packaged = Packaged()
    packaged.run(np.zeros((1, 32, 32, 3)))
    packaged.state["_blocks.16._depthwise_conv.weight"] = np.zeros((2, 1, 3, 3), "f4")
    with pytest.raises(ValueError, match="_blocks.16._depthwise_conv.weight"):
        read_packaged(tower, "efficientnet-lite0", packaged.state, "numbers")
    del packaged.state["_conv_stem.weight"]
    with pytest.raises(ValueError, match="does not fit efficientnet-lite0.*_conv_stem.weight"):
        read_packaged(tower, "efficientnet-lite0", packaged.state, "numbers")
    # keras_hub's network of this name pads otherwise.
    (tmp_path / "config.json").write_text(json.dumps({"class_name": "EfficientNetBackbone"}))
    with pytest.raises(ValueError, match="it takes timm tf_efficientnet_lite0"):
        load_image_weights(tower, "efficientnet-lite0", str(tmp_path))
    for now, then in zip(tower.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    with pytest.raises(ValueError, match="32 pixels or more. Received: 31"):
        registry.image_tower("efficientnet-lite0").build(image_size=31)
    with pytest.raises(ValueError, match="pooling 'class'; known"):
        registry.image_tower("efficientnet-lite0").build(image_size=32, pooling="class")


# Means of the last map by channel, and the sum of all, for the first of the pictures
# `default_rng(0).integers(0, 256, (2, S, S, 3))`: PyTorch 2.14 and timm 1.0.31's
# tf_efficientnet_lite0, -1, -2 with the weights of the packages, pixels x / 127.5 - 1.
BY_PYTORCH = {
    "efficientnet-lite0": (224, 165.7861, {455: 5.08762, 113: 4.89669, 413: 4.40004, 434: 3.89798}),
    "efficientnet-lite1": (240, 175.0667, {918: 4.82659, 667: 4.36094, 269: 4.21762, 388: 3.34512}),
    "efficientnet-lite2": (260, 211.0985, {955: 4.51079, 123: 3.80669, 432: 3.29133, 66: 2.8256}),
}


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet-lite0",
        pytest.param("efficientnet-lite1", marks=pytest.mark.slow),
        pytest.param("efficientnet-lite2", marks=pytest.mark.slow),
    ],
)
def test_pretrained_towers_equal_pytorch(name, monkeypatch, tmp_path):
    module = PRETRAINED[name].package.folder.split("/")[0]
    pytest.importorskip(module, reason="the package of the weights is not installed")
    monkeypatch.setenv("TFCLIP_WEIGHTS", str(tmp_path))
    size, total, channels = BY_PYTORCH[name]
    picture = np.random.default_rng(0).integers(0, 256, (2, size, size, 3))[:1].astype("f4")
    path = fetch(PRETRAINED[name])
    tower = registry.image_tower(name).build(image_size=size)
    load_image_weights(tower, name, "imagenet")
    features = tower(picture).numpy()[0]
    assert abs(features.sum() - total) < 1e-2
    for channel, value in channels.items():
        assert abs(features[channel] - value) < 1e-4
    # By its name, its file and its folder the same weights are read.
    loaded = tower.get_weights()
    for source in (name, path, path.parent):
        tower.set_weights([np.zeros_like(weight) for weight in loaded])
        load_image_weights(tower, name, str(source))
        for ours, theirs in zip(tower.get_weights(), loaded, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match=f"of the tower {name}. Received tower: squeezenet"):
        load_image_weights(tower, "squeezenet", name)
