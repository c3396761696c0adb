"""CLIP's text tower from folders: equal to transformers and keras_hub, with its merges."""

from pathlib import Path

import keras
import keras_hub
import numpy as np
import pytest
from keras_hub.src.models.clip.clip_text_encoder import CLIPTextEncoder
from keras_hub.src.models.clip.clip_vision_encoder import CLIPVisionEncoder

from tfclip.models import registry
from tfclip.models.weights.text_weights import load_text_weights

MERGES = ["d o", "do g</w>"]
CLIP_IDS = np.array([[514, 320, 513, 515, 0], [514, 64, 65, 320, 515]], "int32")
CLIP_BATCH = {"token_ids": CLIP_IDS, "text_mask": np.array([[1, 1, 1, 1, 0], [1] * 5], bool)}


def clip_folder(folder: Path) -> tuple[Path, np.ndarray]:
    """A small CLIP of transformers, saved, and what its text tower makes of `CLIP_BATCH`."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    text = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 516}
    text |= {"num_attention_heads": 4, "eos_token_id": 515, "bos_token_id": 514}
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "image_size": 32}
    vision |= {"num_attention_heads": 2}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=4)
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        states = model.text_model(torch.tensor(CLIP_IDS.astype("int64"))).last_hidden_state
    model.save_pretrained(folder)
    (folder / "merges.txt").write_text("".join(f"{line}\n" for line in ["#version: 0.2", *MERGES]))
    return folder, states.numpy()


@pytest.mark.slow
def test_a_clip_folder_equals_transformers(tmp_path):
    folder, expected = clip_folder(tmp_path / "clip")
    pretrained = load_text_weights("clip-text", str(folder))
    assert pretrained.tokenizer_kind == "byte-pair" and pretrained.longest_text == 77
    sizes = {"vocabulary_size": 516, **pretrained.options}
    for length in (77, 5):
        tower = registry.text_tower("clip-text").build(context_length=length, **sizes)
        pretrained.copy_into(tower)
        rows = CLIP_BATCH["text_mask"].sum(axis=1) - 1
        np.testing.assert_allclose(tower(CLIP_BATCH), expected[[0, 1], rows], atol=2e-5)
    tokens = pretrained.make_tokenizer(8)(["a dog"])["token_ids"].numpy()
    assert tokens[0, :4].tolist() == [514, 320, 513, 515]
    with pytest.raises(ValueError, match="another architecture than bert; it fits clip-text"):
        load_text_weights("bert", str(folder))
    (folder / "merges.txt").write_text("d o\n")
    with pytest.raises(ValueError, match="vocabulary has 515 tokens and the token table 516"):
        load_text_weights("clip-text", str(folder))
    (folder / "merges.txt").unlink()
    assert load_text_weights("clip-text", str(folder)).make_tokenizer(8) is None


def test_a_clip_preset_folder_equals_its_backbone(tmp_path):
    models = keras_hub.models
    keras.utils.set_random_seed(0)
    vision = CLIPVisionEncoder(16, 8, 1, 2, 16, image_shape=(32, 32, 3), name="vision_encoder")
    text = CLIPTextEncoder(516, 16, 16, 2, 4, 64, max_sequence_length=77, name="text_encoder")
    backbone = models.CLIPBackbone(vision, text, 4)
    backbone.save_to_preset(str(tmp_path / "preset"))
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(c) for c in printing] + [chr(256 + n) for n in range(68)]
    words = letters + [f"{c}</w>" for c in letters] + ["do", "dog</w>"]
    words = {word: n for n, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    models.CLIPTokenizer(words, MERGES).save_to_preset(str(tmp_path / "preset"))
    tower = registry.text_tower("clip-text").build(
        vocabulary_size=516,
        context_length=77,
        pooling="none",
        **load_text_weights("clip-text", str(tmp_path / "preset")).options,
    )
    pretrained = load_text_weights("clip-text", str(tmp_path / "preset"))
    pretrained.copy_into(tower)
    np.testing.assert_allclose(tower(CLIP_BATCH), text({"token_ids": CLIP_IDS}), atol=1e-4)
    assert pretrained.vocabulary == tuple(MERGES)
    assert "the text head is random" in pretrained.notes[0]
