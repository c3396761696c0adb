"""Finds a pretrained CLIP, and opens its tensors under the names of transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfclip.models.weights import preprocessing
from tfclip.models.weights.clip import presets, settings
from tfclip.models.weights.clip.open_clip_names import Renamed, open_clip_names, taker
from tfclip.models.weights.clip.settings import Sizes
from tfclip.models.weights.preprocessing import Preprocessing
from tfclip.models.weights.safetensors_files import open_tensors, open_weights, weights_in
from tfclip.models.weights.texts.json_files import read_json
from tfclip.models.weights.torch_files import SUFFIXES, TorchFile

OPEN_CLIP_CONFIG = "open_clip_config.json"
HUGGING_FACE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin",
)
FILES = (".safetensors", *SUFFIXES)
# CLIP's temperature at the end of its training, for towers that come without one.
ASSUMED_SCALE = 100


@dataclass(frozen=True)
class ClipSource:
    """A pretrained dual encoder with its settings; its tensors are not read yet.

    Attributes:
        path: the folder or file.
        kind: "Hugging Face", "open_clip" or "keras_hub".
        sizes: the sizes of both towers.
        preprocessing: how pictures are preprocessed.
        tensors: tensors by the names of transformers' CLIPModel.
        weights: the file of the tensors, or the index of several.
        notes: assumptions that were made, to be shown to the user.
        text_path: the folder of the text tower, if it is another one.
    """

    path: Path
    kind: str
    sizes: Sizes
    preprocessing: Preprocessing
    tensors: Mapping[str, np.ndarray]
    weights: Path
    notes: tuple[str, ...] = field(default=())
    text_path: Path | None = None


def find_clip(
    path: Path, activation: str | None = None, text_path: Path | None = None
) -> ClipSource:
    """Open a folder or a file of a pretrained CLIP or SigLIP.

    Args:
        path: a Hugging Face, open_clip or keras_hub folder, or an open_clip file.
        activation: "gelu" or "quick_gelu", for a file that does not state it.
        text_path: the folder of CLIP's text tower with its projection, if `path` is that of the
            image tower.

    Raises:
        FileNotFoundError: files are missing; names them.
        ValueError: they are of another kind, or have an option that is not supported.
    """
    if text_path is not None:
        return _two_folders(path, text_path)
    if path.is_file():
        return _open_clip_file(path, activation)
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path} does not exist. Pass a Hugging Face, open_clip or keras_hub folder, an "
            f"open_clip file ({', '.join(FILES)}), or hf://OWNER/NAME."
        )
    if (path / OPEN_CLIP_CONFIG).is_file():
        return _open_clip_folder(path)
    if (path / "config.json").is_file():
        return _hugging_face(path)
    there = ", ".join(sorted(p.name for p in path.iterdir())[:12]) or "nothing"
    raise FileNotFoundError(
        f"{path} holds no pretrained CLIP: expected config.json (Hugging Face) or "
        f"{OPEN_CLIP_CONFIG} with the weights beside it; found {there}."
    )


def _keras_hub(path: Path, is_siglip: bool) -> ClipSource:
    usual = preprocessing.SIGLIP if is_siglip else preprocessing.CLIP
    seen, notes = presets.preset_preprocessing(path, usual)
    tensors, sizes = presets.open_preset(path)
    weights = path / presets.WEIGHTS_FILE
    return ClipSource(path, "keras_hub", sizes, seen, tensors, weights, notes)


def _two_folders(path: Path, text_path: Path) -> ClipSource:
    """Open transformers' CLIPVisionModelWithProjection and CLIPTextModelWithProjection."""
    folders = {"clip_vision_model": path, "clip_text_model": text_path}
    configs = {}
    for kind, folder in folders.items():
        configs[kind] = read_json(folder / "config.json")
        if (received := configs[kind].get("model_type")) != kind:
            raise ValueError(f"{folder / 'config.json'} is for {received!r}; expected {kind!r}.")
    widths = [config.get("projection_dim", 512) for config in configs.values()]
    if widths[0] != widths[1]:
        raise ValueError(
            f"{path} has a projection to {widths[0]} numbers, {text_path} to {widths[1]}; they do "
            "not belong together."
        )
    whole = {"model_type": "clip", "projection_dim": widths[0]}
    whole |= {"vision_config": configs["clip_vision_model"]}
    whole |= {"text_config": configs["clip_text_model"]}
    sizes = settings.from_hugging_face(whole, f"{path} with {text_path}")
    seen, notes = _processor(path, sizes)
    tensors: dict[str, Callable[[], np.ndarray]] = {}
    for folder in folders.values():
        part = open_tensors(weights_in(folder, HUGGING_FACE_WEIGHTS))
        tensors |= {name: taker(part, name) for name in part}
    for name in ("visual_projection.weight", "text_projection.weight"):
        if name not in tensors:
            raise ValueError(f"{path} and {text_path} lack {name}: a tower without projection.")
    tensors["logit_scale"] = lambda: np.array(math.log(ASSUMED_SCALE))
    notes += (f"the folders hold no temperature: a logit scale of {ASSUMED_SCALE} is assumed",)
    weights = weights_in(path, HUGGING_FACE_WEIGHTS)
    return ClipSource(
        path, "Hugging Face", sizes, seen, Renamed(tensors), weights, notes, text_path
    )


def _hugging_face(path: Path) -> ClipSource:
    config = read_json(path / "config.json")
    if config.get("class_name") in presets.CLASSES:
        return _keras_hub(path, config["class_name"] == presets.CLASSES[1])
    if "class_name" in config and "model_type" not in config:
        raise ValueError(
            f"{path} is a keras_hub preset of {config['class_name']}; allowed: "
            f"{', '.join(presets.CLASSES)}."
        )
    sizes = settings.from_hugging_face(config, str(path / "config.json"))
    found, notes = _processor(path, sizes)
    weights = weights_in(path, HUGGING_FACE_WEIGHTS)
    tensors = open_weights(path, HUGGING_FACE_WEIGHTS)
    return ClipSource(path, "Hugging Face", sizes, found, tensors, weights, notes)


def _processor(path: Path, sizes: Sizes) -> tuple[Preprocessing, tuple[str, ...]]:
    """Return the preprocessing of a Hugging Face folder, and a note if it is assumed."""
    usual = preprocessing.SIGLIP if sizes.is_siglip else preprocessing.CLIP
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (path / name).is_file():
            processor = read_json(path / name)
            origin = str(path / name)
            return preprocessing.from_processor(processor, sizes.image_size, origin), ()
    return usual, (
        f"{path} does not state its preprocessing: {usual.resize}, {usual.interpolation} and "
        "the usual mean and deviation are assumed",
    )


def _open_clip_folder(path: Path) -> ClipSource:
    origin = str(path / OPEN_CLIP_CONFIG)
    config = read_json(path / OPEN_CLIP_CONFIG)
    processor = config.get("preprocess_cfg", {})
    sizes = settings.from_open_clip(config.get("model_cfg", config), origin)
    weights = weights_in(path, OPEN_CLIP_WEIGHTS)
    return ClipSource(
        path,
        "open_clip",
        sizes,
        preprocessing.from_open_clip(processor, origin),
        open_clip_names(open_tensors(weights)),
        weights,
    )


def _open_clip_file(path: Path, activation: str | None) -> ClipSource:
    if path.suffix not in FILES:
        raise ValueError(f"{path} is not a file of a pretrained CLIP; allowed: {', '.join(FILES)}.")
    tensors = open_tensors(path)
    if "visual_projection.weight" in tensors:
        raise ValueError(
            f"{path} is part of a Hugging Face folder: pass the folder, with config.json."
        )
    if "visual.conv1.weight" not in tensors:
        named = ", ".join(list(tensors)[:3])
        raise ValueError(
            f"{path} holds no CLIP with a ViT in open_clip's layout (visual.conv1.weight is "
            f"missing; it holds {named}, ...). An image tower alone is loaded with --image-weights."
        )
    script = isinstance(tensors, TorchFile) and "input_resolution" in tensors
    if activation is None and not script:
        raise ValueError(
            f"{path} does not state the activation of its model: pass --activation quick_gelu "
            "(OpenAI's weights, DFN, MetaCLIP 1) or --activation gelu (LAION's and DataComp's)."
        )
    renamed = open_clip_names(tensors)
    sizes = settings.from_tensors(renamed, activation or "quick_gelu")
    notes = (
        f"{path.name} does not state its preprocessing and heads: crop, bicubic, CLIP's mean "
        f"and deviation, {settings.HEAD_WIDTH} channels a head are assumed",
    )
    return ClipSource(path, "open_clip", sizes, preprocessing.CLIP, renamed, path, notes)
