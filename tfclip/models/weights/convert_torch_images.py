"""Converts image encoders of timm and Hugging Face to the weights of the image towers."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping
from typing import cast

import keras
import numpy as np

State = Mapping[str, np.ndarray]
LayerWeights = dict[str, list[np.ndarray]]


class Reader:
    """Reads a PyTorch state dict as arrays of Keras layers."""

    def __init__(self, state: State):
        self.state = state

    def pair(self, key: str) -> list[np.ndarray]:
        """Scale and shift of a norm."""
        return [self.state[f"{key}.weight"], self.state[f"{key}.bias"]]

    def batch_norm(self, key: str) -> list[np.ndarray]:
        """gamma, beta, moving mean, moving variance."""
        return [
            *self.pair(key),
            self.state[f"{key}.running_mean"],
            self.state[f"{key}.running_var"],
        ]

    def dense(self, key: str) -> list[np.ndarray]:
        """(out, in) to (in, out), and the bias."""
        kernel, bias = self.pair(key)
        return [kernel.T, bias]

    def convolution(self, key: str, depthwise: bool = False) -> list[np.ndarray]:
        """(out, in, h, w) to (h, w, in, out), or (C, 1, h, w) to (h, w, C, 1); a bias if any."""
        axes = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
        kernel = [self.state[f"{key}.weight"].transpose(axes)]
        bias = self.state.get(f"{key}.bias")
        return kernel if bias is None else [*kernel, bias]

    def attention(self, keys: tuple[str, str, str], out: str, heads: int) -> list[np.ndarray]:
        """Query, key, value and output with their biases, split into heads."""
        arrays = []
        for key in keys:
            kernel, bias = self.dense(key)
            arrays += [kernel.reshape(len(kernel), heads, -1), bias.reshape(heads, -1)]
        kernel, bias = self.dense(out)
        return [*arrays, kernel.reshape(heads, -1, kernel.shape[-1]), bias]


def timm_vision_transformer(state: State, tower: keras.Model) -> LayerWeights:
    """timm's `vit_*`: one matrix holds query, key and value."""
    split: dict[str, np.ndarray] = {}
    for key in [key for key in state if ".attn.qkv." in key]:
        for part, value in zip("qkv", np.split(state[key], 3), strict=True):
            split[key.replace("qkv", part)] = value
    # Not a merged dict: a tensor of `state` counts as used when it is read.
    read = Reader(ChainMap(split, cast(MutableMapping[str, np.ndarray], state)))
    weights = {
        "patches": read.convolution("patch_embed.proj"),
        "tokens": [state["cls_token"][0, 0], state["pos_embed"][0]],
        "norm": read.pair("norm"),
    }
    for name, block, heads in _blocks(tower):
        attention = f"blocks.{block}.attn"
        weights[name] = [
            *read.pair(f"blocks.{block}.norm1"),
            *read.attention(
                (f"{attention}.q", f"{attention}.k", f"{attention}.v"), f"{attention}.proj", heads
            ),
            *read.pair(f"blocks.{block}.norm2"),
            *read.dense(f"blocks.{block}.mlp.fc1"),
            *read.dense(f"blocks.{block}.mlp.fc2"),
        ]
    return weights


def hugging_face_vision_transformer(state: State, tower: keras.Model) -> LayerWeights:
    """`ViTModel` of transformers."""
    read = Reader(state)
    weights = {
        "patches": read.convolution("embeddings.patch_embeddings.projection"),
        "tokens": [
            state["embeddings.cls_token"][0, 0],
            state["embeddings.position_embeddings"][0],
        ],
        "norm": read.pair("layernorm"),
    }
    for name, block, heads in _blocks(tower):
        key = f"encoder.layer.{block}"
        inner = f"{key}.attention.attention"
        weights[name] = [
            *read.pair(f"{key}.layernorm_before"),
            *read.attention(
                (f"{inner}.query", f"{inner}.key", f"{inner}.value"),
                f"{key}.attention.output.dense",
                heads,
            ),
            *read.pair(f"{key}.layernorm_after"),
            *read.dense(f"{key}.intermediate.dense"),
            *read.dense(f"{key}.output.dense"),
        ]
    return weights


def hugging_face_clip(state: State, tower: keras.Model) -> LayerWeights:
    """Return the image tower of `CLIPModel` of transformers, without its projection."""
    read = Reader(state)
    weights = {
        "patches": read.convolution("vision_model.embeddings.patch_embedding"),
        "tokens": [
            state["vision_model.embeddings.class_embedding"],
            state["vision_model.embeddings.position_embedding.weight"],
        ],
        "pre_norm": read.pair("vision_model.pre_layrnorm"),
        "norm": read.pair("vision_model.post_layernorm"),
    }
    for name, block, heads in _blocks(tower):
        key = f"vision_model.encoder.layers.{block}"
        inner = f"{key}.self_attn"
        weights[name] = [
            *read.pair(f"{key}.layer_norm1"),
            *read.attention(
                (f"{inner}.q_proj", f"{inner}.k_proj", f"{inner}.v_proj"),
                f"{inner}.out_proj",
                heads,
            ),
            *read.pair(f"{key}.layer_norm2"),
            *read.dense(f"{key}.mlp.fc1"),
            *read.dense(f"{key}.mlp.fc2"),
        ]
    return weights


def timm_mixer(state: State, tower: keras.Model) -> LayerWeights:
    """timm's `mixer_*`."""
    read = Reader(state)
    weights = {"patches": read.convolution("stem.proj"), "norm": read.pair("norm")}
    for index in range(sum(layer.name.startswith("block_") for layer in tower.layers)):
        weights[f"block_{index}"] = [
            array
            for part in ("tokens", "channels")
            for array in (
                *read.pair(f"blocks.{index}.norm{1 if part == 'tokens' else 2}"),
                *read.dense(f"blocks.{index}.mlp_{part}.fc1"),
                *read.dense(f"blocks.{index}.mlp_{part}.fc2"),
            )
        ]
    return weights


def timm_resnet(state: State, tower: keras.Model) -> LayerWeights:
    """timm's and torchvision's `resnet18` and `resnet50`."""

    def names(stage: int, block: int, part: int) -> tuple[str, str]:
        key = f"layer{stage + 1}.{block}"
        if part == 0:
            return f"{key}.downsample.0", f"{key}.downsample.1"
        return f"{key}.conv{part}", f"{key}.bn{part}"

    return _resnet(Reader(state), tower, ("conv1", "bn1"), names)


def hugging_face_resnet(state: State, tower: keras.Model) -> LayerWeights:
    """`ResNetModel` of transformers."""

    def names(stage: int, block: int, part: int) -> tuple[str, str]:
        key = f"encoder.stages.{stage}.layers.{block}"
        key += ".shortcut" if part == 0 else f".layer.{part - 1}"
        return f"{key}.convolution", f"{key}.normalization"

    stem = ("embedder.embedder.convolution", "embedder.embedder.normalization")
    return _resnet(Reader(state), tower, stem, names)


def _resnet(read: Reader, tower: keras.Model, stem: tuple[str, str], names: Callable):
    weights = {}
    for layer in tower.layers:
        if not layer.name.endswith("_conv"):
            continue
        name = layer.name.removesuffix("_conv")
        found = stem
        if name != "conv1":
            stage, block, part = name.removeprefix("stack").replace("block", "").split("_")
            found = names(int(stage), int(block), int(part))
        weights[f"{name}_conv"] = read.convolution(found[0])
        weights[f"{name}_bn"] = read.batch_norm(found[1])
    return weights


def timm_convnext(state: State, tower: keras.Model) -> LayerWeights:
    """timm's `convnext_*`."""
    inner = ("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma")
    return _convnext(
        Reader(state),
        tower,
        stem=("stem.0", "stem.1"),
        downsample="stages.{}.downsample.{}",
        block="stages.{}.blocks.{}",
        inner=inner,
        norm="head.norm",
    )


def hugging_face_convnext(state: State, tower: keras.Model) -> LayerWeights:
    """`ConvNextModel` of transformers."""
    inner = ("dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter")
    return _convnext(
        Reader(state),
        tower,
        stem=("embeddings.patch_embeddings", "embeddings.layernorm"),
        downsample="encoder.stages.{}.downsampling_layer.{}",
        block="encoder.stages.{}.layers.{}",
        inner=inner,
        norm="layernorm",
    )


def _convnext(read: Reader, tower, *, stem, downsample, block, inner, norm) -> LayerWeights:
    last = next(layer.name for layer in reversed(tower.layers) if layer.weights)
    weights = {
        "convnext_tiny_stem": [*read.convolution(stem[0]), *read.pair(stem[1])],
        last: read.pair(norm),
    }
    for stage in range(1, 4):
        weights[f"convnext_tiny_downsampling_block_{stage - 1}"] = [
            *read.pair(downsample.format(stage, 0)),
            *read.convolution(downsample.format(stage, 1)),
        ]
    depthwise, norm_in, dense_in, dense_out, scale = inner
    for layer in tower.layers:
        if not layer.name.endswith("_depthwise_conv"):
            continue
        ours = layer.name.removesuffix("depthwise_conv")
        theirs = block.format(ours.split("_")[3], ours.split("_")[5])
        weights[f"{ours}depthwise_conv"] = read.convolution(f"{theirs}.{depthwise}", depthwise=True)
        weights[f"{ours}layernorm"] = read.pair(f"{theirs}.{norm_in}")
        weights[f"{ours}pointwise_conv_1"] = read.dense(f"{theirs}.{dense_in}")
        weights[f"{ours}pointwise_conv_2"] = read.dense(f"{theirs}.{dense_out}")
        weights[f"{ours}layer_scale"] = [read.state[f"{theirs}.{scale}"]]
    return weights


def _blocks(tower: keras.Model):
    """(layer's name, index, heads) of each transformer block."""
    for layer in tower.layers:
        if layer.name.startswith("block_"):
            yield layer.name, int(layer.name.removeprefix("block_")), layer.heads
