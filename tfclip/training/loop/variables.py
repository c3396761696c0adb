"""The variables of a model that training changes, and those that stay the same."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import keras
import numpy as np

from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.layers.low_rank import adapted_layers


def changing_variables(model: DualEncoder) -> list[keras.Variable]:
    """Return all variables that training changes: weights, statistics, random states, metrics, and
    those of the optimizer.

    The frozen towers and weights are excluded, because they are built from the same files and seed
    again.
    """
    unchanged = {id(variable) for variable in unchanged_variables(model)}
    of_metrics = [variable for metric in model.metrics for variable in metric.variables]
    every = [*model.variables, *of_metrics, *model.optimizer.variables]
    distinct = {id(variable): variable for variable in every if id(variable) not in unchanged}
    return list(distinct.values())


def unchanged_variables(model: DualEncoder) -> list[keras.Variable]:
    """Return the variables of the frozen towers, and the fixed weights of those with adapters."""
    frozen = [v for name in model.frozen for v in getattr(model, f"{name}_tower").variables]
    for tower in (model.image_tower, model.text_tower):
        if adapted_layers(tower):
            frozen += [weight for weight in tower.weights if not weight.trainable]
    return frozen


def checksum(variables: Sequence[keras.Variable]) -> int:
    """Return a CRC-32 of the values of all variables."""
    total = 0
    for variable in variables:
        total = zlib.crc32(np.ascontiguousarray(variable.numpy()).data, total)
    return total
