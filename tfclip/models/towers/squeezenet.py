"""SqueezeNet 1.1 image tower (Iandola et al. 2016, arXiv:1602.07360)."""

from __future__ import annotations

import keras

from tfclip.models.layers.image_pooling import mean_and_maximum, pool_map
from tfclip.models.layers.pixel_normalization import CAFFE, PixelNormalization

# Version 1.1: channels of a fire module's squeeze and of each of its two expansions.
FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128)} | {
    6: (48, 192),
    7: (48, 192),
    8: (64, 256),
    9: (64, 256),
}
POOLED_AFTER = (3, 5)
# The modules whose statistics are added to those of the last map.
TOLD = (5, 6, 7, 8)
SMALLEST_SIZE = 31


def squeezenet(image_size: int, pooling: str = "mean") -> keras.Model:
    """SqueezeNet 1.1 up to its last fire module, without the classifying convolution.

    Its public weights come from Caffe: blue first, mean colour subtracted, no deviation.

    Args:
        image_size: side S of the square pictures in pixels.
        pooling: "mean", "statistics" or "none".

    Returns:
        A model from (B, S, S, 3) pictures in 0..255 to (B, 512) features, or (B, P, 512) unpooled;
        P is 13 * 13 for S = 224 or 227. With statistics (B, 6144): those of the last map (see
        `image_pooling.pool_map`), and the mean and maximum of the fire modules 5 to 8.

    Raises:
        ValueError: the pictures are too small for three unpadded poolings.
    """
    if image_size < SMALLEST_SIZE:
        raise ValueError(
            f"squeezenet needs pictures of {SMALLEST_SIZE} pixels or more. Received: {image_size}."
        )
    layers = keras.layers
    pictures = keras.Input((image_size, image_size, 3), name="image")
    x = PixelNormalization(*CAFFE, blue_first=True)(pictures)
    x = layers.Conv2D(64, 3, strides=2, activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    inner = []
    for index, (squeezed, expanded) in FIRES.items():
        x = layers.Conv2D(squeezed, 1, activation="relu", name=f"fire{index}_squeeze1x1")(x)
        one = layers.Conv2D(expanded, 1, activation="relu", name=f"fire{index}_expand1x1")(x)
        three = layers.Conv2D(
            expanded, 3, padding="same", activation="relu", name=f"fire{index}_expand3x3"
        )(x)
        x = layers.Concatenate(name=f"fire{index}")([one, three])
        if pooling == "statistics" and index in TOLD:
            inner += mean_and_maximum(x)
        if index in POOLED_AFTER:
            x = layers.MaxPooling2D(3, strides=2, name=f"pool{index}")(x)
    features = pool_map(x, pooling)
    if inner:
        features = layers.Concatenate(name="with_inner")([features, *inner])
    return keras.Model(pictures, features, name="squeezenet")
