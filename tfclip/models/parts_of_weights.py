"""Reads some parts of a model, such as the text half or a head, from the weights of all of it.

Keras names the groups of a file after the places of the layers in the whole model, so that a model
without its image half finds none of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import h5py
import keras
from keras.src.saving import saving_lib
from keras.src.utils.naming import to_snake_case

from tfclip.models.dual_encoder import DualEncoder

LAYERS = "layers"


def load_text_weights_alone(path: Path, model: DualEncoder, skipped: Collection[str]) -> None:
    """Set the weights of a model without image tower to those of `model.weights.h5`.

    Args:
        path: the file of the whole model.
        model: a model of the text modality alone.
        skipped: "text" if the file holds no text tower, because it is frozen.

    Raises:
        ValueError: the file is of another model.
    """
    parts = {"text_head": model.text_head, "logit_scale": model.logit_scale}
    if "text" not in skipped:
        parts["text_tower"] = model.text_tower
    if model.logit_bias is not None:
        parts["logit_bias"] = model.logit_bias
    load_parts(path, parts)


def load_parts(path: Path, parts: Mapping[str, keras.layers.Layer]) -> None:
    """Set the weights of parts of a model to those of `model.weights.h5`.

    Args:
        path: the file of the whole model.
        parts: by attribute; not the image tower.

    Raises:
        ValueError: the file is of another model.
    """
    with h5py.File(path) as file:
        places = {name: _place(file, name, part) for name, part in parts.items() if part.weights}
    store = saving_lib.H5IOStore(path, mode="r")
    try:
        for name, place in places.items():
            # A layer that is reached by several ways has its group at the first one alone.
            visited: set[int] = set()
            failed: set[int] = set()
            errors: dict[int, tuple] = {}
            saving_lib._load_state(parts[name], store, None, place, False, visited, failed, errors)
            if failed:
                part, reason = next(iter(errors.values()))
                raise ValueError(f"{part.path}: {reason}")
    finally:
        store.close()


def _place(file: h5py.File, name: str, part: keras.layers.Layer) -> str:
    """Return the group of a part: by its attribute, or by its class in the list of layers, where
    the part of the image, of the same class, comes first and has no group."""
    if name in file:
        return name
    kind = to_snake_case(type(part).__name__)
    numbers = {}
    for group in file.get(LAYERS, {}):
        if found := re.fullmatch(rf"{kind}(?:_(\d+))?", group):
            numbers[int(found[1] or 0)] = group
    if not numbers:
        raise ValueError(f"it has no weights of {name}")
    return f"{LAYERS}/{numbers[max(numbers)]}"
