"""Loads pretrained weights into image towers: from hubs, from local files and folders."""

from __future__ import annotations

from pathlib import Path

import h5py
import keras
import keras_hub
import numpy as np

from tfclip.failures import first_line
from tfclip.models.towers.applications import (
    BUILDERS,
    from_official,
    official,
    set_imagenet_normalization,
)
from tfclip.models.weights import convert_keras_hub_images
from tfclip.models.weights.image_checkpoints import SOURCES, Sources, layout_for
from tfclip.models.weights.image_folders import load_folder, put
from tfclip.models.weights.names import NONE, looks_like_path
from tfclip.naming import unknown

IMAGENET = "imagenet"
_STORE = "https://storage.googleapis.com/tensorflow/keras-applications/"
# URLs of the weights without top; Keras looks for the file name in ~/.keras/models first.
URLS = {
    **{
        f"efficientnet-b{n}": "https://storage.googleapis.com/keras-applications/"
        f"efficientnetb{n}_notop.h5"
        for n in range(8)
    },
    "efficientnetv2-s": f"{_STORE}efficientnet_v2/efficientnetv2-s_notop.h5",
    **{
        f"mobilenet-v3-{size}": f"{_STORE}mobilenet_v3/weights_mobilenet_v3_{size}_224_1.0_float_"
        "no_top_v2.h5"
        for size in ("small", "large")
    },
    "resnet-50": f"{_STORE}resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "convnext-tiny": f"{_STORE}convnext/convnext_tiny_notop.h5",
    "squeezenet": "https://github.com/rcmalli/keras-squeezenet/releases/download/v1.0/"
    "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
}


def load_image_weights(tower: keras.Model, name: str, weights: str) -> None:
    """Load pretrained weights into an image tower; after an error the tower is unchanged.

    Args:
        tower: the model that `registry.image_tower(name)` built.
        name: the tower's name, e.g. "efficientnet-b5".
        weights: "none"; "imagenet"; a keras_hub preset name; a timm, Hugging Face or keras_hub
            folder; or a `.h5` or `.weights.h5` file without top, of keras.applications or saved
            from the same tower.

    Raises:
        ValueError: the tower has no such weights, or they are of another architecture.
        FileNotFoundError: the path does not exist, or the official weights cannot be downloaded;
            the message names the file to download and where to put it.
    """
    path = Path(weights).expanduser()
    if weights == NONE:
        return
    if weights == IMAGENET:
        _load_imagenet(tower, name)
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
    if name.startswith("efficientnet-"):
        set_imagenet_normalization(tower)


def _load_imagenet(tower: keras.Model, name: str) -> None:
    if name in BUILDERS:
        build = getattr(keras.applications, BUILDERS[name])
        try:
            original = build(include_top=False, weights=IMAGENET)
        except Exception as error:
            raise _to_fetch(name, first_line(error)) from error
        tower.set_weights(from_official(original.get_weights(), tower))
    elif name in URLS:
        raise _to_fetch(name, "no library provides them")
    elif preset := SOURCES.get(name, Sources()).imagenet_preset:
        _load_preset(tower, name, preset)
    else:
        presets = [tower for tower, sources in SOURCES.items() if sources.imagenet_preset]
        raise ValueError(
            f"--image-weights imagenet exists for {', '.join([*URLS, *presets])}. Received tower: "
            f"{name}. Use --image-weights none or the path of a file or folder."
        )


def _to_fetch(name: str, reason: str) -> FileNotFoundError:
    url = URLS[name]
    where = f"put it into ~/.keras/models/ or pass --image-weights /path/to/{url.split('/')[-1]}"
    return FileNotFoundError(
        f"The ImageNet weights of {name} could not be downloaded ({reason}). Download {url} and "
        f"{where if name in BUILDERS else where.split(' or ')[1]}, or use --image-weights none."
    )


def _load_preset(tower: keras.Model, name: str, preset: str) -> None:
    layout = SOURCES.get(name, Sources()).keras_hub
    if layout is None:
        raise ValueError(
            f"--image-weights {preset}: {name} has no keras_hub presets. Allowed: none"
            f"{', imagenet' if name in URLS else ''}, or the path of a file or folder."
        )
    known = getattr(keras_hub.models, layout.kind.split("|")[0]).presets
    if "://" not in preset and preset not in known:
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
        converter.scale, converter.offset
    )
    put(tower, name, layout.read(backbone, tower), normalization, preset)


def _load_file(tower: keras.Model, name: str, path: Path) -> None:
    """Load a file in the tower's own layout, or in that of the network that it is based on."""
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
