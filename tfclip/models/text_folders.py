"""Hugging Face folders of BERT and DistilBERT: their sizes, and their arrays by our names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
VOCABULARY_FILE = "vocab.txt"
TOKENIZER_FILE = "tokenizer_config.json"
# Of the folder, and of ours.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
}
BERT_SIZES = {
    "num_layers": "num_hidden_layers",
    "hidden_dim": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_dim": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
}
_DISTILBERT_SIZES = {
    "num_layers": "n_layers",
    "hidden_dim": "dim",
    "num_heads": "n_heads",
    "intermediate_dim": "hidden_dim",
    "max_sequence_length": "max_position_embeddings",
}
# Our layer in a block, and theirs.
_BERT_BLOCK = {
    "self_attention_layer/query": "attention.self.query",
    "self_attention_layer/key": "attention.self.key",
    "self_attention_layer/value": "attention.self.value",
    "self_attention_layer/attention_output": "attention.output.dense",
    "self_attention_layer_norm": "attention.output.LayerNorm",
    "feedforward_intermediate_dense": "intermediate.dense",
    "feedforward_output_dense": "output.dense",
    "feedforward_layer_norm": "output.LayerNorm",
}
_DISTILBERT_BLOCK = {
    "self_attention_layer/query": "attention.q_lin",
    "self_attention_layer/key": "attention.k_lin",
    "self_attention_layer/value": "attention.v_lin",
    "self_attention_layer/attention_output": "attention.out_lin",
    "self_attention_layer_norm": "sa_layer_norm",
    "feedforward_intermediate_dense": "ffn.lin1",
    "feedforward_output_dense": "ffn.lin2",
    "feedforward_layer_norm": "output_layer_norm",
}


def read_json(path: Path) -> dict:
    """A JSON object from `path`; FileNotFoundError or ValueError names the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no {path.name}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the bytes, or of the JSON
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object")
    return content


def sizes_from(config: Mapping, origin: Path) -> dict:
    """The options of `bert.bert` for a folder's `config.json`.

    Raises:
        ValueError: for another architecture, or one that differs from BERT's in its parts.
    """
    kind = config.get("model_type")
    names = {"bert": BERT_SIZES, "distilbert": _DISTILBERT_SIZES}.get(kind)
    if names is None:
        raise ValueError(f"{origin} is for model_type {kind!r}; allowed: bert, distilbert")
    missing = sorted(name for name in names.values() if not isinstance(config.get(name), int))
    if missing:
        raise ValueError(f"{origin} does not say {', '.join(missing)}")
    named = config.get("hidden_act" if kind == "bert" else "activation", "gelu")
    if named not in _ACTIVATIONS:
        raise ValueError(
            f"{origin} asks for the activation {named!r}; allowed: {', '.join(_ACTIVATIONS)}"
        )
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(f"{origin} has relative positions; allowed: absolute ones")
    options = {ours: config[theirs] for ours, theirs in names.items()}
    if kind == "distilbert":
        options |= {"num_segments": 0, "pooler": False}
    return options | {"activation": _ACTIVATIONS[named]}


def arrays_from(path: Path, options: Mapping) -> dict[str, np.ndarray]:
    """The arrays of a `model.safetensors`, by the paths of a tower's variables.

    Task heads, the names of old (`gamma`, `beta`) and a prefix (`bert.`) do not matter. The
    pooler may be absent.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or one that lacks an array.
    """
    if not path.is_file():
        other = ", ".join(sorted(p.name for p in path.parent.glob("pytorch_model*"))) or "none"
        raise FileNotFoundError(
            f"{path.parent} has no {path.name} (other weights there: {other}); fetch that file of "
            "the model from the Hugging Face hub into the folder"
        )
    try:
        found = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None
    anchor = "embeddings.word_embeddings.weight"
    prefix = next((key.removesuffix(anchor) for key in found if key.endswith(anchor)), None)
    if prefix is None:
        raise ValueError(f"{path} has no array {anchor!r}; it is not for BERT or DistilBERT")
    reader = _Reader(path, prefix, found)
    heads, segments = options["num_heads"], options["num_segments"]
    arrays = {
        "token_embedding/embeddings": reader.get("embeddings.word_embeddings.weight"),
        "position_embedding/embeddings": reader.get("embeddings.position_embeddings.weight"),
        **reader.norm("embeddings_layer_norm", "embeddings.LayerNorm"),
    }
    if segments:
        name = "embeddings.token_type_embeddings.weight"
        arrays["segment_embedding/embeddings"] = reader.get(name)
    stem, block = (
        ("encoder.layer", _BERT_BLOCK) if segments else ("transformer.layer", _DISTILBERT_BLOCK)
    )
    for index in range(options["num_layers"]):
        for ours, theirs in block.items():
            name = f"transformer_layer_{index}/{ours}"
            source = f"{stem}.{index}.{theirs}"
            read = reader.norm(name, source) if ours.endswith("norm") else None
            arrays |= read or reader.dense(name, source, heads if "attention" in ours else 0)
    if options.get("pooler", True) and f"{prefix}pooler.dense.weight" in found:
        arrays |= reader.dense("pooled_dense", "pooler.dense", 0)
    return arrays


class _Reader:
    """Reads the arrays of PyTorch layers as those of Keras layers."""

    def __init__(self, path: Path, prefix: str, found: Mapping[str, np.ndarray]):
        self.path, self.prefix, self.found = path, prefix, found

    def get(self, *names: str) -> np.ndarray:
        """The first of `names` that is there, in float32."""
        for name in names:
            if self.prefix + name in self.found:
                return self.found[self.prefix + name].astype("float32")
        raise ValueError(f"{self.path} lacks {self.prefix + names[0]}; it is not whole")

    def norm(self, ours: str, theirs: str) -> dict[str, np.ndarray]:
        """A layer normalisation; its scale and offset have had two names."""
        return {
            f"{ours}/gamma": self.get(f"{theirs}.weight", f"{theirs}.gamma"),
            f"{ours}/beta": self.get(f"{theirs}.bias", f"{theirs}.beta"),
        }

    def dense(self, ours: str, theirs: str, heads: int) -> dict[str, np.ndarray]:
        """A linear layer, cut into heads where it is one of attention."""
        kernel, bias = self.get(f"{theirs}.weight").T, self.get(f"{theirs}.bias")
        if heads and ours.endswith("attention_output"):
            kernel = kernel.reshape(heads, -1, kernel.shape[1])
        elif heads:
            kernel, bias = kernel.reshape(len(kernel), heads, -1), bias.reshape(heads, -1)
        return {f"{ours}/kernel": kernel, f"{ours}/bias": bias}
