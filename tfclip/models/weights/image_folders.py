"""Folders and presets that hold an image encoder, and how its weights get into a tower."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tfclip.models.layers import pixel_normalization
from tfclip.models.weights import convert_keras_hub_images
from tfclip.models.weights.convert_torch_images import LayerWeights
from tfclip.models.weights.image_checkpoints import layout_for
from tfclip.models.weights.names import first_line

SAFETENSORS = "model.safetensors"
# First convolutions without padding: they can follow another normalisation of pixels exactly.
UNPADDED = ("patches", "convnext_tiny_stem")
Normalization = tuple[tuple[float, ...], tuple[float, ...]]


def load_folder(tower: keras.Model, name: str, folder: Path) -> None:
    """Put the encoder of a timm, Hugging Face or keras_hub folder into an image tower.

    Args:
        tower, name: the tower and its registered name.
        folder: holds config.json, and model.safetensors or a keras_hub preset's weights.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when the files are damaged, or of another architecture; the tower is untouched.
    """
    config = _config(folder)
    if "architecture" in config:
        origin, kind = "timm", config["architecture"]
    elif "model_type" in config:
        origin, kind = "hugging_face", config["model_type"]
    elif "class_name" in config:
        origin, kind = "keras_hub", config["class_name"]
    else:
        raise ValueError(
            f"{folder / 'config.json'} names no architecture (timm), model_type (Hugging Face) or "
            "class_name (keras_hub preset)."
        )
    layout = layout_for(name, origin, kind, str(folder))
    try:
        if origin == "keras_hub":
            weights = layout.read(convert_keras_hub_images.backbone(str(folder)), tower)
        else:
            check_heads(tower, config)
            weights = layout.read(_state(folder, str(kind)), tower)
    except KeyError as error:
        raise ValueError(f"{folder} does not fit {name}: it has no weights {error}.") from error
    except (IndexError, TypeError) as error:
        raise ValueError(f"{folder} does not fit {name}: {first_line(error)}.") from error
    put(tower, name, weights, _normalization(folder, config), str(folder))


def put(
    tower: keras.Model,
    name: str,
    weights: LayerWeights,
    normalization: Normalization | None,
    source: str,
) -> None:
    """Check everything, then set the weights of all layers.

    Args:
        tower, name: the tower and its registered name.
        weights: the arrays of every layer that has weights, by the layer's name.
        normalization: mean and deviation, in units of 0..255, that belong to the weights; None for
            the tower's own.
        source: where they come from, for messages.

    Raises:
        ValueError: when a layer is missing or of another shape; the tower is untouched.
    """
    layers = {
        layer.name: layer
        for layer in tower.layers
        if layer.weights and not isinstance(layer, keras.layers.Normalization)
    }
    if different := sorted(set(layers) ^ set(weights)):
        raise ValueError(
            f"{source} does not fit {name}: one of them has no layer {different[0]} "
            f"({len(weights)} layers, the tower has {len(layers)})."
        )
    for layer in layers.values():
        wanted = [tuple(variable.shape) for variable in layer.weights]
        received = [np.shape(array) for array in weights[layer.name]]
        if wanted != received:
            raise ValueError(
                f"{source} does not fit {name}: layer {layer.name} needs {wanted}, received "
                f"{received}. Learnt positions and mixed tokens fit one --image-size."
            )
    own = tower_normalization(tower)
    if normalization and not np.allclose(normalization, own, rtol=1e-3):
        first = next((layer for layer in UNPADDED if layer in weights), None)
        if first is None or len(weights[first]) < 2:
            raise ValueError(
                f"{source} was trained with the mean and deviation {normalization} of pixels, "
                f"{name} normalises with {own}, and its first convolution cannot make up for it."
            )
        weights[first][:2] = pixel_normalization.refit_first_convolution(
            *weights[first][:2], trained=normalization, tower=own
        )
    for layer in layers.values():
        layer.set_weights([np.asarray(array, "float32") for array in weights[layer.name]])


def tower_normalization(tower: keras.Model) -> Normalization:
    """Mean and deviation of a tower's pixels, in units of 0..255."""
    for layer in tower.layers:
        if isinstance(layer, pixel_normalization.PixelNormalization):
            return layer.mean, layer.deviation
    return pixel_normalization.IMAGENET


def check_heads(tower: keras.Model, config: Mapping) -> None:
    """Refuse another number of attention heads or activation: no shape would tell.

    Raises:
        ValueError: with both numbers or names.
    """
    inner = config.get("vision_config", config)
    inner = {**inner, **config.get("model_args", {})}
    block = next((layer for layer in tower.layers if hasattr(layer, "heads")), None)
    if block is None:
        return
    heads = inner.get("num_attention_heads", inner.get("num_heads", block.heads))
    hidden = inner.get("hidden_act", block.hidden_activation)
    if (heads, hidden) != (block.heads, block.hidden_activation):
        raise ValueError(
            f"The folder's blocks have {heads} heads and {hidden}; the tower's have {block.heads} "
            f"and {block.hidden_activation}."
        )


def _config(folder: Path) -> dict:
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"--image-weights {folder} has no config.json. A folder must be a timm, Hugging Face "
            "or keras_hub one, with config.json and its weights."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: {first_line(error)}.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged: it holds no object.")
    return config


def _state(folder: Path, model_type: str) -> dict[str, np.ndarray]:
    """All tensors of a folder, without the prefix that models with a classifier have."""
    path = folder / SAFETENSORS
    if not path.is_file():
        raise FileNotFoundError(
            f"--image-weights {folder} has no {SAFETENSORS}; save it with safe serialization."
        )
    try:
        state = load_file(path)
    except (SafetensorError, OSError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged or holds another type than float16 or float32: {first_line(error)}."
        ) from error
    return {key.removeprefix(f"{model_type}."): value for key, value in state.items()}


def _normalization(folder: Path, config: Mapping) -> Normalization | None:
    """Mean and deviation in units of 0..255 where the folder states them."""
    timm = config.get("pretrained_cfg", config)
    if "mean" in timm and "std" in timm:
        return tuple(tuple(255 * value for value in timm[key]) for key in ("mean", "std"))
    converter = folder / "image_converter.json"
    if converter.is_file():
        settings = json.loads(converter.read_text(encoding="utf-8"))["config"]
        return convert_keras_hub_images.normalization(settings.get("scale"), settings.get("offset"))
    processor = folder / "preprocessor_config.json"
    if processor.is_file():
        settings = json.loads(processor.read_text(encoding="utf-8"))
        unit = 1 / settings.get("rescale_factor", 1 / 255)
        if not settings.get("do_normalize", True):
            return (0.0,) * 3, (unit,) * 3
        if "image_mean" in settings and "image_std" in settings:
            keys = ("image_mean", "image_std")
            return tuple(tuple(unit * value for value in settings[key]) for key in keys)
    return None
