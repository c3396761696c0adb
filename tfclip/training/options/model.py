"""The options of the model: its towers, their weights, their heads and the size of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tfclip.inputs.picture_size import INTERPOLATIONS, RESIZES
from tfclip.models.config import PRECISIONS
from tfclip.models.registry import head, image_tower, text_tower
from tfclip.training.options.checks import above_zero, one_of


@dataclass(frozen=True)
class ModelOptions:
    """The dual encoder: towers, weights, heads, sizes."""

    image_tower: str = "efficientnet-b5"
    """Image encoder, or your own as package.module:function; an unknown name prints the list."""
    text_tower: str = "bert-small"
    """Text encoder, likewise."""
    image_weights: str = "none"
    """Pretrained weights: imagenet, a name that tfclip weights list prints, a keras_hub preset,
    hf://OWNER/NAME, a folder (Hugging Face, timm, Keras), a .h5 file, a .pth file of
    EfficientNet-Lite, or none."""
    text_weights: str = "none"
    """Pretrained weights: a name that tfclip weights list prints, hf://OWNER/NAME, a keras_hub
    preset, a folder (Hugging Face, Keras), a .weights.h5 file, or none."""
    init: Path | None = None
    """Start from the whole model of this run or converted model: towers, heads, temperature,
    tokenizer, preprocessing."""
    image_size: int = 224
    """Height and width of the pictures in pixels."""
    resize: str = "squash"
    """How whole pictures become square: squash (changes the aspect ratio), or crop (resize the
    shorter side, then cut out the centre)."""
    interpolation: str = "area"
    """area, or bilinear or bicubic (antialiased as in Pillow; slower)."""
    embed_dim: int = 256
    """Dimension of the shared embedding space."""
    context_length: int | None = None
    """Longest text in tokens; by default chosen from the training captions."""
    image_head: str = "linear"
    """Head after the image tower; an unknown name prints the list."""
    text_head: str = "linear"
    """Head after the text tower."""
    vocabulary: Path | None = None
    """A vocab.model, a vocab.txt, or CLIP's byte-pair merges, to use instead of the one in the
    records."""
    precision: str = "float32"
    """float32, bfloat16, or float16 with loss scaling."""

    def __post_init__(self):
        image_tower(self.image_tower)
        text_tower(self.text_tower)
        head(self.image_head)
        head(self.text_head)
        one_of(self, "resize", RESIZES)
        one_of(self, "interpolation", INTERPOLATIONS)
        one_of(self, "precision", PRECISIONS)
        above_zero(self, "image_size", "embed_dim")
