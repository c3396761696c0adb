"""The same model computing in bfloat16, by TensorFlow alone, for exports."""

from __future__ import annotations

from dataclasses import replace

from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.initial_values import without_random_weights
from tfclip.models.saving import TrainedModel


def in_bfloat16(model: TrainedModel) -> TrainedModel:
    """Return a copy of a model whose layers compute in bfloat16; its weights stay float32."""
    with without_random_weights():
        dual_encoder = DualEncoder(replace(model.config, precision="bfloat16"))
    for ours, theirs in zip(dual_encoder.weights, model.dual_encoder.weights, strict=True):
        if ours.shape != theirs.shape:
            raise ValueError(f"{ours.path} {ours.shape} is not {theirs.path} {theirs.shape}")
        ours.assign(theirs)
    return replace(model, dual_encoder=dual_encoder)
