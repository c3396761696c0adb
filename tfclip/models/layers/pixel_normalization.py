"""Normalises pixels by a mean and a deviation per channel: the first layer of image towers."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

# Mean and deviation, in units of 0..255, red first. Pretrained weights need the ones they had.
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CAFFE = ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0))
HALF = ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
CLIP = ((122.7709383, 116.7460125, 104.09373615), (68.5005327, 66.6321579, 70.32316305))


@keras.saving.register_keras_serializable("tfclip")
class PixelNormalization(keras.layers.Layer):
    """(pixels - mean) / deviation per channel: (B, S, S, 3) in 0..255 to the same shape.

    Both are constants in the layer's configuration, not weights, so that a tower normalises in the
    same way after it is rebuilt, loaded or exported.

    Args:
        mean, deviation: three numbers each in units of 0..255, red first.
        blue_first: output the channels as blue, green, red, as networks from Caffe expect.
    """

    def __init__(
        self,
        mean: Sequence[float],
        deviation: Sequence[float],
        blue_first: bool = False,
        **kwargs,
    ):
        super().__init__(**{"name": "pixels", **kwargs, "autocast": False})
        self.mean = tuple(float(value) for value in mean)
        self.deviation = tuple(float(value) for value in deviation)
        self.blue_first = blue_first

    def call(self, pixels):
        """Normalise in float32: bfloat16 would shift the mean by a quarter of a grey level."""
        mean, deviation = (ops.convert_to_tensor(v, "float32") for v in (self.mean, self.deviation))
        normalised = ops.cast((ops.cast(pixels, "float32") - mean) / deviation, self.compute_dtype)
        return ops.flip(normalised, axis=-1) if self.blue_first else normalised

    def compute_output_shape(self, input_shape):
        """Return the unchanged shape."""
        return input_shape

    def get_config(self):
        """Return the configuration with all three arguments."""
        return {
            **super().get_config(),
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            "blue_first": self.blue_first,
        }


def refit_first_convolution(
    kernel: np.ndarray,
    bias: np.ndarray,
    trained: tuple[Sequence[float], Sequence[float]],
    tower: tuple[Sequence[float], Sequence[float]],
) -> tuple[np.ndarray, np.ndarray]:
    """Adapt a first convolution that was trained with one normalisation to another one.

    k (x - m) / d + b is linear in x, so the other mean and deviation can be moved into kernel and
    bias. This is exact for a convolution without padding: padded zeros would keep the old mean.

    Args:
        kernel: (h, w, 3, C) float, red first.
        bias: (C,) float.
        trained: mean and deviation that the weights were trained with, in units of 0..255.
        tower: mean and deviation that the tower applies.

    Returns:
        The adapted kernel and bias.
    """
    (mean, deviation), (own_mean, own_deviation) = np.array(trained), np.array(tower)
    fitted = kernel * (own_deviation / deviation)[:, None]
    shift = np.einsum("hwic,i->c", kernel.astype("float64"), (own_mean - mean) / deviation)
    return fitted.astype("float32"), (bias + shift).astype("float32")
