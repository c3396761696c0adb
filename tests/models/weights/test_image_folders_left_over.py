"""Folders of larger or other networks are refused, not cut to what fits."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tfclip.models.towers.vision_transformer import vision_transformer
from tfclip.models.weights.image_folders import load_folder
from tfclip.models.weights.image_weights import load_image_weights

CLIP = Path(__file__).parent / "clips" / "hugging_face_quick_gelu"
MEAN, DEVIATION = ([255 * v for v in values] for values in ((0.4, 0.45, 0.5), (0.25, 0.3, 0.2)))


def _tower(blocks):
    return vision_transformer(
        32,
        patch_size=8,
        blocks=blocks,
        width=32,
        heads=2,
        mlp_width=96,
        clip=True,
        mean=MEAN,
        deviation=DEVIATION,
    )


def test_a_whole_clip_gives_its_tower_and_says_what_is_left(capsys):
    tower = _tower(2)
    load_folder(tower, "clip-vit-b32", CLIP)
    assert "the image head is random" in capsys.readouterr().err
    expected = np.load(CLIP / "expected.npz")
    features = tower.predict(expected["pictures"].astype("float32"), verbose=0)
    from tfclip.models.weights.safetensors_files import SafetensorsFile

    projection = SafetensorsFile(CLIP / "model.safetensors")["visual_projection.weight"]
    embedded = features @ projection.T
    embedded /= np.linalg.norm(embedded, axis=1, keepdims=True)
    np.testing.assert_allclose(embedded, expected["image"], atol=2e-6)


def test_more_blocks_than_the_tower_has_are_refused():
    tower = _tower(1)
    before = tower.get_weights()
    with pytest.raises(ValueError, match=r"16 of its tensors are not\s+part"):
        load_folder(tower, "clip-vit-b32", CLIP)
    for old, new in zip(before, tower.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_fewer_blocks_are_refused():
    with pytest.raises(ValueError, match=r"layers\.2"):
        load_folder(_tower(3), "clip-vit-b32", CLIP)


@pytest.mark.parametrize(
    ("key", "value"),
    [("act_layer", "relu"), ("output_stride", 8), ("init_values", 1e-5), ("qk_norm", True)],
)
def test_timms_arguments_that_change_the_function_are_refused(tmp_path, key, value):
    config = {"architecture": "vit_base_patch16_224", "model_args": {key: value}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=key):
        load_folder(_tower(2), "vit-b16", tmp_path)


def test_another_epsilon_is_refused(tmp_path):
    folder = tmp_path / "clip"
    shutil.copytree(CLIP, folder)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["layer_norm_eps"] = 1e-3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"layer_norm_eps 0\.001"):
        load_folder(_tower(2), "clip-vit-b32", folder)


def test_a_file_of_pytorch_says_convert(tmp_path):
    path = tmp_path / "ViT-B-32.pt"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=r"tfclip\.convert"):
        load_image_weights(_tower(2), "clip-vit-b32", str(path))


def test_a_folder_of_open_clip_says_convert():
    with pytest.raises(FileNotFoundError, match=r"tfclip\.convert .*open_clip_gelu --run"):
        load_folder(_tower(2), "clip-vit-b32", CLIP.with_name("open_clip_gelu"))


def test_the_processor_config_of_transformers_5_is_obeyed():
    """CLIP's first convolution has no bias, so that other pixels than the folder's cannot fit."""
    options = {"patch_size": 8, "blocks": 2, "width": 32, "heads": 2, "mlp_width": 96}
    tower = vision_transformer(32, **options, clip=True)
    with pytest.raises(ValueError, match="was trained with the mean and deviation"):
        load_folder(tower, "clip-vit-b32", CLIP)
