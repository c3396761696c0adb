"""Converts image encoders of keras_hub to the weights of the image towers."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import keras_hub
import numpy as np

from tfclip.failures import first_line


def backbone(source: str) -> keras_hub.models.Backbone:
    """Read a keras_hub preset, by name or from its folder.

    Raises:
        ValueError: the folder cannot be read as the preset that it claims to be.
    """
    try:
        return keras_hub.models.Backbone.from_preset(source)
    except Exception as error:
        raise ValueError(
            f"{source} could not be read as a keras_hub preset: {first_line(error)}"
        ) from error


def normalization(settings: Mapping):
    """Return mean and deviation, in units of 0..255, of an `ImageConverter`: scale * x + offset.

    Args:
        settings: its scale and offset, also as saved: Keras writes an array as
            `{"class_name": "__numpy__", ...}`.
    """

    def channels(name: str, default: float) -> np.ndarray:
        value = settings.get(name)
        if isinstance(value, Mapping):
            value = keras.saving.deserialize_keras_object(value)
        return np.broadcast_to(default if value is None else value, 3).astype("float64")

    scale, offset = channels("scale", 1.0), channels("offset", 0.0)
    return tuple((-offset / scale).tolist()), tuple((1 / scale).tolist())


def resnet(backbone: keras_hub.models.Backbone, tower: keras.Model) -> dict:
    """Convert a `ResNetBackbone`; the tower's layers have the same names."""
    if backbone.use_pre_activation:
        raise ValueError(
            "A ResNetV2 backbone normalises before its convolutions, the tower after them."
        )
    return {layer.name: layer.get_weights() for layer in backbone.layers if layer.weights}


def vision_transformer(backbone: keras_hub.models.Backbone, tower: keras.Model) -> dict:
    """`ViTBackbone`."""
    embedding = backbone.get_layer("vit_patching_and_embedding")
    encoder = backbone.get_layer("vit_encoder")
    _check_heads(backbone, tower)
    return {
        "patches": embedding.patch_embedding.get_weights(),
        "tokens": [
            np.asarray(embedding.class_token)[0, 0],
            np.asarray(embedding.position_embedding.embeddings),
        ],
        **{f"block_{n}": block.get_weights() for n, block in enumerate(encoder.encoder_layers)},
        "norm": encoder.layer_norm.get_weights(),
    }


def clip(backbone: keras_hub.models.Backbone, tower: keras.Model) -> dict:
    """Convert a `CLIPVisionEncoder`, alone or in a `CLIPBackbone`, without the projection."""
    encoder = getattr(backbone, "vision_encoder", backbone)
    _check_heads(encoder, tower)
    if encoder.intermediate_activation != "quick_gelu":
        raise ValueError(
            f"The preset's activation is {encoder.intermediate_activation}; the tower's is "
            "quick_gelu."
        )
    embedding = encoder.embedding
    return {
        "patches": embedding.patch_embedding.get_weights(),
        "tokens": [
            np.asarray(embedding.class_embedding),
            np.asarray(embedding.position_embedding.embeddings),
        ],
        "pre_norm": encoder.pre_layer_norm.get_weights(),
        **{f"block_{n}": block.get_weights() for n, block in enumerate(encoder.encoder_layers)},
        "norm": encoder.layer_norm.get_weights(),
    }


def _check_heads(encoder, tower: keras.Model) -> None:
    heads = next(layer.heads for layer in tower.layers if hasattr(layer, "heads"))
    if encoder.num_heads != heads:
        raise ValueError(
            f"The preset's blocks have {encoder.num_heads} heads; the tower's {heads}."
        )
