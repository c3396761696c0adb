"""Reads the modules of a sentence-transformers folder: pooling, dense layers, norm, prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfclip.models.weights.safetensors_files import open_tensors, weights_in
from tfclip.models.weights.texts.json_files import read_json

MODULES_FILE = "modules.json"
POOLING_FILE = "1_Pooling/config.json"
SETTINGS_FILE = "sentence_bert_config.json"
PROMPTS_FILE = "config_sentence_transformers.json"
# The name of a pooling in "pooling_mode", the key in older files, and ours.
_POOLINGS = {
    "cls": ("pooling_mode_cls_token", "cls"),
    "mean": ("pooling_mode_mean_tokens", "mean"),
    "max": ("pooling_mode_max_tokens", "max"),
    "mean_sqrt_len_tokens": ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len"),
    "lasttoken": ("pooling_mode_lasttoken", "end"),
}
_ACTIVATIONS = {"Identity": "linear", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu"}
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class SentenceModules:
    """What follows the transformer in a sentence encoder.

    Attributes:
        folder: the folder of the transformer.
        options: options of the BERT tower: `pooling`, `pooler`, `dense`, `normalize`.
        arrays: the weights of the dense layers by the names of the tower's variables.
        longest: the longest text in tokens, or None if not stated.
        lowercase: whether texts are lower-cased before the tokenizer.
        notes: settings that are not used, to be shown to the user.
    """

    folder: Path
    options: dict = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    longest: int | None = None
    lowercase: bool = False
    notes: tuple[str, ...] = ()


def read_modules(path: Path) -> SentenceModules:
    """Read the sentence-transformers files of a folder; a folder without them has no modules.

    Raises:
        FileNotFoundError: a named file is missing.
        ValueError: a module, pooling or activation is not supported; names it.
    """
    if not (path / MODULES_FILE).is_file():
        options = _pooling(path / POOLING_FILE) if (path / POOLING_FILE).is_file() else {}
        return SentenceModules(path, options, **_settings(path), notes=_prompts(path))
    modules = read_json(path / MODULES_FILE, list)
    kinds = [str(one.get("type", "")).rsplit(".", 1)[-1] for one in modules]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise ValueError(
            f"{path / MODULES_FILE} has the modules {', '.join(kinds) or 'none'}; allowed: "
            "Transformer, Pooling, and then Dense and Normalize"
        )
    folder = path / str(modules[0].get("path", ""))
    options = _pooling(path / str(modules[1].get("path", "")) / "config.json")
    arrays: dict[str, np.ndarray] = {}
    dense: list[dict] = []
    for kind, module in zip(kinds[2:], modules[2:], strict=True):
        place = path / str(module.get("path", ""))
        if kind == "Dense" and "normalize" not in options:
            layer, weights = _dense(place, len(dense))
            dense.append(layer)
            arrays |= weights
        elif kind == "Normalize":
            options["normalize"] = True
        elif kind != "Dropout":
            raise ValueError(
                f"{path / MODULES_FILE}: the module {kind} is not supported at this place; "
                "allowed after Pooling: Dense layers, and then Normalize"
            )
    if dense:
        options["dense"] = dense
    return SentenceModules(folder, options, arrays, **_settings(folder), notes=_prompts(path))


def _pooling(path: Path) -> dict:
    """Return the pooling options of a `1_Pooling/config.json`."""
    config = read_json(path)
    if "pooling_mode" in config:
        mode = config["pooling_mode"]
        modes = [str(one) for one in mode] if isinstance(mode, list) else [str(mode)]
        names = {name: ours for name, (_, ours) in _POOLINGS.items()}
    else:
        modes = [key for key, value in config.items() if key.startswith("pooling_mode") and value]
        names = dict(_POOLINGS.values())
    if len(modes) != 1 or modes[0] not in names:
        raise ValueError(
            f"{path} asks for {' and '.join(modes) or 'no pooling'}; allowed: one of "
            f"{', '.join(names)}"
        )
    # Sentence encoders take the first token without BERT's pooler.
    return {"pooling": names[modes[0]], "pooler": False}


def _dense(folder: Path, index: int) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the options and the weights of a dense layer."""
    config = read_json(folder / "config.json")
    named = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
    names = [config.get(f"module_{end}_name", "sentence_embedding") for end in ("input", "output")]
    if named not in _ACTIVATIONS or set(names) != {"sentence_embedding"}:
        raise ValueError(
            f"{folder / 'config.json'}: a dense layer from {names[0]} to {names[1]} with the "
            f"activation {named} is not supported; allowed: sentence_embedding with "
            f"{', '.join(_ACTIVATIONS)}"
        )
    tensors = open_tensors(weights_in(folder, _WEIGHTS))
    kernel = tensors["linear.weight"].T
    arrays = {f"sentence_dense_{index}/kernel": np.asarray(kernel, "float32")}
    if config.get("bias", True):
        arrays[f"sentence_dense_{index}/bias"] = np.asarray(tensors["linear.bias"], "float32")
    layer = {
        "units": kernel.shape[1],
        "activation": _ACTIVATIONS[named],
        "use_bias": bool(config.get("bias", True)),
    }
    return layer, arrays


def _settings(folder: Path) -> dict:
    """Return the longest text and whether texts are lower-cased first."""
    path = folder / SETTINGS_FILE
    settings = read_json(path) if path.is_file() else {}
    longest = settings.get("max_seq_length")
    if not isinstance(longest, int):
        path = folder / "tokenizer_config.json"
        # Newer versions store it there; a tokenizer without a limit has 1e30.
        longest = (read_json(path) if path.is_file() else {}).get("model_max_length")
    is_length = isinstance(longest, int) and 3 <= longest < 1_000_000
    lowercase = settings.get("do_lower_case") is True
    return {"longest": longest if is_length else None, "lowercase": lowercase}


def _prompts(path: Path) -> tuple[str, ...]:
    """Return a note about the prompts of a folder, which tfclip does not add to texts."""
    settings: Mapping = read_json(path / PROMPTS_FILE) if (path / PROMPTS_FILE).is_file() else {}
    prompts = settings.get("prompts")
    named = {
        name: text for name, text in (prompts if isinstance(prompts, dict) else {}).items() if text
    }
    if not named:
        return ()
    listed = ", ".join(f"{name} {text!r}" for name, text in named.items())
    usual = settings.get("default_prompt_name")
    default = f" (by default {usual})" if usual else ""
    return (
        f"{path} was trained with prompts before its texts, which are not added here: "
        f"{listed}{default}; write them into captions and templates if you need them",
    )
