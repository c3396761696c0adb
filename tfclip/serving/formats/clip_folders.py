"""Writes a model of CLIP's architecture as a folder of transformers or of open_clip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tfclip import files
from tfclip.inputs.text import BytePairTokenizer
from tfclip.inputs.tokenizers import byte_pair
from tfclip.models.saving import TrainedModel
from tfclip.models.weights.clip.settings import Sizes, TowerSizes
from tfclip.models.weights.clip.sources import OPEN_CLIP_CONFIG
from tfclip.models.weights.clip.tensors import (
    clip_sizes,
    clip_tensors,
    open_clip_tensors,
    pixel_scale,
)
from tfclip.serving.formats.json_files import write_json
from tfclip.serving.formats.tokenizer_json import tokenizer_json

# transformers' names of activations, and Pillow's numbers of filters.
_ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_tanh": "gelu_pytorch_tanh"}
_FILTERS = {"bilinear": 2, "bicubic": 3}
_NEAREST_FILTER = "bilinear"
# open_clip has no option for the epsilon of its norms.
_OPEN_CLIP_EPSILON = 1e-5
_OPEN_CLIP_VOCABULARY = 49_408


def write_hugging_face(model: TrainedModel, folder: Path) -> list[str]:
    """Write `folder` for transformers' `CLIPModel`, atomically; it must not exist.

    Returns:
        What differs from the model, to be shown to the user.

    Raises:
        ValueError: the model does not have CLIP's architecture.
        OSError: the folder cannot be written.
    """
    sizes, tokenizer = clip_sizes(model), _byte_pairs(model)
    if model.dual_encoder.logit_bias is not None:
        raise ValueError(
            "this model has a logit bias (--loss sigmoid), which transformers' CLIPModel lacks; "
            "write it with --open-clip DIR or --onnx DIR"
        )
    interpolation, notes = _interpolation(model)
    with files.new_folder(folder) as place:
        tensors = clip_tensors(model.dual_encoder)
        save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
        write_json(place / "config.json", _hugging_face_config(sizes, tensors))
        write_json(place / "preprocessor_config.json", _processor(model, interpolation))
        _write_tokenizer(tokenizer, place)
        (place / "README.md").write_text(_card(model, "transformers", notes), encoding="utf-8")
    return notes


def write_open_clip(model: TrainedModel, folder: Path) -> list[str]:
    """Write `folder` for `open_clip.create_model_and_transforms("local-dir:FOLDER")`, atomically.

    Returns:
        What differs from the model, to be shown to the user.

    Raises:
        ValueError: the model does not have CLIP's architecture, or open_clip lacks an option.
        OSError: the folder cannot be written.
    """
    sizes, tokenizer = clip_sizes(model), _byte_pairs(model)
    config = _open_clip_config(model, sizes)
    interpolation, notes = _interpolation(model)
    if sizes.vocabulary_size != _OPEN_CLIP_VOCABULARY:
        notes.append(
            f"the vocabulary has {sizes.vocabulary_size} tokens, and open_clip's own tokenizer "
            f"{_OPEN_CLIP_VOCABULARY}: tokenize with merges.txt or tokenizer.json of the folder"
        )
    mean, deviation = pixel_scale(model)
    preprocessing = {
        "size": sizes.image_size,
        "mode": "RGB",
        "mean": mean,
        "std": deviation,
        "interpolation": interpolation,
        "resize_mode": "shortest" if model.config.resize == "crop" else "squash",
        "fill_color": 0,
    }
    with files.new_folder(folder) as place:
        tensors = open_clip_tensors(clip_tensors(model.dual_encoder))
        save_file(tensors, place / "open_clip_model.safetensors", metadata={"format": "pt"})
        settings = {"model_cfg": config, "preprocess_cfg": preprocessing}
        write_json(place / OPEN_CLIP_CONFIG, settings)
        _write_tokenizer(tokenizer, place)
        (place / "README.md").write_text(_card(model, "open_clip", notes), encoding="utf-8")
    return notes


def _byte_pairs(model: TrainedModel) -> BytePairTokenizer:
    if not isinstance(model.tokenizer, BytePairTokenizer):
        kind = type(model.tokenizer).__name__
        raise ValueError(
            f"this model has a {kind}, and CLIP's libraries read byte pairs; write it with --onnx "
            "DIR, which takes every tokenizer"
        )
    return model.tokenizer


def _interpolation(model: TrainedModel) -> tuple[str, list[str]]:
    own = model.config.interpolation
    if own in _FILTERS:
        return own, []
    note = (
        f"the interpolation {own} has no counterpart there: {_NEAREST_FILTER} is written, which "
        "changes pixels a little; train with --interpolation bicubic for the same pixels"
    )
    return _NEAREST_FILTER, [note]


def _hugging_face_config(sizes: Sizes, tensors: Mapping[str, np.ndarray]) -> dict:
    first, last = sizes.vocabulary_size - 2, sizes.vocabulary_size - 1
    text = {
        **_tower(sizes.text),
        "model_type": "clip_text_model",
        "vocab_size": sizes.vocabulary_size,
        "max_position_embeddings": sizes.context_length,
        "projection_dim": sizes.embed_dim,
        "bos_token_id": first,
        "eos_token_id": last,
        "pad_token_id": 0,
    }
    vision = {
        **_tower(sizes.image),
        "model_type": "clip_vision_model",
        "image_size": sizes.image_size,
        "patch_size": sizes.patch_size,
        "num_channels": 3,
        "projection_dim": sizes.embed_dim,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": sizes.embed_dim,
        "logit_scale_init_value": float(tensors["logit_scale"]),
        "text_config": text,
        "vision_config": vision,
    }


def _tower(sizes: TowerSizes) -> dict[str, Any]:
    return {
        "hidden_size": sizes.width,
        "intermediate_size": sizes.mlp_width,
        "num_hidden_layers": sizes.blocks,
        "num_attention_heads": sizes.heads,
        "hidden_act": _ACTIVATIONS[sizes.hidden_activation],
        "layer_norm_eps": sizes.epsilon,
    }


def _processor(model: TrainedModel, interpolation: str) -> dict:
    size = model.config.image_size
    both = {"height": int(size), "width": int(size)}
    crops = model.config.resize == "crop"
    mean, deviation = pixel_scale(model)
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": int(size)} if crops else both,
        "resample": _FILTERS[interpolation],
        "do_center_crop": crops,
        "crop_size": both,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": deviation,
    }


def _open_clip_config(model: TrainedModel, sizes: Sizes) -> dict:
    image, text = sizes.image, sizes.text
    activations = {image.hidden_activation, text.hidden_activation}
    if len(activations) > 1 or not activations <= {"gelu", "quick_gelu"}:
        raise ValueError(
            f"open_clip has one activation for both towers, gelu or quick_gelu; this model has "
            f"{' and '.join(sorted(activations))}; write it with --hf DIR or --onnx DIR"
        )
    if {image.epsilon, text.epsilon} != {_OPEN_CLIP_EPSILON}:
        raise ValueError(
            f"open_clip's norms have the epsilon {_OPEN_CLIP_EPSILON}; this model has "
            f"{image.epsilon} and {text.epsilon}; write it with --hf DIR or --onnx DIR"
        )
    config: dict[str, Any] = {
        "embed_dim": sizes.embed_dim,
        "quick_gelu": activations == {"quick_gelu"},
        "vision_cfg": {
            "image_size": sizes.image_size,
            "layers": image.blocks,
            "width": image.width,
            "head_width": image.width // image.heads,
            "patch_size": sizes.patch_size,
            "mlp_ratio": image.mlp_width / image.width,
        },
        "text_cfg": {
            "context_length": sizes.context_length,
            "vocab_size": sizes.vocabulary_size,
            "width": text.width,
            "heads": text.heads,
            "layers": text.blocks,
            "mlp_ratio": text.mlp_width / text.width,
        },
    }
    if model.dual_encoder.logit_bias is not None:
        config["init_logit_bias"] = float(model.dual_encoder.logit_bias())
    return config


def _write_tokenizer(tokenizer: BytePairTokenizer, place: Path) -> None:
    content = tokenizer_json(tokenizer)
    write_json(place / "tokenizer.json", content)
    write_json(place / "vocab.json", content["model"]["vocab"])
    tokenizer.save(place)
    names = {
        "bos_token": byte_pair.START,
        "eos_token": byte_pair.END,
        "unk_token": byte_pair.END,
        "pad_token": "!",
    }
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": tokenizer.context_length,
        "do_lower_case": True,
        **names,
    }
    write_json(place / "tokenizer_config.json", settings)
    write_json(place / "special_tokens_map.json", names)


def _card(model: TrainedModel, library: str, notes: list[str]) -> str:
    """Return a README.md whose front matter holds the licence of the source."""
    known = dict(model.trained_on)
    head = [f"library_name: {library}", "pipeline_tag: zero-shot-image-classification"]
    if known.get("licence"):
        head.insert(0, f"license: {known['licence']}")
    lines = [f"- {key}: {value}" for key, value in known.items() if value not in (None, [], {})]
    if not known.get("licence"):
        lines.append("- licence: not stated by the source")
    parts = [
        "---\n" + "\n".join(head) + "\n---",
        f"# A CLIP for {library}",
        "Written by tfclip. What is known of the model:",
        "\n".join(lines),
    ]
    if notes:
        parts.append(
            "What differs from the exported model:\n\n" + "\n".join(f"- {n}" for n in notes)
        )
    return "\n\n".join(parts) + "\n"
