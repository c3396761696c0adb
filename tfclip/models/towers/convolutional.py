"""A small residual image tower for drawn or tiny pictures."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfclip.models.layers.image_pooling import pool_map
from tfclip.models.layers.normalization import BatchNormalization


def small_convolutional(
    image_size: int,
    widths: Sequence[int] = (48, 96, 192),
    stem: int = 4,
    pooling: str = "mean-max",
) -> keras.Model:
    """Build a residual tower with one stage per width, each at half the resolution of the last.

    Features are the mean and the maximum over all places. The maximum keeps the evidence for one
    object among several, which an average dilutes.

    Args:
        image_size: side S of the square pictures in pixels.
        widths: channels of each stage.
        stem: kernel size and stride of the first convolution, in pixels.
        pooling: "mean-max", "mean" or "none".

    Returns:
        A model from (B, S, S, 3) pictures in 0..255 to (B, 2 * widths[-1]) features, by
        "mean" to (B, widths[-1]), unpooled to (B, P, widths[-1]).

    Raises:
        ValueError: for an image size that the stages cannot halve, or another pooling.
    """
    shrinks = stem * 2 ** (len(widths) - 1)
    if image_size % shrinks:
        raise ValueError(
            f"small-convolutional with a stem of {stem} and {len(widths)} stages needs an image "
            f"size that is a multiple of {shrinks}. Received: {image_size}."
        )
    layers = keras.layers
    pictures = keras.Input((image_size, image_size, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(pictures)
    for stage, width in enumerate(widths):
        side, stride = (3, 2) if stage else (stem, stem)
        x = layers.Conv2D(width, side, strides=stride, padding="same", use_bias=False)(x)
        x = layers.ReLU()(BatchNormalization(momentum=0.95)(x))
        y = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.Add()([x, BatchNormalization(momentum=0.95)(y)]))
    if pooling == "mean-max":
        x = layers.Concatenate()(
            [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]
        )
    else:
        x = pool_map(x, pooling, ("mean-max", "mean", "none"))
    return keras.Model(pictures, x, name="small_convolutional")
