"""Image towers from keras.applications, with faster layers and the matching pixel normalisation."""

from __future__ import annotations

import keras
import numpy as np

from tfclip.models.layers.activations import gelu
from tfclip.models.layers.image_pooling import pool_map
from tfclip.models.layers.normalization import BatchNormalization, LayerNormalization
from tfclip.models.layers.pixel_normalization import CAFFE, IMAGENET, PixelNormalization

# Tower name to the function of keras.applications.
BUILDERS = {
    **{f"efficientnet-b{n}": f"EfficientNetB{n}" for n in range(8)},
    "efficientnetv2-s": "EfficientNetV2S",
    "mobilenet-v3-small": "MobileNetV3Small",
    "mobilenet-v3-large": "MobileNetV3Large",
    "resnet-50": "ResNet50",
    "convnext-tiny": "ConvNeXtTiny",
}


def application(image_size: int, network: str, pooling: str = "mean") -> keras.Model:
    """Return a network of keras.applications without its classifier, with random weights.

    Layers are replaced by faster ones with the same outputs: batch normalisation by the fused
    kernel; in ConvNeXt, grouped convolutions with one channel per group by depthwise ones, GELU and
    layer normalisation by those with a gradient in closed form.
    Pixels are normalised as follows. EfficientNet (Tan and Le 2019, arXiv:1905.11946) and ConvNeXt
    (Liu et al. 2022, arXiv:2201.03545) use ImageNet's mean and deviation, EfficientNetV2-S
    (arXiv:2104.00298) x / 128 - 1 and MobileNetV3 (arXiv:1905.02244) x / 127.5 - 1, all inside the
    network. ResNet-50 (He et al. 2015, arXiv:1512.03385; strides in the 1x1 convolutions) has
    weights from Caffe; a layer before it makes pixels blue-first and subtracts the mean colour.

    Args:
        image_size: side S of the square pictures in pixels, 32 or more.
        network: a value of `BUILDERS`.
        pooling: "mean" or "none".

    Returns:
        A model from (B, S, S, 3) pictures in 0..255 to (B, F) float features, or (B, P, F)
        unpooled: F is 1280 for EfficientNetB0 and V2S, 2048 for B5 and ResNet50, 768 for ConvNeXt.
        ConvNeXt's last norm comes after the mean, and without pooling at every place.

    Raises:
        ValueError: for pictures that are too small, or another pooling.
    """
    original = official(network, image_size, pooling)
    replaced = keras.models.clone_model(original, clone_function=faster)
    if network.startswith("EfficientNetB"):
        set_imagenet_normalization(replaced)
    features = replaced.outputs[0]
    if len(features.shape) == 4:
        features = pool_map(features, pooling)
    return keras.Model(replaced.inputs[0], features, name=replaced.name)


def official(network: str, image_size: int, pooling: str = "none") -> keras.Model:
    """Return the library's own network, for weights in its layout; ConvNeXt is pooled."""
    pictures = x = keras.Input((image_size, image_size, 3), name="image")
    if network == "ResNet50":
        x = PixelNormalization(*CAFFE, blue_first=True)(x)
    build = getattr(keras.applications, network)
    inside = {"pooling": "avg"} if network.startswith("ConvNeXt") and pooling == "mean" else {}
    if image_size < 32:
        raise ValueError(f"{network} needs pictures of 32 pixels or more. Received: {image_size}.")
    return build(
        include_top=False,
        weights=None,
        input_tensor=x,
        input_shape=tuple(pictures.shape[1:]),
        **inside,
    )


def set_imagenet_normalization(network: keras.Model) -> None:
    """Make an EfficientNet's own `Normalization` compute (x / 255 - mean) / deviation.

    keras.applications adds a `Rescaling` layer only for `weights="imagenet"`, because the official
    files hold deviations where `Normalization` expects variances. Setting true variances needs no
    second layer, and a file loaded by its path gets the same normalisation.
    """
    (layer,) = (part for part in network.layers if isinstance(part, keras.layers.Normalization))
    mean, deviation = np.array(IMAGENET, "float32") / 255
    shapes = [tuple(weight.shape) for weight in layer.weights]
    values = [mean, np.square(deviation), np.zeros((), "int64")][: len(shapes)]
    layer.set_weights([value.reshape(shape) for value, shape in zip(values, shapes, strict=True)])
    layer.finalize_state()


def from_official(weights: list[np.ndarray], tower: keras.Model) -> list[np.ndarray]:
    """Convert the weights of `official(...)` to the layout of `application(...)`.

    Only a grouped convolution's kernel, (h, w, 1, C), differs: a depthwise one is (h, w, C, 1).
    """
    return [
        value.transpose(0, 1, 3, 2) if value.shape != tuple(variable.shape) else value
        for value, variable in zip(weights, tower.weights, strict=True)
    ]


def faster(layer: keras.Layer) -> keras.Layer:
    """Return a layer of the same name and outputs that trains faster, or one like it."""
    config = layer.get_config()
    if type(layer) is keras.layers.BatchNormalization and layer.axis in (-1, 3):
        return BatchNormalization.from_config(config)
    if type(layer) is keras.layers.LayerNormalization:
        return LayerNormalization.from_config(config)
    if type(layer) is keras.layers.Activation and layer.activation is keras.activations.gelu:
        return keras.layers.Activation.from_config({**config, "activation": gelu})
    if type(layer) is keras.layers.Conv2D and layer.groups == layer.filters > 1:
        return keras.layers.DepthwiseConv2D(
            layer.kernel_size, padding=layer.padding, strides=layer.strides, name=layer.name
        )
    return layer.__class__.from_config(config)
