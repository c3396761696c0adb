"""The towers by name, with their default sizes; no TensorFlow is needed to look a name up."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tfclip.naming import unknown

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Tower:
    """Where a tower is built (`module:function`) and what its name fixes."""

    builder: str
    options: Mapping = field(default_factory=dict)

    def build(self, **arguments) -> keras.Model:
        """Call the builder; later arguments win over the name's own options."""
        module, function = self.builder.split(":")
        return getattr(importlib.import_module(module), function)(**{**self.options, **arguments})


def _bert(layers: int, width: int, heads: int, **options) -> Tower:
    sizes = {"num_layers": layers, "hidden_dim": width, "num_heads": heads}
    return Tower("tfclip.models.bert:bert", {**sizes, **options})


def _mixer(patch_size: int, **options) -> Tower:
    return Tower("tfclip.models.mixer:mixer", {"patch_size": patch_size, **options})


_SMALL = {"blocks": 8, "width": 512, "token_width": 256, "channel_width": 2048}
_BASE = {"blocks": 12, "width": 768, "token_width": 384, "channel_width": 3072}

# A builder takes image_size and its options, and returns a model from 0..255 pictures to features.
IMAGE_TOWERS: dict[str, Tower] = {
    **{
        f"efficientnet-b{n}": Tower(
            "tfclip.models.convolutional:efficientnet", {"variant": f"b{n}"}
        )
        for n in range(8)
    },
    # Names and sizes of the Mixer paper, table 1.
    "mixer-s32": _mixer(32, **_SMALL),
    "mixer-s16": _mixer(16, **_SMALL),
    "mixer-b32": _mixer(32, **_BASE),
    "mixer-b16": _mixer(16, **_BASE),
    "mixer-tiny": _mixer(8, blocks=4, width=128, token_width=64, channel_width=256),
    "squeezenet": Tower("tfclip.models.squeezenet:squeezenet"),
    "small-convolutional": Tower("tfclip.models.convolutional:small_convolutional"),
}

# A builder takes vocabulary_size, context_length and its options.
TEXT_TOWERS: dict[str, Tower] = {
    # Sizes of Turc et al. 2019 (arXiv:1908.08962), table 1, and of BERT.
    "bert": Tower("tfclip.models.bert:bert"),
    "bert-tiny": _bert(2, 128, 2),
    "bert-mini": _bert(4, 256, 4),
    "bert-small": _bert(4, 512, 8),
    "bert-medium": _bert(8, 512, 8),
    "bert-base": _bert(12, 768, 12),
    # all-MiniLM-L6-v2 (Wang et al. 2020, arXiv:2002.10957; sentence-transformers).
    "minilm": _bert(6, 384, 12, pooling="mean"),
    "distilbert": _bert(6, 768, 12, num_segments=0, pooler=False),
    "small-transformer": Tower("tfclip.models.text_transformer:text_transformer"),
}


def image_tower(name: str) -> Tower:
    """The image tower of that name.

    Raises:
        ValueError: for an unknown name; lists the known ones, the nearest first.
    """
    if name not in IMAGE_TOWERS:
        raise unknown("image tower", name, IMAGE_TOWERS)
    return IMAGE_TOWERS[name]


def text_tower(name: str) -> Tower:
    """The text tower of that name.

    Raises:
        ValueError: for an unknown name; lists the known ones, the nearest first.
    """
    if name not in TEXT_TOWERS:
        raise unknown("text tower", name, TEXT_TOWERS)
    return TEXT_TOWERS[name]
