"""Pretrained CLIPs become models whose embeddings and logits are those of their own libraries."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tfclip.models.model_directory import WEIGHTS_FILE
from tfclip.models.saving import load_model, save_model
from tfclip.models.weights.clip import layer_weights
from tfclip.models.weights.clip.convert import convert_clip, open_clip

# Written by tests/peers/make_clips.py with transformers and open_clip, and what they answer.
FOLDER = Path(__file__).parent / "clips"
KINDS = {
    "hugging_face_quick_gelu": ("", "crop"),
    "hugging_face_gelu_shards": ("", "crop"),
    "open_clip_gelu": ("", "squash"),
    "open_clip_custom_text": ("", "squash"),
    "open_clip_file": ("model.pt", "crop"),
    "siglip": ("", "squash"),
}


def _source(name) -> tuple:
    file, _ = KINDS[name]
    path = FOLDER / name / file
    return (path, FOLDER / name / "merges.txt", "quick_gelu") if file else (path,)


def _convert(name):
    return convert_clip(*_source(name))


def _datasets(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def keep(name, one):
        if isinstance(one, h5py.Dataset):
            found[name] = one[()]

    with h5py.File(path) as file:
        file.visititems(keep)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_embeddings_and_logits_are_the_peers(name, tmp_path):
    expected = np.load(FOLDER / name / "expected.npz")
    texts = json.loads((FOLDER / name / "texts.json").read_text())
    converted, _ = _convert(name)
    save_model(tmp_path / "best", converted)
    for model in (converted, load_model(tmp_path)):
        tokens = model.tokenizer(texts)
        ids, mask = (tokens[key].numpy() for key in ("token_ids", "text_mask"))
        # open_clip pads with zeros as we do; only the text itself has to be equal.
        np.testing.assert_array_equal(np.where(mask, ids, 0), np.where(mask, expected["ids"], 0))
        encoder = model.dual_encoder
        # Batches are cut to their longest text: nothing may depend on the padding.
        longest = mask.sum(1).max()
        for length in (longest, ids.shape[1]):
            cut = (tf.constant(value[:, :length]) for value in (ids, mask))
            text = encoder.encode_text(*cut).numpy()
            np.testing.assert_allclose(text, expected["text"], atol=2e-6)
        image = encoder.encode_image(expected["pictures"]).numpy()
        np.testing.assert_allclose(image, expected["image"], atol=2e-6)
        logits = encoder.temperature() * tf.matmul(image, text, transpose_b=True)
        if encoder.logit_bias is not None:
            logits += encoder.logit_bias()
        np.testing.assert_allclose(logits, expected["logits"], atol=2e-4)
        assert model.config.resize == KINDS[name][1]
        assert model.config.interpolation == "bicubic"


@pytest.mark.parametrize("name", ["hugging_face_gelu_shards", "open_clip_file", "siglip"])
def test_a_model_saved_layer_by_layer_has_the_same_weights(name, tmp_path, monkeypatch):
    whole, _ = _convert(name)
    save_model(tmp_path / "whole", whole)
    opened = open_clip(*_source(name))
    opened.save(tmp_path / "streamed")
    expected, found = (_datasets(tmp_path / n / WEIGHTS_FILE) for n in ("whole", "streamed"))
    assert sorted(found) == sorted(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    pairs = list(zip(opened.model.dual_encoder.weights, whole.dual_encoder.weights, strict=True))
    matrices = [(ours, theirs) for ours, theirs in pairs if len(ours.shape) > 1]
    assert not any(np.array_equal(*pair) for pair in matrices)  # it never held the weights
    # Read in parts, as large arrays are, into zeros that layers of the same shape share.
    monkeypatch.setattr(layer_weights, "LARGE", 1)
    monkeypatch.setattr(layer_weights, "ROWS", 3)
    opened.read()
    assert all(np.array_equal(*pair) for pair in pairs)


def test_a_model_saved_layer_by_layer_has_no_missing_and_no_left_over_tensor(tmp_path):
    opened = open_clip(*_source("hugging_face_quick_gelu"))
    tensors = dict(opened.tensors.tensors)
    opened.tensors.tensors = {**tensors, "extra.weight": np.ones(3)}
    with pytest.raises(ValueError, match=r"1 tensors are not part .* extra\.weight"):
        opened.save(tmp_path / "left")
    del tensors["text_model.encoder.layers.1.mlp.fc2.bias"]
    opened.tensors.tensors = tensors
    with pytest.raises(ValueError, match=r"lacks text_model.encoder.layers.1.mlp.fc2.bias"):
        opened.save(tmp_path / "lacks")


def test_siglip_without_its_sentence_pieces_names_the_file(tmp_path):
    shutil.copytree(FOLDER / "siglip", tmp_path / "siglip")
    (tmp_path / "siglip" / "spiece.model").unlink()
    (tmp_path / "siglip" / "tokenizer.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"no spiece\.model.* its tokenizer\.json is not"):
        open_clip(tmp_path / "siglip")


def test_the_committed_references_are_small():
    here = FOLDER.parent
    folders = [here / name for name in ("clips", "sentence_encoders", "torch_files")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2e6


def test_a_scale_above_100_stays_until_training_clamps_it():
    model, _ = _convert("siglip")
    assert float(model.dual_encoder.temperature()) == pytest.approx(117.3, rel=1e-5)
    variable = model.dual_encoder.logit_scale.log_scale
    assert float(np.exp(variable.constraint(variable.value))) == pytest.approx(100, rel=1e-5)


def test_the_card_says_where_the_model_is_from(tmp_path):
    shutil.copytree(FOLDER / "open_clip_gelu", tmp_path / "source")
    (tmp_path / "source" / "README.md").write_text("---\ntags: [clip]\nlicense: mit\n---\n# A\n")
    model, _ = convert_clip(tmp_path / "source")
    card = model.trained_on
    assert card["licence"] == "mit"
    assert card["source_file"] == "open_clip_model.safetensors"
    assert len(card["source_sha256"]) == 64


def _changed(tmp_path, name, file, change) -> Path:
    folder = tmp_path / name
    shutil.copytree(FOLDER / name, folder)
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))
    return folder


HF, OPEN = "config.json", "open_clip_config.json"


@pytest.mark.parametrize(
    ("name", "file", "change", "words"),
    [
        (
            "hugging_face_quick_gelu",
            HF,
            ("vision_config", "num_hidden_layers", 1),
            "are not part of",
        ),
        ("hugging_face_quick_gelu", HF, ("vision_config", "num_hidden_layers", 3), "lacks"),
        ("hugging_face_quick_gelu", HF, ("text_config", "hidden_act", "silu"), "'silu'"),
        ("hugging_face_quick_gelu", HF, ("vision_config", "patch_size", 16), "patch_embedding"),
        ("hugging_face_quick_gelu", HF, ("vision_config", "num_attention_heads", 5), "5 attention"),
        ("hugging_face_quick_gelu", HF, ("model_type", "clip_vision_model"), "--image-weights"),
        ("hugging_face_quick_gelu", HF, ("model_type", "bert"), "'bert'"),
        ("hugging_face_quick_gelu", HF, ("text_config", "eos_token_id", 5), "eos_token_id 5"),
        ("open_clip_gelu", OPEN, ("model_cfg", "vision_cfg", "ls_init_value", 0.1), "ls_init"),
        ("open_clip_gelu", OPEN, ("model_cfg", "vision_cfg", "pool_type", "avg"), "pool_type"),
        ("open_clip_gelu", OPEN, ("model_cfg", "vision_cfg", "timm_model_name", "x"), "timm_model"),
        ("open_clip_gelu", OPEN, ("model_cfg", "text_cfg", "hf_model_name", "x"), "hf_model_name"),
        ("open_clip_gelu", OPEN, ("model_cfg", "text_cfg", "no_causal_mask", True), "no_causal"),
        ("open_clip_gelu", OPEN, ("model_cfg", "text_cfg", "new_option", 3), "new_option"),
        ("open_clip_gelu", OPEN, ("model_cfg", "vision_cfg", "layers", [3, 4, 6, 3]), "ResNet"),
        ("open_clip_gelu", OPEN, ("preprocess_cfg", "resize_mode", "longest"), "longest"),
        ("open_clip_gelu", OPEN, ("preprocess_cfg", "interpolation", "random"), "random"),
        ("siglip", "preprocessor_config.json", ("resample", 1), "resample 1"),
        ("siglip", "preprocessor_config.json", ("size", {"height": 64, "width": 64}), "64"),
    ],
)
def test_what_would_compute_something_else_is_refused(tmp_path, name, file, change, words):
    def set_value(content):
        for key in change[:-2]:
            content = content[key]
        content[change[-2]] = change[-1]

    with pytest.raises(ValueError) as raised:
        convert_clip(_changed(tmp_path, name, file, set_value))
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_does_not_say_its_activation_is_refused():
    path = FOLDER / "open_clip_file" / "model.pt"
    with pytest.raises(ValueError, match="--activation quick_gelu"):
        convert_clip(path, vocabulary=path.with_name("merges.txt"))


def test_a_missing_vocabulary_says_what_to_give():
    with pytest.raises(FileNotFoundError, match="--vocabulary"):
        convert_clip(FOLDER / "open_clip_file" / "model.pt", activation="gelu")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        convert_clip(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="config.json"):
        convert_clip(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(FileNotFoundError, match=r"model.safetensors, pytorch_model.bin"):
        convert_clip(tmp_path)


def test_a_cut_or_incomplete_file_is_one_line(tmp_path):
    shutil.copytree(FOLDER / "hugging_face_gelu_shards", tmp_path / "a")
    shard = sorted((tmp_path / "a").glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(ValueError, match="is not within the file"):
        convert_clip(tmp_path / "a")
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        convert_clip(tmp_path / "a")
