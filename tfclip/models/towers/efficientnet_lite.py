"""EfficientNet-Lite image towers (Tan and Le 2019, arXiv:1905.11946, without what phones lack)."""

from __future__ import annotations

import math

import keras

from tfclip.models.layers.image_pooling import mean_and_maximum, pool_map
from tfclip.models.layers.normalization import BatchNormalization
from tfclip.models.layers.pixel_normalization import HALF, PixelNormalization

# Of each stage: blocks, kernel size, stride of the first block, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, TOP = 32, 1280
# The stages, from 1, whose statistics are added to those of the last map.
INNER = (3, 4, 5, 6, 7)
EPSILON = 1e-3
SMALLEST_SIZE = 32


def efficientnet_lite(
    image_size: int, width: float = 1.0, depth: float = 1.0, pooling: str = "mean"
) -> keras.Model:
    """EfficientNet-Lite without its classifier: no squeeze-and-excitation, ReLU6.

    Stem, top, and the number of blocks of the first and last stage are not scaled. Pixels are
    x / 127.5 - 1. Padding is TensorFlow's "same".

    Args:
        image_size: side S of the square pictures in pixels.
        width, depth: factors of channels and of blocks; Lite0 has 1.0 and 1.0, Lite1 1.0 and 1.1,
            Lite2 1.1 and 1.2.
        pooling: "mean", "statistics" or "none".

    Returns:
        A model from (B, S, S, 3) pictures in 0..255 to (B, 1280) features, or (B, P, 1280)
        unpooled; P is 7 * 7 for S = 224. With statistics (B, 4048) for a width of 1, (B, 4192) for
        1.1: mean and maximum of the last map and of the outputs of stages 3 to 7.

    Raises:
        ValueError: the pictures are too small, or another pooling.
    """
    if image_size < SMALLEST_SIZE:
        raise ValueError(
            f"EfficientNet-Lite needs pictures of {SMALLEST_SIZE} pixels or more. Received: "
            f"{image_size}."
        )
    layers = keras.layers
    pictures = keras.Input((image_size, image_size, 3), name="image")
    x = PixelNormalization(*HALF)(pictures)
    x = layers.Conv2D(STEM, 3, strides=2, padding="same", use_bias=False, name="stem_conv")(x)
    x = _normalised(x, "stem")
    inner = []
    for stage, (blocks, kernel, stride, expansion, channels) in enumerate(STAGES, 1):
        repeated = blocks if stage in (1, len(STAGES)) else math.ceil(depth * blocks)
        for block in range(repeated):
            x = _block(
                x,
                f"block{stage}{chr(ord('a') + block)}_",
                kernel,
                stride if block == 0 else 1,
                expansion,
                _scaled(channels, width),
            )
        if pooling == "statistics" and stage in INNER:
            inner += mean_and_maximum(x)
    x = layers.Conv2D(TOP, 1, use_bias=False, name="top_conv")(x)
    x = _normalised(x, "top")
    if pooling == "statistics":
        features = layers.Concatenate(name="statistics")([*mean_and_maximum(x), *inner])
    else:
        features = pool_map(x, pooling)
    return keras.Model(pictures, features, name="efficientnet_lite")


def _block(x, name: str, kernel: int, stride: int, expansion: int, channels: int):
    """Expand, filter each channel by itself, project; with a shortcut where the shape is kept."""
    layers, start = keras.layers, x
    if expansion > 1:
        wide = expansion * x.shape[-1]
        x = layers.Conv2D(wide, 1, use_bias=False, name=f"{name}expand_conv")(x)
        x = _normalised(x, f"{name}expand")
    x = layers.DepthwiseConv2D(
        kernel, strides=stride, padding="same", use_bias=False, name=f"{name}dwconv"
    )(x)
    x = _normalised(x, name.removesuffix("_"))
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}project_conv")(x)
    x = BatchNormalization(epsilon=EPSILON, name=f"{name}project_bn")(x)
    if stride == 1 and start.shape[-1] == channels:
        x = layers.Add(name=f"{name}add")([x, start])
    return x


def _normalised(x, name: str):
    x = BatchNormalization(epsilon=EPSILON, name=f"{name}_bn")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu6")(x)


def _scaled(channels: int, width: float) -> int:
    """The nearest multiple of 8, which is at least 0.9 of the exact value."""
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8
