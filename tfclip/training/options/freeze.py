"""The options of frozen towers: which, where their outputs are stored, when to unfreeze them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.models.compute import AUTO, FLOAT32, check_compute
from tfclip.training.options.checks import above_zero, one_of

FROZEN = {
    "none": (),
    "image": ("image",),
    "text": ("text",),
    "image,text": ("image", "text"),
}
LARGEST_RANK = 256


@dataclass(frozen=True)
class FreezeOptions:
    """Frozen towers, their stored outputs, unfreezing."""

    freeze: Annotated[str, tyro.conf.arg(aliases=["--lock"])] = "none"
    """Towers whose weights stay fixed, and whose outputs are computed once and stored: none, image,
    text, or image,text."""
    cache_features: bool = True
    """Store the outputs of frozen towers instead of running the towers in each step."""
    feature_cache: Path | None = None
    """The folder for the stored outputs; by default RECORDS/features."""
    feature_precision: str = "float32"
    """Number format of the stored outputs: float32; float16 for half the size; or uint8, 8 bits for
    each number of the pictures' outputs and float16 for the texts'."""
    compute: str = AUTO
    """Number format in which a frozen image tower computes its stored outputs: float32
    (TensorFlow), bfloat16 or float32-openvino (OpenVINO, the extra [openvino]), or auto: by
    OpenVINO where it is measured to be faster and as accurate. --precision is that of training."""
    unfreeze_after: Annotated[int | None, tyro.conf.arg(aliases=["--unlock-after"])] = None
    """Train the frozen towers as well from this step on."""
    unfrozen_learning_rate: Annotated[
        float, tyro.conf.arg(aliases=["--unlocked-learning-rate"])
    ] = 1e-5
    """Peak learning rate after --unfreeze-after."""
    layer_decay: float = 0.75
    """Layer-wise decay of the learning rate after --unfreeze-after, and of the towers of --init:
    the factor per twelfth of a tower's depth, from the output down; 1 for none."""

    lora: str | None = None
    """Train low-rank adapters (LoRA) instead of the transformer towers: image=RANK, text=RANK, or
    both with a comma. A tower with rank 0, or that is not named, is frozen; heads and temperature
    train. The adapters are merged into the saved model."""

    def __post_init__(self):
        _ = self.lora_ranks
        if self.lora is not None and self.freeze != "none":
            raise ValueError(
                f"received --lora {self.lora} and --freeze {self.freeze}; --lora freezes towers "
                "with the rank 0 (image=8,text=0) and the weights of the others; omit --freeze"
            )
        one_of(self, "freeze", FROZEN)
        one_of(self, "feature_precision", ("float32", "float16", "uint8"))
        check_compute(self.compute)
        if self.compute not in (AUTO, FLOAT32) and not (
            "image" in self.towers and self.stores_features
        ):
            raise ValueError(
                f"received --compute {self.compute}, which is for stored outputs of a frozen image "
                "tower; add --freeze image, or omit it (--precision is the number format of "
                "training)"
            )
        above_zero(self, "unfreeze_after", "unfrozen_learning_rate")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"--layer-decay must be above 0 and at most 1; received {self.layer_decay}"
            )
        if not self.towers and self.unfreeze_after is not None:
            raise ValueError("--unfreeze-after needs --freeze image, text, or image,text")

    @property
    def towers(self) -> tuple[str, ...]:
        """Return the modalities whose towers are frozen at the start."""
        return FROZEN[self.freeze]

    @property
    def lora_ranks(self) -> dict[str, int]:
        """Return the rank of the adapters by modality; empty without --lora.

        Raises:
            ValueError: for anything but image=RANK and text=RANK, or ranks of 0 alone.
        """
        if self.lora is None:
            return {}
        ranks = dict.fromkeys(("image", "text"), 0)
        for part in self.lora.split(","):
            tower, _, rank = part.strip().partition("=")
            if tower not in ranks or not rank.isdecimal() or int(rank) > LARGEST_RANK:
                raise ValueError(
                    f"received --lora {self.lora}; allowed: image=RANK, text=RANK or both with a "
                    f"comma, with ranks of 0 to {LARGEST_RANK}"
                )
            ranks[tower] = int(rank)
        if not any(ranks.values()):
            raise ValueError(f"received --lora {self.lora}, without an adapter; omit it")
        return ranks

    @property
    def stores_features(self) -> bool:
        """Return whether outputs of frozen towers are stored."""
        return bool(self.towers) and self.cache_features

    def check_sampling(self, sampling: SamplingOptions) -> None:
        """Refuse random sampling of the inputs of a frozen tower whose outputs are stored.

        Raises:
            ValueError: the inputs of such a tower vary from step to step.
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
                f"{named} samples different pixels in each step, so that outputs cannot be stored; "
                "with --freeze image use --views instead, or add --no-cache-features"
            )
        other_texts = sampling.phrases > 1 or sampling.share_of_regions or sampling.max_phrases
        if "text" in self.towers and other_texts:
            raise ValueError(
                "--phrases 2, --max-phrases and --regions sample texts whose outputs are not "
                "stored; with --freeze text omit them, or add --no-cache-features"
            )
