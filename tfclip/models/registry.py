"""Towers and heads by name, with their default sizes; looking a name up needs no TensorFlow.

A name with a colon, `package.module:function`, refers to a tower outside the package. Names joined
by a plus, `efficientnet-lite0+efficientnet-lite2`, are image towers side by side.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tfclip import plugins
from tfclip.naming import unknown

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Tower:
    """A tower: the function that builds it (`module:function`), and its default options."""

    builder: str
    options: Mapping = field(default_factory=dict)
    kind: str = "tower"

    def build(self, **arguments) -> keras.Model:
        """Build the tower; `arguments` override the default options.

        Raises:
            ValueError: a builder outside the package is missing, takes other arguments, or does not
                return a model with one row of features per input.
        """
        builder = plugins.load(self.kind, self.builder)
        arguments = {**self.options, **arguments}
        if self.builder.startswith("tfclip."):
            return builder(**arguments)
        return _checked(self, plugins.call(self.kind, self.builder, builder, **arguments))


JOIN = "+"


@dataclass(frozen=True)
class JoinedTowers(Tower):
    """Image towers side by side; see `towers.side_by_side`."""

    towers: Mapping[str, Tower] = field(default_factory=dict)

    def build(self, **arguments) -> keras.Model:
        """Build all towers with the same arguments, and join them."""
        from tfclip.models.towers.side_by_side import side_by_side

        built = [tower.build(**arguments) for tower in self.towers.values()]
        return side_by_side(built, list(self.towers))


def _checked(tower: Tower, built: keras.Model) -> keras.Model:
    import keras

    if not isinstance(built, keras.Model):
        raise ValueError(
            f"{tower.kind} {tower.builder} must return a keras.Model; it returned a "
            f"{type(built).__name__}"
        )
    shape = built.output_shape
    if not (isinstance(shape, tuple) and len(shape) in (2, 3) and isinstance(shape[-1], int)):
        raise ValueError(
            f"{tower.kind} {tower.builder} must return features (batch, F); its output is {shape}"
        )
    return built


def _outside(kind: str, reference: str) -> Tower:
    plugins.check_reference(kind, reference)
    return Tower(reference, kind=kind)


def _bert(layers: int, width: int, heads: int, **options) -> Tower:
    sizes = {"num_layers": layers, "hidden_dim": width, "num_heads": heads}
    return Tower("tfclip.models.towers.bert:bert", {**sizes, **options})


def _mixer(patch_size: int, **options) -> Tower:
    return Tower("tfclip.models.towers.mixer:mixer", {"patch_size": patch_size, **options})


def _application(network: str) -> Tower:
    return Tower("tfclip.models.towers.applications:application", {"network": network})


def _resnet(blocks: tuple[int, ...], bottleneck: bool) -> Tower:
    options = {"blocks": blocks, "bottleneck": bottleneck}
    return Tower("tfclip.models.towers.resnet:resnet", options)


def _lite(width: float, depth: float) -> Tower:
    options = {"width": width, "depth": depth}
    return Tower("tfclip.models.towers.efficientnet_lite:efficientnet_lite", options)


def _transformer(patch_size: int, **options) -> Tower:
    builder = "tfclip.models.towers.vision_transformer:vision_transformer"
    return Tower(builder, {"patch_size": patch_size, **options})


_SMALL = {"blocks": 8, "width": 512, "token_width": 256, "channel_width": 2048}
_BASE = {"blocks": 12, "width": 768, "token_width": 384, "channel_width": 3072}
_TEENSY = "tfclip.models.towers.mixer:teensy_mixer"

# A builder takes image_size, pooling and its options, and returns a model from 0..255 pictures to
# features; one outside the package is called with image_size alone.
IMAGE_TOWERS: dict[str, Tower] = {
    # From keras.applications.
    **{f"efficientnet-b{n}": _application(f"EfficientNetB{n}") for n in range(8)},
    "efficientnet-lite0": _lite(1.0, 1.0),
    "efficientnet-lite1": _lite(1.0, 1.1),
    "efficientnet-lite2": _lite(1.1, 1.2),
    "efficientnetv2-s": _application("EfficientNetV2S"),
    "mobilenet-v3-small": _application("MobileNetV3Small"),
    "mobilenet-v3-large": _application("MobileNetV3Large"),
    "resnet-50": _application("ResNet50"),
    "convnext-tiny": _application("ConvNeXtTiny"),
    # As in timm, torchvision and keras_hub: strides in the 3x3 convolutions, no bias.
    "resnet-18": _resnet((2, 2, 2, 2), bottleneck=False),
    "resnet-50-v1.5": _resnet((3, 4, 6, 3), bottleneck=True),
    "squeezenet": Tower("tfclip.models.towers.squeezenet:squeezenet"),
    "vit-b16": _transformer(16),
    "vit-b32": _transformer(32),
    "clip-vit-b16": _transformer(16, clip=True),
    "clip-vit-b32": _transformer(32, clip=True),
    # Of any size: made by tfclip.convert from a pretrained model.
    "clip-vit": _transformer(32, clip=True),
    "siglip-vit": _transformer(
        16, hidden_activation="gelu_tanh", class_token=False, pooling="attention"
    ),
    # Names and sizes of the Mixer paper, table 1.
    "mixer-s32": _mixer(32, **_SMALL),
    "mixer-s16": _mixer(16, **_SMALL),
    "mixer-b32": _mixer(32, **_BASE),
    "mixer-b16": _mixer(16, **_BASE),
    "mixer-tiny": _mixer(8, blocks=4, width=128, token_width=64, channel_width=256),
    "clip-mixer-b32": Tower("tfclip.models.towers.mixer:clip_mixer", {"patch_size": 32}),
    "teensy-mixer-4m": Tower(_TEENSY, {"blocks": 6}),
    "teensy-mixer-5m": Tower(_TEENSY, {"blocks": 8}),
    "small-convolutional": Tower("tfclip.models.towers.convolutional:small_convolutional"),
}

# A builder takes vocabulary_size, context_length and its options.
TEXT_TOWERS: dict[str, Tower] = {
    # Sizes of Turc et al. 2019 (arXiv:1908.08962), table 1, and of BERT.
    "bert": Tower("tfclip.models.towers.bert:bert"),
    "bert-tiny": _bert(2, 128, 2),
    "bert-mini": _bert(4, 256, 4),
    "bert-small": _bert(4, 512, 8),
    "bert-medium": _bert(8, 512, 8),
    "bert-base": _bert(12, 768, 12),
    # all-MiniLM-L6-v2 (Wang et al. 2020, arXiv:2002.10957; sentence-transformers).
    "minilm": _bert(6, 384, 12, pooling="mean"),
    "distilbert": _bert(6, 768, 12, num_segments=0, pooler=False),
    # For CLIP's byte pairs: 49,408 tokens and a context of 77.
    "clip-text": Tower("tfclip.models.towers.text_transformer:clip_text"),
    "siglip-text": Tower("tfclip.models.towers.text_transformer:siglip_text"),
    "mixer-text": Tower("tfclip.models.towers.text_mixer:text_mixer"),
    "small-transformer": Tower("tfclip.models.towers.text_transformer:text_transformer"),
    "token-table": Tower("tfclip.models.towers.token_table:token_table"),
}


def joined_names(name: str) -> list[str]:
    """Return the names of the towers that stand side by side; one for a single tower.

    >>> joined_names("efficientnet-lite0+efficientnet-lite2")
    ['efficientnet-lite0', 'efficientnet-lite2']
    """
    return [name] if plugins.is_reference(name) else name.split(JOIN)


def image_tower(name: str) -> Tower:
    """Return the image tower of that name; one outside the package is imported when built, and
    names joined by a plus are towers side by side.

    Raises:
        ValueError: for an unknown name; lists the known ones, the nearest first.
    """
    if plugins.is_reference(name):
        return _outside("image tower", name)
    if JOIN in name:
        parts = joined_names(name)
        if len(set(parts)) < len(parts):
            raise ValueError(f"image tower {name} names a tower twice; name each once")
        return JoinedTowers("", towers={part: image_tower(part) for part in parts})
    if name not in IMAGE_TOWERS:
        raise unknown("image tower", name, IMAGE_TOWERS)
    return IMAGE_TOWERS[name]


def text_tower(name: str) -> Tower:
    """Return the text tower of that name; one outside the package is imported when built.

    Raises:
        ValueError: for an unknown name; lists the known ones, the nearest first.
    """
    if plugins.is_reference(name):
        return _outside("text tower", name)
    if name not in TEXT_TOWERS:
        raise unknown("text tower", name, TEXT_TOWERS)
    return TEXT_TOWERS[name]


# From a tower's features to the embedding: `module:class`, called with embed_dim and options.
HEADS: dict[str, str] = {
    "identity": "tfclip.models.heads:Identity",
    "linear": "tfclip.models.heads:Linear",
    "projection": "tfclip.models.heads:Projection",
    "perceptron": "tfclip.models.heads:Perceptron",
    "residual": "tfclip.models.heads:Residual",
}


def head(name: str) -> Callable[..., keras.layers.Layer]:
    """Return the builder of a head, which takes `embed_dim` and the head's options.

    Raises:
        ValueError: for an unknown name; lists the known ones, the nearest first.
    """
    if name not in HEADS:
        raise unknown("head", name, HEADS)
    module, kind = HEADS[name].split(":")
    return lambda *args, **options: getattr(importlib.import_module(module), kind)(*args, **options)
