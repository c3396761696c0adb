"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685) for the projections of a tower."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np
from keras import ops


@dataclass(frozen=True)
class Adapters:
    """What `add_adapters` changed in a tower.

    Attributes:
        layers: the number of projections with an adapter.
        parameters: the numbers of parameters in all adapters.
        fixed: the number of parameters of the tower, which do not train.
    """

    layers: int
    parameters: int
    fixed: int


def add_adapters(tower: keras.Model, rank: int) -> Adapters:
    """Add a trainable product A B to each dense projection W of a transformer; all else is fixed.

    y = x W + x A B + bias, where A (inputs, rank) is random, B (rank, outputs) zero, so that the
    tower first computes what it did. Projections are all `Dense` and `EinsumDense` layers: queries,
    keys, values and outputs of attention, and the perceptrons. When the layer is saved, its kernel
    is W + A B, so that a saved model has no adapters. Training never computes the product A B.

    Raises:
        ValueError: the tower has no attention; names it.
    """
    layers = list(tower._flatten_layers())
    if not any(isinstance(layer, keras.layers.MultiHeadAttention) for layer in layers):
        raise ValueError(f"the tower {tower.name} has no attention, whose projections are adapted")
    fixed = sum(math.prod(variable.shape) for variable in tower.weights)
    for variable in tower.weights:
        variable.trainable = False
    adapted = [layer for layer in layers if _is_projection(layer)]
    added = sum(_adapt(layer, rank) for layer in adapted)
    return Adapters(len(adapted), added, fixed)


def _is_projection(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense))


def is_adapted(layer: keras.layers.Layer) -> bool:
    """Return whether the layer has an adapter."""
    return getattr(layer, "low_rank_a", None) is not None


def _adapt(layer: keras.layers.Dense | keras.layers.EinsumDense, rank: int) -> int:
    """Add the adapter to one layer; return the number of its parameters."""
    kernel = layer.kernel
    contracted = _contracted(layer)
    inputs, outputs = kernel.shape[:contracted], kernel.shape[contracted:]
    bound = 1 / math.sqrt(math.prod(inputs))
    layer._tracker.unlock()
    layer.low_rank_a = layer.add_weight(
        shape=(*inputs, rank),
        initializer=keras.initializers.RandomUniform(-bound, bound),
        name="low_rank_a",
    )
    layer.low_rank_b = layer.add_weight(
        shape=(rank, *outputs), initializer="zeros", name="low_rank_b"
    )
    layer._tracker.lock()
    equations = _equations(layer)
    layer.call = partial(_call, layer, equations)
    layer.save_own_variables = partial(_save_merged, layer)
    return math.prod(layer.low_rank_a.shape) + math.prod(layer.low_rank_b.shape)


def _contracted(layer) -> int:
    """Return the number of the kernel's first axes that are summed over."""
    if isinstance(layer, keras.layers.Dense):
        return 1
    _, kernel, output = _letters(layer.equation)
    return sum(letter not in output for letter in kernel)


def _letters(equation: str) -> tuple[str, str, str]:
    left, output = equation.split("->")
    inputs, kernel = left.split(",")
    return inputs, kernel, output


def _equations(layer) -> tuple[str, str] | None:
    """Return x A and (x A) B as einsum equations; None for a Dense layer.

    Raises:
        ValueError: the kernel's inputs are not its first axes.
    """
    if isinstance(layer, keras.layers.Dense):
        return None
    inputs, kernel, output = _letters(layer.equation)
    count = _contracted(layer)
    summed, kept = kernel[:count], kernel[count:]
    if any(letter in output for letter in summed) or any(letter in inputs for letter in kept):
        raise ValueError(f"the layer {layer.path} has the equation {layer.equation}")
    rank = next(letter for letter in "zyxwvutsrq" if letter not in layer.equation)
    between = "".join(letter for letter in inputs if letter not in summed) + rank
    return f"{inputs},{summed}{rank}->{between}", f"{between},{rank}{kept}->{output}"


def _call(layer, equations: tuple[str, str] | None, inputs, training=None):
    """The layer's `call`, with the adapter before bias and activation."""
    if equations is None:
        x = ops.matmul(inputs, layer.kernel)
        x = x + ops.matmul(ops.matmul(inputs, layer.low_rank_a), layer.low_rank_b)
    else:
        down, up = equations
        x = ops.einsum(layer.equation, inputs, layer.kernel)
        x = x + ops.einsum(up, ops.einsum(down, inputs, layer.low_rank_a), layer.low_rank_b)
    if layer.bias is not None:
        x = ops.add(x, layer.bias)
    return x if layer.activation is None else layer.activation(x)


def merged_kernel(layer) -> np.ndarray:
    """Return W + A B of an adapted layer, in float32."""
    a, b = np.asarray(layer.low_rank_a), np.asarray(layer.low_rank_b)
    product = a.reshape(-1, a.shape[-1]).astype("float64") @ b.reshape(len(b), -1)
    kernel = np.asarray(layer.kernel)
    return (kernel + product.reshape(kernel.shape)).astype(kernel.dtype)


def _save_merged(layer, store) -> None:
    """Save the layer as one without an adapter."""
    values: dict = {}
    type(layer).save_own_variables(layer, values)
    # Keras stores a dense layer's kernel first, in a file whose entries cannot be replaced.
    values["0"] = merged_kernel(layer)
    for name, value in values.items():
        store[name] = value


def adapted_layers(tower: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of a tower that have adapters."""
    return [layer for layer in tower._flatten_layers() if is_adapted(layer)]
