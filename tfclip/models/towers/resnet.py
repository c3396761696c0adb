"""ResNet image towers as in timm, torchvision and keras_hub (He et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfclip.models.layers.image_pooling import pool_map
from tfclip.models.layers.normalization import BatchNormalization
from tfclip.models.layers.pixel_normalization import IMAGENET, PixelNormalization

WIDTHS = (64, 128, 256, 512)


def resnet(
    image_size: int,
    blocks: Sequence[int],
    bottleneck: bool,
    pooling: str = "mean",
) -> keras.Model:
    """Return a ResNet without its classifier (arXiv:1512.03385).

    Strides are in the 3x3 convolutions ("v1.5", Goyal et al. 2017, arXiv:1706.02677, section 5.1),
    convolutions have no bias, and padding is symmetric; the ResNet-50 of keras.applications differs
    in all three. Layers have keras_hub's names.

    Args:
        image_size: side S of the square pictures in pixels.
        blocks: residual blocks of each of the four stages.
        bottleneck: blocks of 1x1, 3x3, 1x1 with four times the channels, not of two 3x3.
        pooling: "mean" or "none".

    Returns:
        A model from (B, S, S, 3) pictures in 0..255 to (B, F) features, or (B, P, F) unpooled; F is
        2048 with bottlenecks, else 512.
    """
    layers = keras.layers
    pictures = keras.Input((image_size, image_size, 3), name="image")
    x = PixelNormalization(*IMAGENET)(pictures)
    x = _convolution(x, 64, 7, "conv1", stride=2)
    x = layers.ZeroPadding2D(1, name="pool1_pad")(layers.ReLU(name="conv1_relu")(x))
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True)):
        for block in range(count):
            stride = 2 if stage and not block else 1
            x = _block(x, width, stride, bottleneck, f"stack{stage}_block{block}")
    return keras.Model(pictures, pool_map(x, pooling), name="resnet")


def _block(x, width: int, stride: int, bottleneck: bool, name: str):
    relu = keras.layers.ReLU
    outer = 4 * width if bottleneck else width
    shortcut = x
    if stride > 1 or x.shape[-1] != outer:
        shortcut = _convolution(x, outer, 1, f"{name}_0", stride)
    sides: tuple[tuple[int, int, int], ...] = ((width, 1, 1), (width, 3, stride), (outer, 1, 1))
    if not bottleneck:
        sides = ((width, 3, stride), (width, 3, 1))
    for index, (filters, side, step) in enumerate(sides, start=1):
        x = _convolution(x, filters, side, f"{name}_{index}", step)
        if index < len(sides):
            x = relu(name=f"{name}_{index}_relu")(x)
    return relu(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([shortcut, x]))


def _convolution(x, filters: int, side: int, name: str, stride: int = 1):
    """Return a padded convolution and its normalisation; "same" would be asymmetric at stride 2."""
    if stride > 1 and side > 1:
        x = keras.layers.ZeroPadding2D(side // 2, name=f"{name}_pad")(x)
    padding = "valid" if stride > 1 else "same"
    x = keras.layers.Conv2D(
        filters, side, strides=stride, padding=padding, use_bias=False, name=f"{name}_conv"
    )(x)
    return BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
