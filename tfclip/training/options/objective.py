"""The options of the objective: the contrastive loss, its temperature, and the tagging loss."""

from __future__ import annotations

from dataclasses import dataclass

from tfclip.training.options.checks import not_negative, one_of

LOSSES = ("softmax", "sigmoid")


@dataclass(frozen=True)
class ObjectiveOptions:
    """The contrastive loss, and the tagging loss beside it."""

    loss: str = "softmax"
    """softmax, or sigmoid (SigLIP); both with several positives to a row."""
    logit_scale: float = 1 / 0.07
    """Starting value of the learnt factor on the cosine."""
    logit_bias: float = -10.0
    """Starting value of the learnt bias of the sigmoid loss."""
    word_weight: float = 0.0
    """Weight of the tagging loss: binary cross-entropy of each picture over the words of its
    captions, for several labels to a picture. 0 for none."""

    def __post_init__(self):
        one_of(self, "loss", LOSSES)
        not_negative(self, "word_weight")
