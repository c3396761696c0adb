"""Saves a model whose weights are read, layer by layer, while they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np

from tfclip.memory import return_memory
from tfclip.models.weights.clip.layer_weights import LayerWeights


@contextmanager
def saved_from(layers: Iterable[LayerWeights]) -> Iterator[None]:
    """Context in which saving a model writes the weights of its source instead of its own.

    The model never holds them, so that a model of any size is saved with the memory of its largest
    layer. It must be saved once in the context.

    Raises:
        ValueError: a tensor is missing or has another shape; raised while the model is saved.
    """
    parts: list[keras.layers.Layer] = []
    sources = [_Weights(one) for one in layers]
    try:
        for source in sources:
            for part in source.weights.layer._flatten_layers():
                part.save_own_variables = partial(_save, part, source)
                parts.append(part)
        yield
    finally:
        for part in parts:
            del part.save_own_variables
    if left := [source.weights.name for source in sources if not source.is_written]:
        raise RuntimeError(f"the model was saved without {', '.join(left)}")


class _Weights:
    """The arrays of one layer by variable: read when the first is asked for, each given once."""

    def __init__(self, weights: LayerWeights):
        self.weights = weights
        self._arrays: dict[int, np.ndarray] | None = None

    def take(self, variable: keras.Variable) -> np.ndarray:
        if self._arrays is None:
            return_memory()
            variables = map(id, self.weights.layer.weights)
            self._arrays = dict(zip(variables, self.weights.read(), strict=True))
        return self._arrays.pop(id(variable))

    @property
    def is_written(self) -> bool:
        """Whether all arrays were taken."""
        return self._arrays == {}


class _Array:
    """An array that `numpy.array` takes over without a copy."""

    def __init__(self, array: np.ndarray):
        self._array = [array]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self._array.pop()


class _Store:
    """The store of a layer, which receives the arrays of the source for the layer's variables."""

    def __init__(self, store: Any, source: _Weights):
        self.store, self.source = store, source

    def __setitem__(self, key: str, variable: keras.Variable) -> None:
        self.store[key] = _Array(self.source.take(variable))


def _save(part: keras.layers.Layer, source: _Weights, store: Any) -> None:
    # Keras' own way, in which all layers here are stored; some pass arrays instead of variables.
    keras.layers.Layer.save_own_variables(part, _Store(store, source))
