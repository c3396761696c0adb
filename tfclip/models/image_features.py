"""The image tower of a dual encoder as a function, by TensorFlow or by OpenVINO; and the embeddings
of windows of pictures, from one pass of the tower."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfclip.console import say
from tfclip.models.compute import BFLOAT16, FLOAT32, described
from tfclip.models.constant_graph import constant_graph
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.openvino_tower import openvino_tower
from tfclip.models.towers.windows import TowerWindows

# TensorFlow copies constants a dozen times while it makes a graph of them: 7.7 GB for a ViT-B/32.
MOST_FROZEN = 2**25


def feature_function(
    dual_encoder: DualEncoder, compute: str
) -> Callable[[tf.Tensor], np.ndarray | tf.Tensor]:
    """Return the function from pictures (B,S,S,3) uint8 to the image tower's float32 features.

    Args:
        dual_encoder: with the weights that it has now; later ones are not used.
        compute: see `compute.chosen_compute`; another than float32 is printed.
    """
    if compute != FLOAT32:
        say(described(compute))
        run = openvino_tower(dual_encoder.image_tower, "bf16" if compute == BFLOAT16 else "f32")
        return lambda pictures: run(np.asarray(pictures))
    return constant_function(
        dual_encoder, lambda pictures: tf.cast(dual_encoder.image_features(pictures), tf.float32)
    )


def window_encoder(dual_encoder: DualEncoder, boxes: np.ndarray) -> Callable:
    """Return the function from pictures (B,S,S,3) to embeddings (B,T,D) of their windows (T,4).

    The embeddings are float32 of unit norm; that of the whole picture as a window is the picture's.

    Raises:
        ValueError: the image tower has no feature map or patches, see `towers.windows`.
    """
    windows = TowerWindows(dual_encoder.image_tower, dual_encoder.config.image_tower)

    def encode(pictures: tf.Tensor) -> tf.Tensor:
        features = windows(tf.cast(pictures, tf.float32), boxes)
        flat = tf.reshape(features, [-1, features.shape[-1]])
        embeddings = dual_encoder.embed_image_features(flat)
        return tf.reshape(embeddings, [-1, len(boxes), embeddings.shape[-1]])

    return encode


def constant_function(
    dual_encoder: DualEncoder, compute: Callable[[tf.Tensor], tf.Tensor]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the graph of a function of pictures (B,S,S,3) uint8, with weights as constants.

    Weights that are too many, on a GPU or on several replicas stay variables.
    """
    size = dual_encoder.config.image_size
    specs = [tf.TensorSpec([None, size, size, 3], tf.uint8)]
    if _can_be_frozen(dual_encoder):
        return constant_graph(compute, specs)
    return tf.function(compute, input_signature=specs, autograph=False)


def _can_be_frozen(dual_encoder: DualEncoder) -> bool:
    """Return whether the weights are few enough, and are on the processor and of one replica."""
    values = [weight.value for weight in dual_encoder.image_tower.weights]
    if tf.config.list_physical_devices("GPU"):
        return False
    if any(isinstance(value, tf.distribute.DistributedValues) for value in values):
        return False
    return sum(value.shape.num_elements() for value in values) < MOST_FROZEN
