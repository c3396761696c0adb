"""Finds a pretrained CLIP, and opens its tensors under the names of transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfclip.models.weights import preprocessing
from tfclip.models.weights.clip import settings
from tfclip.models.weights.clip.settings import Sizes
from tfclip.models.weights.preprocessing import Preprocessing
from tfclip.models.weights.safetensors_files import open_tensors, weights_in
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


@dataclass(frozen=True)
class ClipSource:
    """A pretrained dual encoder with its settings; its tensors are not read yet.

    Attributes:
        path: the folder or file.
        kind: "Hugging Face" or "open_clip".
        sizes: the sizes of both towers.
        preprocessing: how pictures are preprocessed.
        tensors: tensors by the names of transformers' CLIPModel.
        weights: the file of the tensors, or the index of several.
        notes: assumptions that were made, to be shown to the user.
    """

    path: Path
    kind: str
    sizes: Sizes
    preprocessing: Preprocessing
    tensors: Mapping[str, np.ndarray]
    weights: Path
    notes: tuple[str, ...] = field(default=())


def find_clip(path: Path, activation: str | None = None) -> ClipSource:
    """Open a folder or a file of a pretrained CLIP or SigLIP.

    Args:
        path: a Hugging Face or open_clip folder, or an open_clip file.
        activation: "gelu" or "quick_gelu", for a file that does not state it.

    Raises:
        FileNotFoundError: files are missing; names them.
        ValueError: they are of another kind, or have an option that is not supported.
    """
    if path.is_file():
        return _open_clip_file(path, activation)
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path} does not exist. Pass a Hugging Face or open_clip folder, an open_clip file "
            f"({', '.join(FILES)}), or hf://OWNER/NAME."
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


def _hugging_face(path: Path) -> ClipSource:
    config = read_object(path / "config.json")
    sizes = settings.from_hugging_face(config, str(path / "config.json"))
    usual = preprocessing.SIGLIP if sizes.is_siglip else preprocessing.CLIP
    found, notes = usual, []
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (path / name).is_file():
            processor = read_object(path / name)
            found = preprocessing.from_processor(processor, sizes.image_size, str(path / name))
            break
    else:
        notes.append(
            f"{path} does not state its preprocessing: {usual.resize}, {usual.interpolation} and "
            "the usual mean and deviation are assumed"
        )
    weights = weights_in(path, HUGGING_FACE_WEIGHTS)
    tensors = open_tensors(weights)
    return ClipSource(path, "Hugging Face", sizes, found, tensors, weights, tuple(notes))


def _open_clip_folder(path: Path) -> ClipSource:
    origin = str(path / OPEN_CLIP_CONFIG)
    config = read_object(path / OPEN_CLIP_CONFIG)
    processor = config.get("preprocess_cfg", {})
    sizes = settings.from_open_clip(config.get("model_cfg", config), origin)
    weights = weights_in(path, OPEN_CLIP_WEIGHTS)
    return ClipSource(
        path,
        "open_clip",
        sizes,
        preprocessing.from_open_clip(processor, origin),
        _open_clip_names(open_tensors(weights)),
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
    renamed = _open_clip_names(tensors)
    sizes = settings.from_tensors(renamed, activation or "quick_gelu")
    notes = (
        f"{path.name} does not state its preprocessing and heads: crop, bicubic, CLIP's mean "
        f"and deviation, {settings.HEAD_WIDTH} channels a head are assumed",
    )
    return ClipSource(path, "open_clip", sizes, preprocessing.CLIP, renamed, path, notes)


class _Renamed(Mapping[str, np.ndarray]):
    """Tensors under other names, derived from the original ones when they are accessed."""

    def __init__(self, table: Mapping[str, Callable[[], np.ndarray]]):
        self._table = table

    def __getitem__(self, name: str) -> np.ndarray:
        return self._table[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


_OPEN_CLIP = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",
}
_OPEN_CLIP_MODULES = {
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "ln_final": "text_model.final_layer_norm",
}
_OPEN_CLIP_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_STEMS = {
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}


def _open_clip_names(tensors: Mapping[str, np.ndarray]) -> _Renamed:
    """Return the tensors of open_clip (and OpenAI, with the same names) by transformers' names."""
    table: dict[str, Callable[[], np.ndarray]] = {}
    for name in tensors:
        # CustomTextCLIP has a separate text tower.
        plain = name.removeprefix("text.")
        take = _taker(tensors, name)
        if plain in _OPEN_CLIP:
            table[_OPEN_CLIP[plain]] = take
        elif plain in ("visual.proj", "text_projection"):
            projection = "visual" if plain == "visual.proj" else "text"
            table[f"{projection}_projection.weight"] = _taker(tensors, name, np.transpose)
        elif plain == "text_projection.weight":
            table[plain] = take
        else:
            table.update(_open_clip_part(tensors, name, plain))
    return _Renamed(table)


def _open_clip_part(tensors, name: str, plain: str) -> dict[str, Callable[[], np.ndarray]]:
    module, _, kind = plain.rpartition(".")
    if module in _OPEN_CLIP_MODULES:
        return {f"{_OPEN_CLIP_MODULES[module]}.{kind}": _taker(tensors, name)}
    for stem, ours in _STEMS.items():
        if not plain.startswith(stem):
            continue
        block, _, part = plain.removeprefix(stem).partition(".")
        if part in ("attn.in_proj_weight", "attn.in_proj_bias"):
            kind = part.removeprefix("attn.in_proj_")
            return {
                f"{ours}{block}.self_attn.{letter}_proj.{kind}": _taker(
                    tensors, name, lambda whole, place=place: np.split(whole, 3)[place]
                )
                for place, letter in enumerate("qkv")
            }
        module, _, kind = part.rpartition(".")
        if module in _OPEN_CLIP_PARTS:
            return {f"{ours}{block}.{_OPEN_CLIP_PARTS[module]}.{kind}": _taker(tensors, name)}
    return {name: _taker(tensors, name)}  # never read, so it is refused by its name


def _taker(tensors, name: str, change: Callable | None = None) -> Callable[[], np.ndarray]:
    return (lambda: tensors[name]) if change is None else (lambda: change(tensors[name]))


def read_object(path: Path) -> dict:
    """Read the JSON object of a file.

    Raises:
        ValueError: for anything else; names the file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object.")
    return content
