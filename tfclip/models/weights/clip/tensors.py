"""The tensors and sizes of a model of CLIP's architecture: the inverse of `convert`."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from tfclip.models import registry
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.heads import Linear
from tfclip.models.layers.pixel_normalization import PixelNormalization
from tfclip.models.saving import TrainedModel
from tfclip.models.towers.vision_transformer import ClassAndPosition
from tfclip.models.weights.clip import open_clip_names
from tfclip.models.weights.clip.settings import Sizes, TowerSizes

_IMAGE_TOWERS = ("clip-vit", "clip-vit-b16", "clip-vit-b32")
_TEXT_TOWERS = ("clip-text",)
_POOLINGS = {"image": "class", "text": "end"}


def clip_sizes(model: TrainedModel) -> Sizes:
    """Return the sizes of both towers of a model of CLIP's architecture.

    Raises:
        ValueError: for another architecture; names the part, and what can be done.
    """
    config, encoder = model.config, model.dual_encoder
    for modality, allowed in (("image", _IMAGE_TOWERS), ("text", _TEXT_TOWERS)):
        tower = getattr(config, f"{modality}_tower")
        if tower not in allowed:
            raise _not_clip(f"its {modality} tower is {tower}, not {' or '.join(allowed)}")
        options = getattr(config, f"{modality}_options")
        pooling = options.get("pooling", _POOLINGS[modality])
        if pooling != _POOLINGS[modality]:
            raise _not_clip(f"its {modality} tower has the pooling {pooling}")
        head = getattr(encoder, f"{modality}_head")
        if not isinstance(head, Linear) or head.use_bias:
            raise _not_clip(f"its {modality} head is not one linear layer without a bias")
    if not isinstance(encoder.image_tower.get_layer("tokens"), ClassAndPosition):
        raise _not_clip("its image tower has no class token")
    tokens = encoder.text_tower.get_layer("embeddings")
    options = registry.image_tower(config.image_tower).options
    patch_size = {**options, **config.image_options}["patch_size"]
    return Sizes(
        image=_tower_sizes(encoder.image_tower),
        text=_tower_sizes(encoder.text_tower),
        image_size=config.image_size,
        patch_size=patch_size,
        embed_dim=config.embed_dim,
        context_length=tokens.context_length,
        vocabulary_size=tokens.vocabulary_size,
        end_id=tokens.vocabulary_size - 1,
    )


def _not_clip(problem: str) -> ValueError:
    return ValueError(
        f"this model does not have CLIP's architecture: {problem}; write it with --onnx DIR, which "
        "takes every model"
    )


def _blocks(tower: keras.Model) -> list[keras.layers.Layer]:
    return [layer for layer in tower.layers if layer.name.startswith("block_")]


def _tower_sizes(tower: keras.Model) -> TowerSizes:
    blocks = _blocks(tower)
    first = blocks[0]
    return TowerSizes(
        blocks=len(blocks),
        width=tower.output_shape[-1],
        heads=first.heads,
        mlp_width=first.mlp_width,
        hidden_activation=first.hidden_activation,
        epsilon=first.epsilon,
    )


def pixel_scale(model: TrainedModel) -> tuple[list[float], list[float]]:
    """Return mean and deviation of pixels in units of 0..1, exact in units of 0..255."""
    layer = next(
        part
        for part in model.dual_encoder.image_tower.layers
        if isinstance(part, PixelNormalization)
    )
    return [_part(value) for value in layer.mean], [_part(value) for value in layer.deviation]


def _part(value: float) -> float:
    """Return x such that 255 x is `value`, if there is one."""
    near = value / 255
    candidates = (near, float(np.nextafter(near, 1e9)), float(np.nextafter(near, -1e9)))
    return next((x for x in candidates if 255 * x == value), near)


def clip_tensors(model: DualEncoder) -> dict[str, np.ndarray]:
    """Return the tensors of a model of CLIP's architecture by the names of transformers."""
    image, text = model.image_tower, model.text_tower
    tensors: dict[str, np.ndarray] = {"logit_scale": np.asarray(model.logit_scale.log_scale)}
    if model.logit_bias is not None:
        tensors["logit_bias"] = np.asarray(model.logit_bias.bias)
    name = "vision_model.embeddings"
    (patches,) = _values(image.get_layer("patches"))
    tensors[f"{name}.patch_embedding.weight"] = patches.transpose(3, 2, 0, 1)
    class_token, places = _values(image.get_layer("tokens"))
    tensors[f"{name}.class_embedding"] = class_token
    tensors[f"{name}.position_embedding.weight"] = places
    _norm(tensors, "vision_model.pre_layrnorm", _values(image.get_layer("pre_norm")))
    _add_blocks(tensors, "vision_model.encoder.layers", image)
    _norm(tensors, "vision_model.post_layernorm", _values(image.get_layer("norm")))
    name = "text_model.embeddings"
    table, positions = _values(text.get_layer("embeddings"))
    tensors[f"{name}.token_embedding.weight"] = table
    tensors[f"{name}.position_embedding.weight"] = positions
    _add_blocks(tensors, "text_model.encoder.layers", text)
    _norm(tensors, "text_model.final_layer_norm", _values(text.get_layer("norm")))
    for head, name in ((model.image_head, "visual"), (model.text_head, "text")):
        tensors[f"{name}_projection.weight"] = _values(head)[0].T
    return {name: np.array(value, np.float32, order="C") for name, value in tensors.items()}


def _values(layer: keras.layers.Layer) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in layer.weights]


def _norm(tensors: dict[str, np.ndarray], name: str, pair: list[np.ndarray]) -> None:
    tensors[f"{name}.weight"], tensors[f"{name}.bias"] = pair


def _add_blocks(tensors: dict[str, np.ndarray], stem: str, tower: keras.Model) -> None:
    for number, block in enumerate(_blocks(tower)):
        name, values = f"{stem}.{number}", _values(block)
        _norm(tensors, f"{name}.layer_norm1", values[:2])
        for at, part in enumerate(("q_proj", "k_proj", "v_proj")):
            kernel, bias = values[2 + 2 * at : 4 + 2 * at]
            tensors[f"{name}.self_attn.{part}.weight"] = kernel.reshape(len(kernel), -1).T
            tensors[f"{name}.self_attn.{part}.bias"] = bias.reshape(-1)
        kernel, bias = values[8:10]
        tensors[f"{name}.self_attn.out_proj.weight"] = kernel.reshape(-1, kernel.shape[-1]).T
        tensors[f"{name}.self_attn.out_proj.bias"] = bias
        _norm(tensors, f"{name}.layer_norm2", values[10:12])
        for at, part in enumerate(("fc1", "fc2")):
            kernel, bias = values[12 + 2 * at : 14 + 2 * at]
            tensors[f"{name}.mlp.{part}.weight"] = kernel.T
            tensors[f"{name}.mlp.{part}.bias"] = bias


def open_clip_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of `clip_tensors` by the names of open_clip's `CLIP`."""
    renamed: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        if name.endswith("_projection.weight"):
            ours = "visual.proj" if name.startswith("visual") else "text_projection"
            renamed[ours] = np.ascontiguousarray(value.T)
        elif ".self_attn." in name and ".out_proj." not in name:
            stem, _, part = name.partition(".self_attn.")
            letter, kind = part.split(".")
            if letter != "q_proj":
                continue
            parts = [tensors[f"{stem}.self_attn.{each}_proj.{kind}"] for each in "qkv"]
            renamed[f"{_block_name(stem)}.attn.in_proj_{kind}"] = np.concatenate(parts)
        else:
            renamed[_open_clip_name(name)] = value
    return renamed


_NAMES, _MODULES, _PARTS = (
    {theirs: ours for ours, theirs in table.items()}
    for table in (open_clip_names.NAMES, open_clip_names.MODULES, open_clip_names.PARTS)
)


def _block_name(stem: str) -> str:
    tower = "visual." if stem.startswith("vision_model") else ""
    return f"{tower}transformer.resblocks.{stem.rsplit('.', 1)[1]}"


def _open_clip_name(name: str) -> str:
    if name in _NAMES or "." not in name:
        return _NAMES.get(name, name)
    module, _, kind = name.rpartition(".")
    if module in _MODULES:
        return f"{_MODULES[module]}.{kind}"
    stem, part = next((module[: -len(p) - 1], _PARTS[p]) for p in _PARTS if module.endswith(p))
    return f"{_block_name(stem)}.{part}.{kind}"
