"""Activations that Keras does not have."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfclip")
def quick_gelu(x):
    """x * sigmoid(1.702 x), elementwise: the GELU of OpenAI's CLIP."""
    return x * ops.sigmoid(1.702 * x)


@keras.saving.register_keras_serializable("tfclip")
def gelu_tanh(x):
    """GELU by its approximation with a hyperbolic tangent, elementwise: that of SigLIP."""
    return keras.activations.gelu(x, approximate=True)


def activation(name: str):
    """An activation for a layer: Keras' by name, "quick_gelu" or "gelu_tanh"."""
    own = {"quick_gelu": quick_gelu, "gelu_tanh": gelu_tanh}
    return own.get(name) or keras.activations.get(name)
