"""The options of frozen towers: which they are, where their outputs are stored, when they train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.training.options.checks import above_zero, one_of

FROZEN = {
    "none": (),
    "image": ("image",),
    "text": ("text",),
    "image,text": ("image", "text"),
}


@dataclass(frozen=True)
class FreezeOptions:
    """Frozen towers, their stored outputs, and training them later."""

    freeze: Annotated[str, tyro.conf.arg(aliases=["--lock"])] = "none"
    """Towers that keep their weights, whose outputs are computed once and stored: none, image,
    text, or image,text."""
    cache_features: bool = True
    """Store the outputs of frozen towers, instead of running the towers in every step."""
    feature_cache: Path | None = None
    """Where they are stored; RECORDS/features when not given."""
    feature_precision: str = "float32"
    """How they are stored: float32, or float16 in half the space."""
    unfreeze_after: Annotated[int | None, tyro.conf.arg(aliases=["--unlock-after"])] = None
    """From this step on train the frozen towers as well."""
    unfrozen_learning_rate: Annotated[
        float, tyro.conf.arg(aliases=["--unlocked-learning-rate"])
    ] = 1e-5
    """Highest learning rate from then on."""
    layer_decay: float = 0.75
    """From then on, the factor on the learning rate from one twelfth of a tower's depth to the
    next one below."""

    def __post_init__(self):
        one_of(self, "freeze", FROZEN)
        one_of(self, "feature_precision", ("float32", "float16"))
        above_zero(self, "unfreeze_after", "unfrozen_learning_rate")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"--layer-decay must be above 0 and at most 1; received {self.layer_decay}"
            )
        if not self.towers and self.unfreeze_after is not None:
            raise ValueError("--unfreeze-after needs --freeze image, text, or image,text")

    @property
    def towers(self) -> tuple[str, ...]:
        """The modalities whose towers are frozen at the start."""
        return FROZEN[self.freeze]

    @property
    def stores_features(self) -> bool:
        """Whether outputs of frozen towers are stored."""
        return bool(self.towers) and self.cache_features

    def check_sampling(self, sampling: SamplingOptions) -> None:
        """Refuse a sampling that changes what stored outputs were computed from.

        Raises:
            ValueError: the inputs of a frozen tower differ from step to step.
        """
        if not self.cache_features:
            return
        changes = {
            "--regions": sampling.share_of_regions > 0,
            "--crop-scale": sampling.crop_scale != (1.0, 1.0),
            "--flip": sampling.flip,
        }
        if "image" in self.towers and any(changes.values()):
            named = " and ".join(name for name, given in changes.items() if given)
            raise ValueError(
                f"{named} samples other pixels each time, of which nothing can be stored; with "
                "--freeze image use --views, or add --no-cache-features"
            )
        other_texts = sampling.phrases > 1 or sampling.share_of_regions or sampling.max_phrases
        if "text" in self.towers and other_texts:
            raise ValueError(
                "--phrases 2, --max-phrases and --regions sample other texts than are stored; with "
                "--freeze text leave them out, or add --no-cache-features"
            )
