"""Which tensors of a pretrained CLIP are the weights of which layer; they are read one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np

from tfclip.memory import return_memory
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.weights.clip.sources import ClipSource

# Arrays of this many bytes, such as token tables, are assigned in parts of so many rows.
LARGE, ROWS = 16 * 2**20, 2048
# Buffers whose values follow from the sizes.
_BUFFERS = ("position_ids", "attn_mask", "input_resolution", "context_length", "vocab_size")


class TensorReader:
    """Reads tensors by name and records which were used; a missing one is an error."""

    def __init__(self, tensors: Mapping[str, np.ndarray], origin: str):
        self.tensors, self.origin = tensors, origin
        self.used: set[str] = set()

    def __call__(self, name: str) -> np.ndarray:
        """Read a tensor as float32."""
        if name not in self.tensors:
            raise ValueError(f"{self.origin} lacks {name}; it does not fit its configuration.")
        self.used.add(name)
        return np.asarray(self.tensors[name], "float32")

    def pair(self, name: str) -> list[np.ndarray]:
        """Weight and bias of a norm."""
        return [self(f"{name}.weight"), self(f"{name}.bias")]

    def dense(self, name: str) -> list[np.ndarray]:
        """(out, in) to (in, out), and the bias."""
        return [self(f"{name}.weight").T, self(f"{name}.bias")]

    def scalar(self, name: str) -> float:
        """Return the one number of a () or (1,) tensor."""
        return float(self(name).reshape(()))

    def check_all_used(self) -> None:
        """Refuse a source with tensors that are not part of the model."""
        left = [
            name
            for name in self.tensors
            if name not in self.used and name.rsplit(".", 1)[-1] not in _BUFFERS
        ]
        if left:
            raise ValueError(
                f"{self.origin}: {len(left)} tensors are not part of a model of its "
                f"configuration: {', '.join(sorted(left)[:3])}."
            )


@dataclass(frozen=True)
class LayerWeights:
    """The weights of one layer of the model, not read yet.

    Attributes:
        layer: the layer.
        name: the name of the weights in the source, for messages.
        origin: the file of the source.
        load: reads the arrays, in the order of `layer.weights`.
    """

    layer: keras.layers.Layer
    name: str
    origin: str
    load: Callable[[], list[np.ndarray]]

    def read(self) -> list[np.ndarray]:
        """Read the arrays, in the order of `layer.weights`.

        Raises:
            ValueError: one is missing or has another shape.
        """
        arrays = self.load()
        for variable, array in zip(self.layer.weights, arrays, strict=True):
            if tuple(variable.shape) != array.shape:
                raise ValueError(
                    f"{self.origin}: {self.name} is {array.shape}, its configuration expects "
                    f"{tuple(variable.shape)}."
                )
        return arrays

    def assign(self) -> None:
        """Set the weights of the layer."""
        arrays = self.read()
        for variable, array in zip(self.layer.weights, arrays, strict=True):
            if array.nbytes < LARGE:
                variable.assign(array)
                continue
            # In place: assigning the whole table would need room for it once more.
            for start in range(0, len(array), ROWS):
                variable.value[start : start + ROWS].assign(array[start : start + ROWS])
        del arrays, array
        return_memory()


def layer_weights(
    source: ClipSource, read: TensorReader, model: DualEncoder
) -> Iterator[LayerWeights]:
    """Yield the weights of all layers of a model that is built for `source`."""
    siglip = source.sizes.is_siglip
    image, text = model.image_tower, model.text_tower

    def weights(layer: keras.layers.Layer, name: str, load: Callable, *more) -> LayerWeights:
        return LayerWeights(layer, name, read.origin, partial(load, *more))

    name = "vision_model.embeddings"
    yield weights(image.get_layer("patches"), f"{name}.patch_embedding", _patches, read, siglip)
    yield weights(image.get_layer("tokens"), f"{name}.position_embedding", _tokens, read, siglip)
    if not siglip:
        name = "vision_model.pre_layrnorm"
        yield weights(image.get_layer("pre_norm"), name, read.pair, name)
    yield from _blocks(read, image, "vision_model.encoder.layers", source.sizes.image.heads)
    name = "vision_model.post_layernorm"
    yield weights(image.get_layer("norm"), name, read.pair, name)
    yield weights(text.get_layer("embeddings"), "text_model.embeddings", _text_tokens, read)
    yield from _blocks(read, text, "text_model.encoder.layers", source.sizes.text.heads)
    name = "text_model.final_layer_norm"
    yield weights(text.get_layer("norm"), name, read.pair, name)
    if siglip:
        heads = source.sizes.image.heads
        yield weights(image.get_layer("pool"), "vision_model.head", _pool, read, heads)
        yield weights(model.text_head, "text_model.head", read.dense, "text_model.head")
        return
    for head, side in ((model.image_head, "visual"), (model.text_head, "text")):
        name = f"{side}_projection.weight"
        yield weights(head, name, _transposed, read, name)


def _patches(read: TensorReader, siglip: bool) -> list[np.ndarray]:
    name = "vision_model.embeddings.patch_embedding"
    kernel = read(f"{name}.weight").transpose(2, 3, 1, 0)
    return [kernel, read(f"{name}.bias")] if siglip else [kernel]


def _tokens(read: TensorReader, siglip: bool) -> list[np.ndarray]:
    name = "vision_model.embeddings"
    token = [] if siglip else [read(f"{name}.class_embedding").reshape(-1)]
    return [*token, read(f"{name}.position_embedding.weight")]


def _text_tokens(read: TensorReader) -> list[np.ndarray]:
    return [read(f"text_model.embeddings.{one}_embedding.weight") for one in ("token", "position")]


def _transposed(read: TensorReader, name: str) -> list[np.ndarray]:
    return [read(name).T]


def _blocks(
    read: TensorReader, tower: keras.Model, stem: str, heads: int
) -> Iterator[LayerWeights]:
    blocks = [layer for layer in tower.layers if layer.name.startswith("block_")]
    for index in range(len(blocks)):
        name = f"{stem}.{index}"
        load = partial(_block, read, name, heads)
        yield LayerWeights(tower.get_layer(f"block_{index}"), name, read.origin, load)


def _block(read: TensorReader, name: str, heads: int) -> list[np.ndarray]:
    arrays = read.pair(f"{name}.layer_norm1")
    for part in ("q_proj", "k_proj", "v_proj"):
        kernel, bias = read.dense(f"{name}.self_attn.{part}")
        arrays += [kernel.reshape(len(kernel), heads, -1), bias.reshape(heads, -1)]
    kernel, bias = read.dense(f"{name}.self_attn.out_proj")
    arrays += [kernel.reshape(heads, -1, kernel.shape[-1]), bias]
    arrays += read.pair(f"{name}.layer_norm2")
    return arrays + read.dense(f"{name}.mlp.fc1") + read.dense(f"{name}.mlp.fc2")


def _pool(read: TensorReader, heads: int) -> list[np.ndarray]:
    name = "vision_model.head"
    arrays: list[np.ndarray] = [read(f"{name}.probe").reshape(-1)]
    kernels = np.split(read(f"{name}.attention.in_proj_weight"), 3)
    biases = np.split(read(f"{name}.attention.in_proj_bias"), 3)
    for kernel, bias in zip(kernels, biases, strict=True):
        arrays += [kernel.T.reshape(kernel.shape[1], heads, -1), bias.reshape(heads, -1)]
    kernel, bias = read.dense(f"{name}.attention.out_proj")
    arrays += [kernel.reshape(heads, -1, kernel.shape[-1]), bias]
    arrays += read.pair(f"{name}.layernorm")
    return arrays + read.dense(f"{name}.mlp.fc1") + read.dense(f"{name}.mlp.fc2")
