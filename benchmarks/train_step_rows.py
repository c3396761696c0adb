"""What benchmarks.train_step compares: systems, their counterparts in PyTorch, random batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tfclip.naming import unknown

IMAGE_SIZE = 224


@dataclass(frozen=True)
class System:
    """One dual encoder, by the names of both worlds.

    Attributes:
        recipe: of `training.options.recipes`; gives towers, heads and the optimiser's settings.
        changes: flags of the recipe that differ.
        tokens: texts are padded to so many; 0 where the text tower is locked and its outputs are
            stored, so that only the image side is run and trained.
        timm: name and options of timm's image tower, or of its class where it has no such name.
        transformers: class and configuration of the text tower in transformers.
    """

    recipe: str
    changes: Mapping = field(default_factory=dict)
    tokens: int = 0
    timm: tuple[str, Mapping] | None = None
    transformers: tuple[str, Mapping] | None = None


@dataclass(frozen=True)
class Row:
    """A comparison: `ours` in tfclip beside `theirs`, in tfclip too, or the same in PyTorch."""

    about: str
    ours: System
    theirs: System | None = None
    aim: float | None = None


def _image(tower: str, timm: str, **options) -> System:
    """An image tower alone, against stored texts, as in recipe `teensy-5m`."""
    return System("teensy-5m", {"image_tower": tower}, timm=(timm, options))


def _bert(layers: int, width: int, heads: int) -> tuple[str, Mapping]:
    sizes = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
    return "BertModel", {**sizes, "intermediate_size": 4 * width}


def _teensy(blocks: int) -> System:
    options = {"patch_size": 16, "num_blocks": blocks, "embed_dim": 512}
    # timm's ratios are to the channels in both perceptrons: 784 and 256 hidden units.
    timm = ("MlpMixer", {**options, "mlp_ratio": (784 / 512, 0.5)})
    return System({6: "teensy-4m", 8: "teensy-5m"}[blocks], timm=timm)


def _liteclip(tokens: int) -> System:
    return System("liteclip", {}, tokens, ("convnext_tiny", {}), _bert(4, 256, 4))


def _simple_clip(tokens: int) -> System:
    # ResNet-50 as timm has it: keras.applications' multiplies less.
    changes = {"image_tower": "resnet-50-v1.5"}
    return System("simple-clip", changes, tokens, ("resnet50", {}), ("DistilBertModel", {}))


# Keras' EfficientNets drop a fifth of the last residual branches; timm's only when asked.
_DROP = {"drop_path_rate": 0.2}

ROWS: dict[str, Row] = {
    "efficientnet-b0": Row(
        "EfficientNetB0, texts stored",
        _image("efficientnet-b0", "efficientnet_b0", **_DROP),
        aim=1.25,
    ),
    "resnet-50": Row(
        "ResNet50 (strides in the 3x3 convolutions on both sides), texts stored",
        _image("resnet-50-v1.5", "resnet50"),
        aim=1.15,
    ),
    "liteclip": Row(
        "ConvNeXt-Tiny + bert-mini, texts padded to 24 tokens on both sides", _liteclip(24), aim=1.3
    ),
    "liteclip-128": Row(
        "the same, texts padded to 128 tokens on both sides, as in the original", _liteclip(128)
    ),
    "mixer-s16": Row(
        "Mixer S/16 (8 blocks, 512 channels), texts stored",
        _image("mixer-s16", "mixer_s16_224"),
        aim=1.1,
    ),
    "teensy-5m": Row("teensy's Mixer of 8 blocks, texts stored", _teensy(8), aim=1.1),
    "clip-mixer": Row(
        "the Mixer pair beside the Transformer pair of clip-vit-b32, both in tfclip, 77 tokens",
        System("clip-mixer", {}, 77),
        System("clip-vit-b32", {}, 77),
    ),
    "clip-vit-b32": Row(
        "ViT-B/32 + CLIP's transformer, 77 tokens; the image tower from transformers as well",
        System(
            "clip-vit-b32",
            {},
            77,
            ("transformers", {"patch_size": 32}),
            ("CLIPTextModel", {}),
        ),
        aim=1.1,
    ),
    # Not among the defaults.
    "teensy-4m": Row("teensy's Mixer of 6 blocks, texts stored", _teensy(6)),
    "visual-genome": Row(
        "EfficientNetB5 + small-BERT, 24 tokens",
        System("visual-genome", {}, 24, ("efficientnet_b5", _DROP), _bert(4, 512, 8)),
    ),
    "simple-clip": Row("ResNet50 + DistilBERT, 24 tokens on both sides", _simple_clip(24)),
    "simple-clip-100": Row(
        "the same, 100 tokens on both sides, as in the original", _simple_clip(100)
    ),
}

DEFAULT_ROWS = (
    "efficientnet-b0",
    "resnet-50",
    "liteclip",
    "liteclip-128",
    "mixer-s16",
    "teensy-5m",
    "clip-mixer",
    "clip-vit-b32",
)


def row(name: str) -> Row:
    """The comparison of that name.

    Raises:
        ValueError: for an unknown name; lists the known ones, the nearest first.
    """
    if name not in ROWS:
        raise unknown("row", name, ROWS)
    return ROWS[name]


def random_batch(system: System, batch_size: int, vocabulary_size: int) -> dict[str, np.ndarray]:
    """The same random pictures and texts for both sides.

    Returns:
        `image` (B,S,S,3) uint8; and either `token_ids` (B,L) int32 and `text_mask` (B,L) bool, of 8
        to 24 tokens before the padding, or `text_features` (B,384) float32.
    """
    generator = np.random.default_rng(0)
    shape = (batch_size, IMAGE_SIZE, IMAGE_SIZE, 3)
    batch = {"image": generator.integers(0, 256, shape, np.uint8)}
    if not system.tokens:
        features = generator.normal(size=(batch_size, 384)).astype(np.float32)
        return batch | {"text_features": features, "text_mask": np.ones((batch_size, 1), bool)}
    lengths = generator.integers(8, 25, batch_size)
    mask = np.arange(system.tokens) < lengths[:, None]
    ids = generator.integers(1, vocabulary_size, mask.shape, np.int32) * mask
    # CLIP's tower in transformers reads at the largest id, its end-of-text; ours where texts end.
    ids[np.arange(batch_size), lengths - 1] = vocabulary_size - 1
    return batch | {"token_ids": ids.astype(np.int32), "text_mask": mask}
