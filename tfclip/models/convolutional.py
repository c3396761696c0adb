"""Convolutional image towers: EfficientNet B0..B7 and a small one of our own."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from tfclip.models.normalization import BatchNormalization, with_fused_normalization

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def efficientnet(image_size: int, variant: str = "b0") -> keras.Model:
    """EfficientNet without its classifier (Tan and Le 2019), global average pooled.

    The weights are random; `models.image_weights` loads others. Normalisation is set here for every
    way of loading: keras.applications adds a `Rescaling` for `weights="imagenet"` alone, because
    the official files hold standard deviations where `Normalization` wants variances. We put true
    variances in and need no second layer, so that a file loaded by path sees the same pixels.

    Args:
        image_size: side S of the square pictures in pixels.
        variant: "b0" to "b7".

    Returns:
        A model from (B, S, S, 3) pictures in 0..255 to (B, F) float features; F is 1280 for B0
        and 2048 for B5.
    """
    build = getattr(keras.applications, f"EfficientNet{variant.upper()}")
    network = with_fused_normalization(
        build(
            include_top=False,
            weights=None,
            input_shape=(image_size, image_size, 3),
            pooling="avg",
            name=f"efficientnet_{variant}",
        )
    )
    set_imagenet_normalization(network)
    return network


def set_imagenet_normalization(network: keras.Model) -> None:
    """Make an EfficientNet's own `Normalization` layer compute (x / 255 - mean) / std."""
    (layer,) = (part for part in network.layers if isinstance(part, keras.layers.Normalization))
    mean, variance = np.array(IMAGENET_MEAN, "float32"), np.square(IMAGENET_STD, dtype="float32")
    shapes = [tuple(weight.shape) for weight in layer.weights]
    values = [mean, variance, np.zeros((), "int64")][: len(shapes)]
    layer.set_weights([value.reshape(shape) for value, shape in zip(values, shapes, strict=True)])
    layer.finalize_state()


def small_convolutional(
    image_size: int,
    widths: Sequence[int] = (48, 96, 192),
    stem: int = 4,
) -> keras.Model:
    """A residual tower for drawn or tiny pictures: one stage per width, each at half the size.

    Features are the mean and the maximum over all places: the maximum says "somewhere there is",
    which a scene of several objects needs and an average dilutes.

    Args:
        image_size: side S of the square pictures in pixels.
        widths: channels of each stage.
        stem: side of the patches that the first convolution sees, in pixels.

    Returns:
        A model from (B, S, S, 3) pictures in 0..255 to (B, 2 * widths[-1]) features.

    Raises:
        ValueError: for an image size that the stages cannot halve.
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
    features = layers.Concatenate()(
        [layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)]
    )
    return keras.Model(pictures, features, name="small_convolutional")
