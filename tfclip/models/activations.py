"""Activations that Keras does not have."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfclip")
def quick_gelu(x):
    """x * sigmoid(1.702 x), elementwise: the GELU of OpenAI's CLIP."""
    return x * ops.sigmoid(1.702 * x)


def activation(name: str):
    """An activation for a layer: Keras' by name, or "quick_gelu"."""
    return quick_gelu if name == "quick_gelu" else keras.activations.get(name)
