"""Pooling of image towers: one vector per picture, or the sequence for a head that pools."""

from __future__ import annotations

import keras
from keras import ops

from tfclip.naming import unknown


@keras.saving.register_keras_serializable("tfclip")
class Quarters(keras.layers.Layer):
    """The means of four overlapping quarters of a map: (B, H, W, F) to (B, 4 F), row by row.

    A quarter is half of each side, rounded up; a map with a side of 1 is each of its quarters.
    """

    def call(self, x):
        """Average."""
        height, width = x.shape[1:3]
        rows, columns = _halves(height), _halves(width)
        means = [ops.mean(x[:, y, z], axis=(1, 2)) for y in rows for z in columns]
        return ops.concatenate(means, axis=-1)

    def compute_output_shape(self, input_shape):
        """Return the shape (B, 4 F)."""
        return input_shape[0], 4 * input_shape[-1]


def _halves(side: int) -> tuple[slice, slice]:
    """Return the first and the last half of a side; with an odd side they share the middle.

    >>> _halves(13)
    (slice(0, 7, None), slice(6, 13, None))
    """
    half = -(-side // 2)
    return slice(0, half), slice(side // 2, side // 2 + half)


@keras.saving.register_keras_serializable("tfclip")
class ClassToken(keras.layers.Layer):
    """The first token of (B, P, F): (B, F)."""

    def call(self, x):
        """Take it."""
        return x[:, 0]

    def compute_output_shape(self, input_shape):
        """Return the shape (B, F)."""
        return input_shape[0], input_shape[-1]


def pool_map(
    x: keras.KerasTensor, pooling: str, allowed: tuple[str, ...] = ("mean", "statistics", "none")
) -> keras.KerasTensor:
    """Pool the feature map of a convolutional tower.

    Args:
        x: (B, H, W, F); H and W are 2 or more for statistics.
        pooling: "mean" over all places for (B, F); "statistics" for (B, 6 F), the mean, the maximum
            and the means of four overlapping quarters, which keep presence and rough position (like
            spatial pyramids: Lazebnik et al. 2006); or "none" for (B, H * W, F), row by row.
        allowed: the poolings of this tower, for the message.

    Raises:
        ValueError: for another pooling.
    """
    if pooling == "mean":
        return keras.layers.GlobalAveragePooling2D(name="mean")(x)
    if pooling == "statistics":
        return keras.layers.Concatenate(name="statistics")([*mean_and_maximum(x), Quarters()(x)])
    if pooling == "none":
        return keras.layers.Reshape((-1, x.shape[-1]), name="places")(x)
    raise unknown("pooling", pooling, allowed)


def mean_and_maximum(x: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Return the mean and the maximum over all places of (B, H, W, F), each (B, F)."""
    return [keras.layers.GlobalAveragePooling2D()(x), keras.layers.GlobalMaxPooling2D()(x)]


def pool_tokens(
    x: keras.KerasTensor, pooling: str, allowed: tuple[str, ...] = ("mean", "none")
) -> keras.KerasTensor:
    """Pool the tokens of a tower.

    Args:
        x: (B, P, F); the class token, if there is one, comes first.
        pooling: "mean" over all tokens or "class" for the first one, both (B, F); "none" for x.
        allowed: the poolings of this tower.

    Raises:
        ValueError: for a pooling that is not allowed.
    """
    if pooling not in allowed:
        raise unknown("pooling", pooling, allowed)
    if pooling == "mean":
        return keras.layers.GlobalAveragePooling1D(name="mean")(x)
    return ClassToken(name="class")(x) if pooling == "class" else x


def check_patches(image_size: int, patch_size: int) -> None:
    """Check that patches tile the image.

    Raises:
        ValueError: names the received size.
    """
    if image_size % patch_size or image_size < patch_size:
        raise ValueError(
            f"Patches of {patch_size} pixels need an image size that is a multiple of "
            f"{patch_size}. Received: {image_size}."
        )
