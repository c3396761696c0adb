"""Towers side by side: the features of each, from its own weights; saved, loaded, refused."""

import numpy as np
import pytest

from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.registry import image_tower
from tfclip.models.weights.image_weights import load_image_weights

BOTH = "small-convolutional+squeezenet"


def pictures(size=64):
    return np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")


def test_the_features_are_those_of_each_tower():
    joined = image_tower(BOTH).build(image_size=64)
    parts = []
    for name in BOTH.split("+"):
        alone = image_tower(name).build(image_size=64)
        alone.set_weights(joined.get_layer(name.replace("-", "_")).get_weights())
        parts.append(alone(pictures()).numpy())
    np.testing.assert_allclose(joined(pictures()), np.concatenate(parts, -1), atol=1e-6)
    assert not np.allclose(parts[0][:, :4], parts[1][:, :4])


def test_a_dual_encoder_with_both_is_saved_and_loaded(tmp_path):
    sizes = {"width": 8, "blocks": 1, "heads": 2}
    config = ModelConfig(
        BOTH,
        "small-transformer",
        image_size=64,
        embed_dim=8,
        vocabulary_size=20,
        text_options=sizes,
    )
    before, after = DualEncoder(config), DualEncoder(ModelConfig.from_dict(config.to_dict()))
    before.save_weights(tmp_path / "model.weights.h5")
    assert not np.allclose(before.encode_image(pictures()), after.encode_image(pictures()))
    after.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(before.encode_image(pictures()), after.encode_image(pictures()))


@pytest.mark.parametrize(
    "name, told",
    [
        ("squeezenet+squeezenet", "names a tower twice"),
        ("squeezenet+squeezenett", "unknown image tower 'squeezenett'"),
        ("squeezenet+", "unknown image tower ''"),
    ],
)
def test_wrong_names_are_refused(name, told):
    with pytest.raises(ValueError, match=told):
        image_tower(name)


def test_only_weights_that_each_has_are_loaded():
    joined = image_tower(BOTH).build(image_size=64)
    with pytest.raises(ValueError, match="must be none or imagenet. Received: squeezenet"):
        load_image_weights(joined, BOTH, "squeezenet")
    before = joined.get_weights()
    with pytest.raises(ValueError, match="Received tower: small-convolutional"):
        load_image_weights(joined, BOTH, "imagenet")
    for old, new in zip(before, joined.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match="need pooled features"):
        image_tower("squeezenet+resnet-18").build(image_size=64, pooling="none")
