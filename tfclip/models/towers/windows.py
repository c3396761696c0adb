"""Features of windows of a picture from one pass of an image tower.

Convolutional towers, and transformers and Mixers that average their tokens: the tower's own pooling
(mean, maximum, statistics of several maps, attention) is applied to the part of its feature maps,
or of its grid of patches, that a window covers.

Transformers that use the class token: each window has a class token of its own in the last quarter
of the blocks, which attends to itself and to the patches of its window (Ding et al. 2022,
arXiv:2208.08984, mask class tokens; in the last blocks alone: Xu et al. 2023, arXiv:2302.12242).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfclip.models.layers.image_pooling import ClassToken, Quarters
from tfclip.models.towers.vision_transformer import AttentionPool, EncoderBlock

_POOLINGS = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    Quarters,
    keras.layers.GlobalAveragePooling1D,
    AttentionPool,
)
# Layers between the pooling and the features; each works on vectors.
_AFTER = (keras.layers.Concatenate, keras.layers.LayerNormalization)
# Of the side of a map: a box that ends between two cells by rounding has neither.
_ROUNDING = 1e-4

# From the maps of a tower and a window, to the features of the window.
Maps = dict[int, Any]
Pool = Callable[[Maps, np.ndarray], Any]


class TowerWindows:
    """Computes the features of windows of pictures.

    Args:
        tower: from pictures (B,S,S,3) to features (B,F); towers side by side are allowed.
        name: that of the tower, for the message.

    Raises:
        ValueError: the tower has no feature map or patches that are pooled.
    """

    def __init__(self, tower: keras.Model, name: str):
        self._tower = tower
        self._maps: list[keras.KerasTensor] = []
        self._inside: list[TowerWindows] = []
        try:
            self._pool = self._walk(tower.outputs[0])
        except _NoMap:
            raise ValueError(
                f"received tiles dense for the image tower {name}, which pools no feature map and "
                "no patches (or leaves this to the head); allowed: a tower with pooling mean, "
                "mean-max, statistics or attention, a vision transformer with pooling class, or "
                "tiles 1, 1+4, 1+9 or 1+4+9"
            ) from None
        self._to_maps = keras.Model(tower.input, self._maps) if self._maps else None

    def __call__(self, pictures, boxes: np.ndarray):
        """Return the features (B,T,F) of windows of pictures (B,S,S,3) in 0..255.

        Args:
            pictures: as the tower takes them.
            boxes: (T,4) y0,x0,y1,x1 from 0 to 1; windows are enlarged to whole cells of each map.
        """
        return self._features(self._computed(pictures), boxes)

    def _computed(self, pictures) -> Maps:
        maps: Maps = {}
        if self._to_maps is not None:
            values = self._to_maps(pictures, training=False)
            values = values if isinstance(values, list | tuple) else [values]
            maps |= {id(key): value for key, value in zip(self._maps, values, strict=True)}
        for inside in self._inside:
            maps |= inside._computed(pictures)
        return maps

    def _features(self, maps: Maps, boxes: np.ndarray):
        return self._pool(maps, np.asarray(boxes, np.float64))

    def _walk(self, tensor: keras.KerasTensor) -> Pool:
        """Return how a tensor behind the pooling is computed from the maps: (B,T,...)."""
        operation, node, _ = tensor._keras_history
        inputs = operation._inbound_nodes[node].input_tensors
        if isinstance(operation, _POOLINGS):
            return self._pooling(operation, inputs[0])
        if isinstance(operation, ClassToken):
            return self._class_tokens(inputs[0])
        if isinstance(operation, keras.Model) and list(inputs) == list(self._tower.inputs):
            inside = TowerWindows(operation, operation.name)
            self._inside.append(inside)
            return inside._features
        if isinstance(operation, _AFTER) and len(tensor.shape) == 2:
            parts = [self._walk(each) for each in inputs]
            several = isinstance(operation, keras.layers.Concatenate)

            def apply(maps: Maps, boxes: np.ndarray):
                values = [part(maps, boxes) for part in parts]
                return ops.concatenate(values, axis=-1) if several else operation(values[0])

            return apply
        raise _NoMap

    def _map(self, tensor: keras.KerasTensor) -> int:
        if not any(tensor is each for each in self._maps):
            self._maps.append(tensor)
        return id(tensor)

    def _pooling(self, layer: keras.Layer, tensor: keras.KerasTensor) -> Pool:
        """Pool each window of a map (B,H,W,C), or of tokens (B,P,C), a class token in all."""
        key, tokens = self._map(tensor), len(tensor.shape) == 3
        height, width = _grid(tensor.shape[1]) if tokens else tensor.shape[1:3]
        first = tensor.shape[1] - height * width if tokens else 0
        shape = (-1, height, width, tensor.shape[-1])

        def pool(maps: Maps, boxes: np.ndarray):
            x = maps[key]
            grid = ops.reshape(x[:, first:], shape) if tokens else x
            rows = []
            for y, z in windows(boxes, height, width):
                part = grid[:, y, z]
                if tokens:
                    count = (y.stop - y.start) * (z.stop - z.start)
                    part = ops.reshape(part, (-1, count, shape[-1]))
                    part = ops.concatenate([x[:, :first], part], axis=1) if first else part
                rows.append(layer(part))
            return ops.stack(rows, axis=1)

        return pool

    def _class_tokens(self, tensor: keras.KerasTensor) -> Pool:
        """Run a class token for each window through the last blocks; no pooling of patches."""
        norm, blocks = _blocks(tensor)
        last = blocks[-max(1, len(blocks) // 4) :]
        keys = [self._map(block.input) for block in last]
        height, width = _grid(tensor.shape[1] - 1)

        def attend(maps: Maps, boxes: np.ndarray):
            patches = np.zeros((len(boxes), height, width), bool)
            for row, (y, z) in zip(patches, windows(boxes, height, width), strict=True):
                row[y, z] = True
            own = np.eye(len(boxes), dtype=bool)
            mask = np.concatenate([own, patches.reshape(len(boxes), -1)], axis=1)
            x = ops.repeat(maps[keys[0]][:, :1], len(boxes), axis=1)
            for block, key in zip(last, keys, strict=True):
                x = block.attend(x, maps[key], mask)
            return norm(x)

        return attend


class _NoMap(Exception):
    """The walk reached a layer that is neither a pooling nor behind one."""


def windows(boxes: np.ndarray, height: int, width: int) -> list[tuple[slice, slice]]:
    """Return the rows and columns of a map's cells that each box touches.

    >>> windows(np.array([[0, 0.4, 0.6, 1]]), 7, 7)
    [(slice(0, 5, None), slice(2, 7, None))]
    """
    return [
        (_cells(y0, y1, height), _cells(x0, x1, width))
        for y0, x0, y1, x1 in np.asarray(boxes, np.float64).tolist()
    ]


def _cells(start: float, stop: float, side: int) -> slice:
    return slice(math.floor(start * side + _ROUNDING), math.ceil(stop * side - _ROUNDING))


def _grid(patches: int) -> tuple[int, int]:
    """Return the sides of a square of patches; a class token may be one more."""
    side = math.isqrt(patches)
    if side * side not in (patches, patches - 1) or not side:
        raise _NoMap
    return side, side


def _blocks(tensor: keras.KerasTensor) -> tuple[keras.Layer, Sequence[EncoderBlock]]:
    """Return the last norm and the encoder blocks before the class token, in their order."""
    norm, node, _ = tensor._keras_history
    if not isinstance(norm, keras.layers.LayerNormalization):
        raise _NoMap
    blocks: list[EncoderBlock] = []
    (tensor,) = norm._inbound_nodes[node].input_tensors
    while isinstance(tensor._keras_history.operation, EncoderBlock):
        blocks.insert(0, tensor._keras_history.operation)
        tensor = blocks[0].input
    if not blocks:
        raise _NoMap
    return norm, blocks
