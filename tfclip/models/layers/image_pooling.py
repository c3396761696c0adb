"""Pooling of image towers: one vector per picture, or the sequence for a head that pools."""

from __future__ import annotations

import keras

from tfclip.naming import unknown


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
        sides = x.shape[1:3]
        quarters = keras.layers.AveragePooling2D(
            [-(-side // 2) for side in sides], strides=[max(1, side // 2) for side in sides]
        )(x)
        return keras.layers.Concatenate(name="statistics")(
            [*mean_and_maximum(x), keras.layers.Flatten()(quarters[:, :2, :2])]
        )
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
    return x[:, 0] if pooling == "class" else x


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
