"""The architecture of a dual encoder as data: saved with every model, sufficient to rebuild it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from tfclip.config_file import without_defaults
from tfclip.inputs.picture_size import RESIZE_DEFAULTS, PictureSize

LARGEST_INITIAL_SCALE = 1000
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of a `DualEncoder`, without paths and without training settings.

    Examples:
        >>> config = ModelConfig(image_tower="resnet-18", text_tower="bert-tiny", embed_dim=64)
        >>> ModelConfig.from_dict(config.to_dict()) == config
        True

    Attributes:
        image_tower, text_tower: names in `models.registry`, or `package.module:function`.
        image_size: height and width of the pictures, in pixels.
        resize, interpolation: how pictures are resized, see `PictureSize`.
        embed_dim: size of the embedding.
        context_length: tokens per text, with the special ones.
        vocabulary_size: rows of the token table.
        image_head, text_head: names in `models.registry.HEADS`.
        initial_logit_scale: the factor that multiplies the cosine at the start of training.
        initial_logit_bias: with a number the model learns a bias of its logits, which the sigmoid
            loss needs; None learns none.
        precision: "float32", "bfloat16" or "float16" of the computation.
        image_options, text_options: override the defaults of the named tower. A pretrained text
            tower stores its resolved sizes here, so that the model can be rebuilt without the
            folder it came from.
        image_head_options, text_head_options: arguments of the heads, see `models.heads`.
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
        """Check the fields.

        Raises:
            ValueError: names the field, the received value and the allowed ones.
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
        # Only pretrained models have more than 100: training clamps the scale to 100.
        if not 1 <= self.initial_logit_scale <= LARGEST_INITIAL_SCALE:
            raise ValueError(
                f"initial_logit_scale must be 1..{LARGEST_INITIAL_SCALE}. "
                f"Received: {self.initial_logit_scale}."
            )
        _ = self.picture_size
        bias = self.initial_logit_bias
        if bias is not None and not -100 <= bias <= 100:
            raise ValueError(f"initial_logit_bias must be -100..100. Received: {bias}.")

    @property
    def picture_size(self) -> PictureSize:
        """The size of the pictures, with the way they are resized to it."""
        return PictureSize(self.image_size, self.resize, self.interpolation)

    def to_dict(self) -> dict:
        """Return the fields as JSON types, without the resizing options that have their defaults.

        Models that were saved before these options existed then compare equal.
        """
        return without_defaults(asdict(self), RESIZE_DEFAULTS)

    @classmethod
    def from_dict(cls, values: Mapping) -> ModelConfig:
        """Build from the result of `to_dict`.

        Raises:
            ValueError: for a field that this version does not have.
        """
        names = {f.name for f in fields(cls)}
        if unknown_fields := sorted(set(values) - names):
            raise ValueError(
                "The model was saved by another version of tfclip; unknown fields: "
                f"{', '.join(unknown_fields)}. Update tfclip, or train again."
            )
        return cls(**values)
