"""Converted keras_hub presets and pairs of single towers answer as the whole original does."""

import json
import shutil
from pathlib import Path

import keras_hub
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
from keras_hub.src.models.clip.clip_text_encoder import CLIPTextEncoder
from keras_hub.src.models.clip.clip_vision_encoder import CLIPVisionEncoder
from keras_hub.src.models.siglip.siglip_text_encoder import SigLIPTextEncoder
from keras_hub.src.models.siglip.siglip_vision_encoder import SigLIPVisionEncoder

from tfclip.models.weights.clip.convert import convert_clip
from tfclip.models.weights.clip.sources import ASSUMED_SCALE

CLIPS = Path(__file__).parent / "clips"
MERGES = ["d o", "do g</w>"]
VISION = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16, "intermediate_dim": 24}
VISION |= {"patch_size": 8, "image_shape": (32, 32, 3)}
TEXT = {"num_layers": 2, "num_heads": 4, "hidden_dim": 16, "intermediate_dim": 24}
TEXT |= {"embedding_dim": 16, "max_sequence_length": 12}


def randomise(backbone) -> None:
    """Let every weight matter; keras_hub reads the positions of the picture from a variable."""
    rng = np.random.default_rng(0)
    for variable in backbone.weights:
        if variable.name == "position_ids":
            variable.assign(np.arange(variable.shape[1])[None])
        elif variable.name == "logit_scale":
            variable.assign(2.5)
        else:
            mean = 1.0 if variable.name == "gamma" else 0.0
            variable.assign(rng.normal(mean, 0.2, variable.shape))


def clip_preset(folder: Path):
    vision = CLIPVisionEncoder(**VISION, name="vision_encoder")
    text = CLIPTextEncoder(vocabulary_size=516, **TEXT, name="text_encoder")
    backbone = keras_hub.models.CLIPBackbone(vision, text, 8)
    randomise(backbone)
    backbone.save_to_preset(str(folder))
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(c) for c in printing] + [chr(256 + n) for n in range(68)]
    words = [*letters, *(f"{c}</w>" for c in letters), "do", "dog</w>"]
    words = {word: n for n, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    keras_hub.models.CLIPTokenizer(words, MERGES).save_to_preset(str(folder))
    return backbone


def siglip_preset(folder: Path):
    model = (CLIPS / "siglip" / "spiece.model").read_bytes()
    vision = SigLIPVisionEncoder(**VISION, name="vision_encoder")
    text = SigLIPTextEncoder(vocabulary_size=28, **TEXT, projection_dim=16, name="text_encoder")
    backbone = keras_hub.models.SigLIPBackbone(vision, text)
    randomise(backbone)
    backbone.save_to_preset(str(folder))
    keras_hub.models.SigLIPTokenizer(proto=model).save_to_preset(str(folder))
    return backbone


def add_image_converter(folder: Path, **options) -> None:
    converter = keras_hub.layers.ImageConverter(image_size=(32, 32), **options)
    converter.save_to_preset(str(folder))


@pytest.mark.parametrize("make", [clip_preset, siglip_preset])
def test_a_keras_hub_preset_answers_as_its_backbone(make, tmp_path):
    backbone = make(tmp_path)
    scale, offset = np.array([0.02, 0.03, 0.025]), [-1.0, -1.5, -1.2]
    add_image_converter(tmp_path, scale=scale, offset=offset, interpolation="bicubic")
    model, source = convert_clip(tmp_path)
    assert source.kind == "keras_hub" and model.config.resize == "crop"
    assert any("antialiasing" in note for note in source.notes)
    pictures = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    batch = model.tokenizer(["a dog", "dogs do", "x"])
    ids = batch["token_ids"].numpy()
    expected = backbone(
        {"images": (pictures * np.array(scale) + offset).astype("float32"), "token_ids": ids}
    )
    encoder = model.dual_encoder
    image = encoder.encode_image(tf.constant(pictures))
    text = encoder.encode_text(batch["token_ids"], batch["text_mask"])
    logits = encoder.temperature() * tf.matmul(image, text, transpose_b=True)
    if encoder.logit_bias is not None:
        logits += np.asarray(encoder.logit_bias.bias)
    np.testing.assert_allclose(logits, expected["vision_logits"], atol=2e-4)


def test_other_presets_and_options_are_refused(tmp_path):
    siglip_preset(tmp_path)
    _, source = convert_clip(tmp_path)
    assert any("does not state its preprocessing" in note for note in source.notes)
    (tmp_path / "preprocessor.json").write_text('{"config": {"canonicalize_text": false}}')
    with pytest.raises(ValueError, match="canonicalize_text false"):
        convert_clip(tmp_path)
    (tmp_path / "preprocessor.json").unlink()
    add_image_converter(tmp_path, interpolation="nearest")
    with pytest.raises(ValueError, match="interpolation nearest"):
        convert_clip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"class_name": "BertBackbone"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="preset of BertBackbone; allowed: CLIPBackbone"):
        convert_clip(tmp_path)


def split(whole: Path, folder: Path) -> tuple[Path, Path]:
    """Write the towers of a CLIPModel as transformers writes its models with projection."""
    config = json.loads((whole / "config.json").read_text())
    tensors = safetensors.numpy.load_file(whole / "model.safetensors")
    parts = {"vision": "vision_model. visual_projection.", "text": "text_model. text_projection."}
    for name, stems in parts.items():
        (folder / name).mkdir(parents=True)
        kept = {k: v for k, v in tensors.items() if k.startswith(tuple(stems.split()))}
        safetensors.numpy.save_file(kept, folder / name / "model.safetensors")
        one = {**config[f"{name}_config"], "model_type": f"clip_{name}_model"}
        one["projection_dim"] = config["projection_dim"]
        (folder / name / "config.json").write_text(json.dumps(one))
    shutil.copy(whole / "processor_config.json", folder / "vision")
    shutil.copy(whole / "tokenizer.json", folder / "text")
    return folder / "vision", folder / "text"


def test_two_towers_with_projections_are_the_whole_model(tmp_path):
    whole = CLIPS / "hugging_face_quick_gelu"
    image_folder, text_folder = split(whole, tmp_path)
    model, source = convert_clip(image_folder, text_path=text_folder)
    expected = np.load(whole / "expected.npz")
    encoder = model.dual_encoder
    batch = model.tokenizer(json.loads((whole / "texts.json").read_text()))
    text = encoder.encode_text(batch["token_ids"], batch["text_mask"])
    np.testing.assert_allclose(text, expected["text"], atol=2e-6)
    image = encoder.encode_image(tf.constant(expected["pictures"]))
    np.testing.assert_allclose(image, expected["image"], atol=2e-6)
    assert float(encoder.temperature()) == pytest.approx(ASSUMED_SCALE)
    assert any("logit scale of 100 is assumed" in note for note in source.notes)
    assert {"text_source", "text_source_sha256"} <= set(model.trained_on)


def test_towers_that_do_not_belong_together_are_refused(tmp_path):
    image_folder, text_folder = split(CLIPS / "hugging_face_quick_gelu", tmp_path)
    with pytest.raises(ValueError, match="image tower alone.*--text-source"):
        convert_clip(image_folder)
    with pytest.raises(ValueError, match="is for 'clip_text_model'; expected 'clip_vision_model'"):
        convert_clip(text_folder, text_path=image_folder)
    config = json.loads((text_folder / "config.json").read_text())
    (text_folder / "config.json").write_text(json.dumps(config | {"projection_dim": 7}))
    with pytest.raises(ValueError, match="they do not belong together"):
        convert_clip(image_folder, text_path=text_folder)
