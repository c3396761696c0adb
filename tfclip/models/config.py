"""What a dual encoder is made of, as data: saved with every model, enough to build it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from tfclip.config_file import without_defaults
from tfclip.inputs.picture_size import RESIZE_DEFAULTS, PictureSize

LARGEST_TAKEN_SCALE = 1000
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of a `DualEncoder`; holds no path and nothing that only training needs.

    `image_options` and `text_options` override the defaults of the named tower (see
    `models.registry`); a pretrained text tower stores its resolved sizes there, so that the model
    can be rebuilt without the folder it came from. Heads are named as in `models.heads`. A model
    with `initial_logit_bias` learns a bias of its logits, for the sigmoid loss.
    """

    image_tower: str = "efficientnet-b5"
    text_tower: str = "bert-small"
    image_size: int = 224
    resize: str = "squash"
    interpolation: str = "area"
    embed_dim: int = 256
    context_length: int = 32
    vocabulary_size: int = 8000
    image_head: str = "linear"
    text_head: str = "linear"
    initial_logit_scale: float = 1 / 0.07
    initial_logit_bias: float | None = None
    precision: str = "float32"
    image_options: Mapping = field(default_factory=dict)
    text_options: Mapping = field(default_factory=dict)
    image_head_options: Mapping = field(default_factory=dict)
    text_head_options: Mapping = field(default_factory=dict)

    def __post_init__(self):
        """Refuse what no model can be built from.

        Raises:
            ValueError: naming the field, what was received and what is allowed.
        """
        for name, low, high in (
            ("image_size", 8, 4096),
            ("embed_dim", 1, 65_536),
            ("context_length", 3, 4096),
            ("vocabulary_size", 5, 10_000_000),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be {low}..{high}. Received: {getattr(self, name)}.")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}. Received: {self.precision!r}."
            )
        # Above 100 only where a pretrained model brings it: training clamps to 100.
        if not 1 <= self.initial_logit_scale <= LARGEST_TAKEN_SCALE:
            raise ValueError(
                f"initial_logit_scale must be 1..{LARGEST_TAKEN_SCALE}. "
                f"Received: {self.initial_logit_scale}."
            )
        _ = self.picture_size
        bias = self.initial_logit_bias
        if bias is not None and not -100 <= bias <= 100:
            raise ValueError(f"initial_logit_bias must be -100..100. Received: {bias}.")

    @property
    def picture_size(self) -> PictureSize:
        """The side of pictures, with how they are resized to it."""
        return PictureSize(self.image_size, self.resize, self.interpolation)

    def to_dict(self) -> dict:
        """The fields as JSON types, without the resizing options that have their defaults.

        Models that were saved before these options existed then compare equal.
        """
        return without_defaults(asdict(self), RESIZE_DEFAULTS)

    @classmethod
    def from_dict(cls, values: Mapping) -> ModelConfig:
        """Build from `to_dict`'s result.

        Raises:
            ValueError: for a field that this version does not know.
        """
        known = {f.name for f in fields(cls)}
        if strange := sorted(set(values) - known):
            raise ValueError(
                f"The model was written by another version: unknown fields {', '.join(strange)}."
            )
        return cls(**values)
