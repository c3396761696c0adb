"""Loading image weights from files and keras_hub presets, and every way in which that fails."""

import json

import h5py
import keras
import keras_hub
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from tfclip.models import registry
from tfclip.models.weights.image_weights import load_image_weights

IMAGENET_MEAN, IMAGENET_DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def build(name, **options):
    return registry.image_tower(name).build(image_size=64, **options)


def save_as_keras_applications_did(model, path):
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def close(found, expected):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


MODULES = {
    "mobilenet-v3-small": ("MobileNetV3Small", keras.applications.mobilenet_v3),
    "mobilenet-v3-large": ("MobileNetV3Large", keras.applications.mobilenet_v3),
    "efficientnetv2-s": ("EfficientNetV2S", keras.applications.efficientnet_v2),
    "resnet-50": ("ResNet50", keras.applications.resnet),
    "convnext-tiny": ("ConvNeXtTiny", keras.applications.convnext),
}


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("mobilenet-v3-small", ".h5"),
        slow("mobilenet-v3-large", ".h5"),
        slow("efficientnetv2-s", ".h5"),
        slow("resnet-50", ".h5"),
        slow("resnet-50", ".weights.h5"),
        slow("convnext-tiny", ".h5"),
        slow("convnext-tiny", ".weights.h5"),
    ],
)
def test_a_file_of_keras_applications_sees_the_librarys_pixels(
    name, suffix, randomize, pictures, tmp_path
):
    builder, module = MODULES[name]
    original = getattr(keras.applications, builder)(
        include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg"
    )
    randomize(original)
    path = tmp_path / f"saved{suffix}"
    if suffix == ".h5":
        save_as_keras_applications_did(original, path)
    else:
        original.save_weights(path)
    tower = build(name)
    load_image_weights(tower, name, str(path))
    close(tower(pictures), original(module.preprocess_input(pictures.copy())))


@pytest.mark.slow
def test_an_official_efficientnet_file_sees_the_pixels_of_weights_imagenet(
    randomize, pictures, tmp_path
):
    # The official files hold deviations as variances; `weights="imagenet"` then adds a Rescaling
    # by 1 / sqrt(deviation), which a load by path leaves out.
    original = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg"
    )
    randomize(original)
    (layer,) = (part for part in original.layers if isinstance(part, keras.layers.Normalization))
    layer.set_weights([np.array(IMAGENET_MEAN), np.array(IMAGENET_DEVIATION), np.array(0)])
    save_as_keras_applications_did(original, tmp_path / "efficientnetb0_notop.h5")
    layer.set_weights([np.array(IMAGENET_MEAN), np.square(IMAGENET_DEVIATION), np.array(0)])
    layer.finalize_state()
    tower = build("efficientnet-b0")
    load_image_weights(tower, "efficientnet-b0", str(tmp_path / "efficientnetb0_notop.h5"))
    close(tower(pictures), original(pictures))
    # A checkpoint of the tower itself keeps it.
    tower.save_weights(tmp_path / "own.weights.h5")
    again = build("efficientnet-b0")
    load_image_weights(again, "efficientnet-b0", str(tmp_path / "own.weights.h5"))
    close(again(pictures), original(pictures))


OWN = {
    "squeezenet": {},
    "resnet-18": {"blocks": (1, 1, 1, 1)},
    "vit-b32": {"blocks": 1, "width": 32, "heads": 2},
    "clip-mixer-b32": {"blocks": 1, "width": 32},
    "teensy-mixer-4m": {"blocks": 1, "width": 32},
    "small-convolutional": {"widths": (8, 16)},
}


@pytest.mark.parametrize("name", OWN)
def test_a_towers_own_file_comes_back(name, randomize, pictures, tmp_path):
    tower = randomize(build(name, **OWN[name]))
    tower.save_weights(tmp_path / "own.weights.h5")
    again = build(name, **OWN[name])
    load_image_weights(again, name, str(tmp_path / "own.weights.h5"))
    np.testing.assert_array_equal(again(pictures), tower(pictures))


def tiny_resnet(block_type="basic_block"):
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block_type,
    )


def test_a_keras_hub_resnet_folder(randomize, pictures, tmp_path):
    backbone = randomize(tiny_resnet())
    backbone.save_to_preset(str(tmp_path / "preset"))
    tower = build("resnet-18", blocks=(1, 1, 1, 1))
    load_image_weights(tower, "resnet-18", str(tmp_path / "preset"))
    pixels = (pictures / 255 - IMAGENET_MEAN) / IMAGENET_DEVIATION
    close(tower(pictures), backbone(pixels).numpy().mean(axis=(1, 2)))


def tiny_transformer():
    return keras_hub.models.ViTBackbone(
        image_shape=(64, 64, 3),
        patch_size=32,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        mlp_dim=128,
    )


@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1 / 127.5, -1.0), (list(1 / 255 / np.array([0.2, 0.3, 0.4])), [-2.4, -1.5, -1.1])],
)
def test_a_keras_hub_transformer_folder_with_its_pixels(
    scale, offset, randomize, pictures, tmp_path
):
    backbone = randomize(tiny_transformer())
    backbone.save_to_preset(str(tmp_path / "preset"))
    converter = keras_hub.layers.ViTImageConverter(image_size=(64, 64), scale=scale, offset=offset)
    converter.save_to_preset(str(tmp_path / "preset"))
    tower = build("vit-b32", blocks=2, width=32, heads=2)
    load_image_weights(tower, "vit-b32", str(tmp_path / "preset"))
    close(tower(pictures), backbone(converter(pictures))[:, 0])


def test_a_keras_hub_clip_folder(randomize, pictures, tmp_path):
    vision = keras_hub.models.CLIPVisionEncoder(
        patch_size=32,
        hidden_dim=32,
        num_layers=2,
        num_heads=2,
        intermediate_dim=128,
        image_shape=(64, 64, 3),
        name="vision_encoder",
    )
    text = keras_hub.models.CLIPTextEncoder(
        vocabulary_size=9,
        embedding_dim=32,
        hidden_dim=32,
        num_layers=1,
        num_heads=2,
        intermediate_dim=64,
        name="text_encoder",
    )
    randomize(vision)
    vision.embedding.position_ids.assign(np.arange(5)[None])
    backbone = keras_hub.models.CLIPBackbone(vision, text, projection_dim=16)
    backbone.save_to_preset(str(tmp_path / "preset"))
    tower = build("clip-vit-b32", blocks=2, width=32, heads=2)
    load_image_weights(tower, "clip-vit-b32", str(tmp_path / "preset"))
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    close(tower(pictures), vision({"images": (pictures / 255 - mean) / deviation})[:, 0])


def refusal(tower, name, weights, error=ValueError):
    """The one line that is raised; the tower has to stay as it was."""
    before = tower.get_weights()
    with pytest.raises(error) as caught:
        load_image_weights(tower, name, str(weights))
    for value, old in zip(tower.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_files_of_another_architecture_are_refused(randomize, tmp_path):
    path = tmp_path / "other.weights.h5"
    tower = randomize(build("teensy-mixer-4m", blocks=1, width=32))
    # Keras itself loads the first block of two without a word.
    build("teensy-mixer-4m", blocks=2, width=32).save_weights(path)
    assert "it holds" in refusal(tower, "teensy-mixer-4m", path)
    build("small-convolutional").save_weights(path)
    assert "does not hold weights for teensy-mixer-4m" in refusal(tower, "teensy-mixer-4m", path)
    legacy = tmp_path / "other.h5"
    save_as_keras_applications_did(build("small-convolutional"), legacy)
    assert "does not hold weights for squeezenet" in refusal(
        build("squeezenet"), "squeezenet", legacy
    )
    # The first layers fit, a later one does not: all of them go back.
    longer = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(64, 3)])
    for width in [16] * 24:
        longer.add(keras.layers.Conv2D(width, 1))
    save_as_keras_applications_did(longer, legacy)
    assert "Shape mismatch" in refusal(build("squeezenet"), "squeezenet", legacy)


def test_what_is_no_weights_file_is_refused(tmp_path):
    tower = build("small-convolutional")
    path = tmp_path / "broken.h5"
    path.write_bytes(b"no weights")
    assert "is not an HDF5 file" in refusal(tower, "small-convolutional", path)
    for missing in (tmp_path / "absent.h5", "absent.weights.h5", "./absent"):
        assert "no such file or folder" in refusal(
            tower, "small-convolutional", missing, FileNotFoundError
        )


def test_folders_that_do_not_fit_are_refused(tmp_path):
    tower = build("resnet-18", blocks=(1, 1, 1, 1))
    assert "has no config.json" in refusal(tower, "resnet-18", tmp_path, FileNotFoundError)
    config = tmp_path / "config.json"
    config.write_text("{")
    assert "config.json is damaged" in refusal(tower, "resnet-18", tmp_path)
    config.write_text("[]")
    assert "config.json is damaged" in refusal(tower, "resnet-18", tmp_path)
    config.write_text("{}")
    assert "names no architecture" in refusal(tower, "resnet-18", tmp_path)
    config.write_text(json.dumps({"architecture": "resnet50"}))
    assert "it takes timm resnet18, Hugging Face resnet" in refusal(tower, "resnet-18", tmp_path)
    config.write_text(json.dumps({"architecture": "resnet18"}))
    told = refusal(tower, "resnet-18", tmp_path, FileNotFoundError)
    assert "has no weights: expected model.safetensors" in told
    (tmp_path / "model.safetensors").write_bytes(b"not that")
    assert "model.safetensors is damaged" in refusal(tower, "resnet-18", tmp_path)
    config.write_text(json.dumps({"class_name": "ResNetBackbone"}))
    assert "could not be read as a keras_hub preset" in refusal(tower, "resnet-18", tmp_path)
    small = build("squeezenet")
    assert "no folder, but .h5 files" in refusal(small, "squeezenet", tmp_path)


def test_presets_that_look_alike_are_refused(randomize, tmp_path):
    preset = tmp_path / "preset"
    tiny_resnet("bottleneck_block").save_to_preset(str(preset))
    tower = build("resnet-18", blocks=(1, 1, 1, 1))
    assert "one of them has no layer" in refusal(tower, "resnet-18", preset)
    wrong_heads = build("vit-b32", blocks=2, width=32, heads=4)
    tiny_transformer().save_to_preset(str(tmp_path / "vit"))
    assert "2 heads; the tower's 4" in refusal(wrong_heads, "vit-b32", tmp_path / "vit")
    wrong_size = registry.image_tower("vit-b32").build(image_size=96, blocks=2, width=32, heads=2)
    assert "--image-size" in refusal(wrong_size, "vit-b32", tmp_path / "vit")
    # A normalisation that padding has already fixed.
    tiny_resnet().save_to_preset(str(tmp_path / "resnet"))
    keras_hub.layers.ResNetImageConverter(scale=1 / 127.5, offset=-1.0).save_to_preset(
        str(tmp_path / "resnet")
    )
    assert "cannot be adapted" in refusal(tower, "resnet-18", tmp_path / "resnet")


@pytest.mark.slow
def test_resnet_50_names_the_tower_for_the_other_strides(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet50"}))
    message = refusal(build("resnet-50"), "resnet-50", tmp_path)
    assert "--image-tower resnet-50-v1.5" in message


def test_names_that_nothing_has_are_refused():
    tower = build("mixer-b32", blocks=1, width=32)
    assert "imagenet exists for efficientnet-lite0" in refusal(tower, "mixer-b32", "imagenet")
    assert "has no keras_hub presets" in refusal(tower, "mixer-b32", "resnet_18_imagenet")
    tower = build("resnet-18", blocks=(1, 1, 1, 1))
    assert "resnet_18_imagenet" in refusal(tower, "resnet-18", "resnet18_imagenet")
    before = tower.get_weights()
    load_image_weights(tower, "resnet-18", "none")
    for value, old in zip(tower.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("squeezenet", {}, "(3 MB) are not on this machine; run: python -m tfclip.weights fetch"),
        ("mobilenet-v3-small", {}, "_224_1.0_float_no_top_v2.h5 and put it into ~/.keras/models/"),
        ("resnet-18", {"blocks": (1, 1, 1, 1)}, "from_preset('resnet_18_imagenet').save_to_preset"),
    ],
)
def test_without_a_network_the_error_says_what_to_fetch(
    name, options, told, monkeypatch, tmp_path, no_network
):
    for variable in ("KERAS_HOME", "KAGGLEHUB_CACHE", "TFCLIP_WEIGHTS"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert told in refusal(build(name, **options), name, "imagenet", FileNotFoundError)
