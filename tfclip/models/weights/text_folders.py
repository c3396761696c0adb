"""Reads Hugging Face folders of BERT, DistilBERT and CLIP: sizes, vocabulary and arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from tfclip.inputs.tokenizers.byte_pair import MERGES_FILE, load_merges
from tfclip.inputs.tokenizers.vocabulary import load_vocabulary
from tfclip.models.weights.convert_texts import CLIP, LAYOUTS, Layout, torch_arrays

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
    "quick_gelu": "quick_gelu",
}


def read_json(path: Path) -> dict:
    """Read a JSON object; FileNotFoundError or ValueError names the file."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} has no {path.name}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the bytes, or of the JSON
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object")
    return content


def layout_of(config: Mapping, origin: Path) -> Layout:
    """Return the architecture of a `config.json`; ValueError for one that is not supported."""
    kind = config.get("model_type")
    if kind not in LAYOUTS:
        raise ValueError(f"{origin} is for model_type {kind!r}; allowed: {', '.join(LAYOUTS)}")
    return LAYOUTS[kind]


def sizes_from(config: Mapping, layout: Layout, origin: Path) -> dict:
    """Return the options of the layout's builder for a folder's `config.json`.

    Raises:
        ValueError: a size is missing, or the model has parts that the tower lacks.
    """
    config = {**layout.defaults, **config.get("text_config", config)}
    missing = sorted(key for key in layout.sizes.values() if not isinstance(config.get(key), int))
    if missing:
        raise ValueError(f"{origin} does not state {', '.join(missing)}")
    named = config.get(layout.activation, "gelu")
    if named not in _ACTIVATIONS:
        raise ValueError(
            f"{origin} asks for the activation {named!r}; allowed: {', '.join(_ACTIVATIONS)}"
        )
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(f"{origin} has relative positions; allowed: absolute ones")
    options = {ours: config[theirs] for ours, theirs in layout.sizes.items()}
    key = "hidden_activation" if layout.builder == CLIP else "activation"
    return options | dict(layout.fixed) | {key: _ACTIVATIONS[named]}


def arrays_from(path: Path, layout: Layout, options: Mapping) -> dict[str, np.ndarray]:
    """Return the arrays of a `model.safetensors` by the names of a tower's variables.

    Task heads and a prefix (`bert.`) are ignored. The pooler may be absent.

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
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from None
    tokens = layout.tokens
    prefix = next((key.removesuffix(tokens) for key in found if key.endswith(tokens)), None)
    if prefix is None:
        raise ValueError(f"{path} has no array {tokens!r}; it does not fit {CONFIG_FILE}")

    def get(*names: str) -> np.ndarray:
        for name in names:
            if prefix + name in found:
                return found[prefix + name].astype("float32")
        raise ValueError(f"{path} lacks {prefix + names[0]}; it is incomplete")

    try:
        return torch_arrays(layout, options, get, lambda name: prefix + name in found)
    except ValueError as error:  # of `get`, or of a reshape
        reason = str(error)
        raise ValueError(
            reason if str(path) in reason else f"{path} does not fit {CONFIG_FILE}: {reason}"
        ) from None


def tokens_from(path: Path, layout: Layout) -> tuple[tuple[str, ...] | None, bool]:
    """Return the vocabulary of a folder, or for CLIP its merges, and whether it folds case.

    CLIP's merges are None if the folder has none: they can be given separately.

    Raises:
        FileNotFoundError, ValueError: the vocabulary is missing or damaged.
    """
    if layout.builder == CLIP:
        merges = path / MERGES_FILE
        return (tuple(load_merges(merges)) if merges.is_file() else None), True
    tokenizer = {}
    if (path / TOKENIZER_FILE).is_file():
        tokenizer = read_json(path / TOKENIZER_FILE)
    if not (path / VOCABULARY_FILE).is_file():
        raise FileNotFoundError(
            f"{path} has no {VOCABULARY_FILE}; fetch that file of the model from the Hugging Face "
            "hub into the folder"
        )
    vocabulary = load_vocabulary(path / VOCABULARY_FILE)
    return tuple(vocabulary), bool(tokenizer.get("do_lower_case", True))
