"""The options of the objective: the contrastive loss, its temperature, and the tagging loss."""

from __future__ import annotations

from dataclasses import dataclass

from tfclip.training.options.checks import not_negative, one_of

LOSSES = ("softmax", "sigmoid")


@dataclass(frozen=True)
class ObjectiveOptions:
    """The contrastive loss, its temperature, and the auxiliary tagging loss."""

    loss: str = "softmax"
    """Contrastive loss: softmax, or sigmoid (SigLIP); both allow several positives per row."""
    logit_scale: float = 1 / 0.07
    """Initial value of the learnt logit scale."""
    logit_bias: float = -10.0
    """Initial value of the learnt bias of the sigmoid loss."""
    word_weight: float = 0.0
    """Weight of the tagging loss, binary cross-entropy over caption words, which helps with several
    labels per picture; 0 for none."""

    def __post_init__(self):
        one_of(self, "loss", LOSSES)
        not_negative(self, "word_weight")
