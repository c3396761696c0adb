"""Fast batch normalisation (fused, or synchronised over replicas) and layer normalisation."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfclip")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis, trained with TensorFlow's fused kernel.

    Variables, configuration and outputs are the same. Keras 3 composes the layer from small
    operations, which halves the speed of an EfficientNetB0 step on CPU. With `synchronized=True`,
    which training sets for several replicas, Keras' operations are used, because the fused kernel
    sees one replica only; but the variance is computed around the mean, since Keras' difference of
    two squares loses it to rounding.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalise (B, H, W, C) by the statistics of the batch (training) or the moving ones."""
        fused = training and self.trainable and not self.synchronized and len(inputs.shape) == 4
        if not fused:
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        outputs, mean, variance, *_ = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.cast(self.gamma, tf.float32) if self.scale else tf.ones([channels]),
            tf.cast(self.beta, tf.float32) if self.center else tf.zeros([channels]),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel reports the unbiased variance; Keras keeps the biased one.
        count = tf.cast(tf.size(inputs) / channels, tf.float32)
        variance *= (count - 1.0) / count
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs

    def _moments(self, inputs, mask):
        context = tf.distribute.get_replica_context()
        if not self.synchronized or mask is not None or context is None:
            return super()._moments(inputs, mask)

        def total(*parts: tf.Tensor) -> list[tf.Tensor]:
            return context.all_reduce(tf.distribute.ReduceOp.SUM, list(parts))

        axes = self._reduction_axes
        rows = tf.cast(tf.size(inputs) // inputs.shape[self.axis], inputs.dtype)
        summed, rows = total(tf.reduce_sum(inputs, axes, keepdims=True), rows)
        mean = summed / rows
        (squares,) = total(tf.reduce_sum(tf.square(inputs - mean), axes))
        return tf.squeeze(mean, axes), squares / rows


@keras.saving.register_keras_serializable("tfclip")
class LayerNormalization(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` over the last axis with a hand-written gradient.

    Variables, configuration and outputs are the same; half precision is computed in float32. The
    gradient (of Ba et al. 2016, arXiv:1607.06450, equation 4) is computed in closed form;
    TensorFlow's goes through mean and variance operation by operation, in about twice the passes
    over memory.
    """

    def call(self, inputs):
        """Normalise each (..., C) over C, then scale and shift."""
        last = list(self.axis) in ([-1], [len(inputs.shape) - 1])
        if not (last and self.scale and self.center and not self.rms_scaling):
            return super().call(inputs)
        precise = keras.backend.result_type(inputs.dtype, "float32")
        x, gamma, beta = (tf.cast(part, precise) for part in (inputs, self.gamma, self.beta))
        return tf.cast(_normalize_rows(x, gamma, beta, self.epsilon), self.compute_dtype)


def _normalize_rows(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    @tf.custom_gradient
    def normalize(x, gamma, beta):
        centred = x - tf.reduce_mean(x, -1, keepdims=True)
        inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + epsilon)
        normal = centred * inverse

        def gradient(d_out):
            others = list(range(len(x.shape) - 1))
            weighted = d_out * normal
            d_normal = d_out * gamma
            along = tf.reduce_mean(weighted * gamma, -1, keepdims=True)
            d_x = inverse * (
                d_normal - tf.reduce_mean(d_normal, -1, keepdims=True) - normal * along
            )
            return d_x, tf.reduce_sum(weighted, others), tf.reduce_sum(d_out, others)

        return normal * gamma + beta, gradient

    return normalize(x, gamma, beta)


def batch_normalizations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return all batch normalisation layers in `model`, at any depth."""
    layers = model._flatten_layers()
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def synchronize_normalization(model: keras.Model) -> None:
    """Let all batch normalisation layers in `model` use the batch of all replicas."""
    for layer in batch_normalizations(model):
        layer.synchronized = True
