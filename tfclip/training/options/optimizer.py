"""The options of the optimizer: learning rate, AdamW's constants, clipping, averaged weights."""

from __future__ import annotations

from dataclasses import dataclass

from tfclip.training.options.checks import above_zero, decay_rate, not_negative, one_of

SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW, its learning rate, clipping, averaged weights, micro-batches."""

    learning_rate: float = 1e-4
    """Peak learning rate, reached after the warm-up."""
    warmup_steps: int = 500
    """Steps of linear warm-up; at most half of all steps."""
    schedule: str = "cosine"
    """Learning rate after the warm-up: cosine (decays to 0) or constant."""
    weight_decay: float = 1e-4
    """Decoupled weight decay, except on biases, norms and the temperature; 0 is Adam."""
    micro_batch: int | None = None
    """Pictures per replica that go through the towers at a time, which bounds the memory; the
    gradients are those of the whole batch (GradCache)."""
    clip_norm: float | None = 1.0
    """Largest global norm of the gradient; None disables clipping."""
    beta_1: float = 0.9
    """Adam's decay rate of the first moment."""
    beta_2: float = 0.999
    """Adam's decay rate of the second moment."""
    epsilon: float = 1e-7
    """Adam's epsilon."""
    average: float = 0.0
    """Decay rate of the exponential moving average of the weights; 0 for none."""

    def __post_init__(self):
        one_of(self, "schedule", SCHEDULES)
        above_zero(self, "learning_rate", "epsilon", "micro_batch")
        not_negative(self, "warmup_steps", "weight_decay")
        decay_rate(self, "beta_1", "beta_2", "average")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"--clip-norm must be above 0, or None; received {self.clip_norm}")
