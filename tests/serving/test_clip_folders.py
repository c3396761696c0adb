"""`export --hf` and `--open-clip`: the folders convert back to the same model, bit for bit."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tfclip.export import main
from tfclip.models.saving import save_model
from tfclip.models.weights.clip.convert import convert_clip
from tfclip.models.weights.safetensors_files import open_tensors
from tfclip.serving.formats.clip_folders import write_hugging_face, write_open_clip

CLIPS = Path(__file__).parents[1] / "models" / "weights" / "clips"
WRITERS = {"hf": write_hugging_face, "open_clip": write_open_clip}


def converted(name: str):
    if name != "open_clip_file":
        return convert_clip(CLIPS / name)[0]
    folder = CLIPS / name
    return convert_clip(folder / "model.pt", folder / "merges.txt", "quick_gelu")[0]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "name", ["hugging_face_quick_gelu", "hugging_face_gelu_shards", "open_clip_file"]
)
def test_a_written_folder_converts_back_bit_for_bit(tmp_path, name, kind):
    model = converted(name)
    assert WRITERS[kind](model, tmp_path / "out")[1:] == []
    again, source = convert_clip(tmp_path / "out")
    assert source.notes == ()
    ours = {k: v for k, v in model.config.to_dict().items() if k != "initial_logit_scale"}
    assert {k: again.config.to_dict()[k] for k in ours} == ours
    for old, new in zip(model.dual_encoder.weights, again.dual_encoder.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    texts = ["a photo of a dog", "Two red circles!"]
    np.testing.assert_array_equal(
        model.tokenizer(texts)["token_ids"], again.tokenizer(texts)["token_ids"]
    )


@pytest.mark.parametrize(
    ("name", "kind", "file"),
    [
        ("hugging_face_quick_gelu", "hf", "model.safetensors"),
        ("open_clip_gelu", "open_clip", "open_clip_model.safetensors"),
    ],
)
def test_the_tensors_are_those_of_the_library_itself(tmp_path, name, kind, file):
    """The committed sources were saved by transformers and by open_clip."""
    WRITERS[kind](converted(name), tmp_path / "out")
    original, written = open_tensors(CLIPS / name / file), open_tensors(tmp_path / "out" / file)
    assert set(written) == {name for name in original if not name.endswith("attn_mask")}
    for tensor in written:
        np.testing.assert_array_equal(original[tensor], written[tensor])
    if kind == "hf":
        theirs = json.loads((CLIPS / name / "config.json").read_text())
        ours = json.loads((tmp_path / "out" / "config.json").read_text())
        for part in ("vision_config", "text_config"):
            # The one of the whole model is read, not the default that stands in the parts.
            ours[part].pop("projection_dim")
            assert {k: v for k, v in ours[part].items() if theirs[part].get(k, v) != v} == {}
        assert ours["projection_dim"] == theirs["projection_dim"] == 24


def test_a_logit_bias_goes_to_open_clip_alone(tmp_path):
    model = converted("open_clip_gelu")
    config = replace(model.config, initial_logit_bias=-7.5)
    encoder = type(model.dual_encoder)(config)
    encoder.set_weights([*model.dual_encoder.get_weights(), np.float32(-7.5)])
    model = replace(model, dual_encoder=encoder)
    write_open_clip(model, tmp_path / "out")
    again, _ = convert_clip(tmp_path / "out")
    assert float(again.dual_encoder.logit_bias()) == -7.5
    with pytest.raises(ValueError, match="--open-clip DIR"):
        write_hugging_face(model, tmp_path / "hf")


def test_the_card_has_the_licence_and_notes(tmp_path, capsys):
    model = converted("hugging_face_quick_gelu")
    model = replace(model, trained_on={**model.trained_on, "licence": "mit"})
    config = replace(model.config, interpolation="area")
    encoder = type(model.dual_encoder)(config)
    encoder.set_weights(model.dual_encoder.get_weights())
    save_model(tmp_path / "run" / "best", replace(model, dual_encoder=encoder))
    hf, clip = tmp_path / "hf", tmp_path / "open"
    assert main([str(tmp_path / "run"), "--hf", str(hf), "--open-clip", str(clip)]) == 0
    said = capsys.readouterr().err
    assert "licence: mit" in said and "interpolation area has no counterpart" in said
    assert "634 tokens" in said
    for folder in (hf, clip):
        card = (folder / "README.md").read_text()
        assert card.startswith("---\nlicense: mit\n") and "interpolation area" in card
        assert convert_clip(folder)[0].trained_on["licence"] == "mit"


def test_other_architectures_are_refused_in_one_line(tiny_run, tmp_path, capsys):
    for flag in ("--hf", "--open-clip"):
        assert main([str(tiny_run), flag, str(tmp_path / "out")]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        assert "image tower is small-convolutional" in err and "--onnx DIR" in err
        words = [str(tiny_run), flag, str(tmp_path / "out"), "--image-only"]
        assert main(words) == 2 and "both towers" in capsys.readouterr().err
    siglip = convert_clip(CLIPS / "siglip")[0]
    with pytest.raises(ValueError, match="siglip-vit.*--onnx"):
        write_hugging_face(siglip, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
