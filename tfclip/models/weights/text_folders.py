"""Reads Hugging Face folders of BERT, DistilBERT, XLM-R and CLIP: sizes and arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfclip.models.weights.convert_texts import CLIP, LAYOUTS, POSITIONS, Layout, torch_arrays
from tfclip.models.weights.safetensors_files import weights_in

CONFIG_FILE = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# Tensors of the encoder that follow from its sizes or may be left out, and the modules that hold
# the encoder's tensors; tensors of other modules are heads of tasks.
_LEFT_OUT = re.compile(r"(.*\.)?position_ids|pooler\..*")
_ENCODERS = ("embeddings.", "encoder.", "transformer.", "text_model.")
# The norms' epsilon of the towers; a checkpoint of another value needs the option.
_EPSILON = {True: 1e-5, False: 1e-12}
# Of the folder, and of ours.
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "quick_gelu": "quick_gelu",
}


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
    if config.get("is_decoder") is True:
        raise ValueError(f"{origin} has is_decoder true (causal attention); allowed: false")
    options = {ours: config[theirs] for ours, theirs in layout.sizes.items()}
    is_clip = layout.builder == CLIP
    key = "hidden_activation" if is_clip else "activation"
    options |= dict(layout.fixed) | {key: _ACTIVATIONS[named]}
    epsilon = config.get("layer_norm_eps", _EPSILON[is_clip])
    if epsilon != _EPSILON[is_clip]:
        options["epsilon"] = epsilon
    if is_clip and config.get("intermediate_size", 4 * options["width"]) != 4 * options["width"]:
        options["mlp_width"] = config["intermediate_size"]
    if layout.positions_after_padding:
        options["max_sequence_length"] -= first_position(config)
    return options


def first_position(config: Mapping) -> int:
    """Return the row of the position table for the first token of XLM-R."""
    return int(config.get("pad_token_id", 1)) + 1


def arrays_from(
    folder: Path,
    found: Mapping[str, np.ndarray],
    layout: Layout,
    options: Mapping,
    config: Mapping,
) -> dict[str, np.ndarray]:
    """Return the arrays of a folder by the names of a tower's variables; `found` are its tensors.

    Heads of tasks and a prefix (`bert.`) are ignored. The pooler may be absent.

    Raises:
        FileNotFoundError: the folder has no weights.
        ValueError: a damaged file, or an array is missing or left over.
    """
    path, tokens = weights_in(folder, WEIGHTS), layout.tokens
    prefix = next((key.removesuffix(tokens) for key in found if key.endswith(tokens)), None)
    if prefix is None:
        raise ValueError(f"{path} has no array {tokens!r}; it does not fit {CONFIG_FILE}")
    used = set()

    def get(*names: str) -> np.ndarray:
        for name in names:
            if prefix + name in found:
                used.add(prefix + name)
                return found[prefix + name].astype("float32")
        raise ValueError(f"{path} lacks {prefix + names[0]}; it is incomplete")

    try:
        arrays = torch_arrays(layout, options, get, lambda name: prefix + name in found)
    except ValueError as error:  # of `get`, or of a reshape
        reason = str(error)
        raise ValueError(
            reason if str(path) in reason else f"{path} does not fit {CONFIG_FILE}: {reason}"
        ) from None
    inside = [key.removeprefix(prefix) for key in found if key.startswith(prefix)]
    left = sorted(
        name
        for name in inside
        if prefix + name not in used
        and not _LEFT_OUT.fullmatch(name)
        and name.startswith(_ENCODERS)
    )
    if left:
        raise ValueError(
            f"{path} holds another network than {CONFIG_FILE} says: {len(left)} of its tensors are "
            f"not part of it ({', '.join(left[:3])})"
        )
    if layout.positions_after_padding:
        arrays[POSITIONS[0]] = arrays[POSITIONS[0]][first_position(config) :]
    return arrays
