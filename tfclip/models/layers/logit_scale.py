"""The learnt scale and bias that turn a cosine into a logit."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

# Radford et al. 2021, section 2.5: the learnt scale is at most 100.
LARGEST_LOGIT_SCALE = 100.0


@keras.saving.register_keras_serializable("tfclip")
class LogitScale(keras.layers.Layer):
    """The learnt factor that multiplies the cosine; its logarithm is stored.

    A pretrained model may start above 100 (SigLIP: 118). That value is used until training, which
    clamps the variable to 100 after each update.
    """

    def __init__(self, initial: float, **kwargs):
        super().__init__(**{"name": "logit_scale", **kwargs, "dtype": "float32"})
        self.initial = initial

    def build(self, input_shape=None):
        """Create the () variable."""
        self.log_scale = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(math.log(self.initial)),
            constraint=ClampLogScale(),
            name="log_scale",
        )
        self.built = True

    def call(self, inputs=None):
        """Return the scale, () float32 in 1..100, or up to `initial` if that is larger."""
        largest = max(LARGEST_LOGIT_SCALE, self.initial)
        return tf.exp(tf.clip_by_value(self.log_scale.value, 0.0, math.log(largest)))

    def get_config(self):
        """Return the configuration with the initial value."""
        return {**super().get_config(), "initial": self.initial}


@keras.saving.register_keras_serializable("tfclip")
class ClampLogScale(keras.constraints.Constraint):
    """Keeps the stored logarithm in [0, ln 100]: outside, the clamped scale has no gradient."""

    def __call__(self, w):
        """Clamp after each update."""
        return keras.ops.clip(w, 0.0, math.log(LARGEST_LOGIT_SCALE))


@keras.saving.register_keras_serializable("tfclip")
class LogitBias(keras.layers.Layer):
    """The learnt bias of all logits (Zhai et al. 2023, section 3.2)."""

    def __init__(self, initial: float, **kwargs):
        super().__init__(**{"name": "logit_bias", **kwargs, "dtype": "float32"})
        self.initial = initial

    def build(self, input_shape=None):
        """Create the () variable."""
        self.bias = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(self.initial), name="bias"
        )
        self.built = True

    def call(self, inputs=None):
        """Return the bias, () float32."""
        return tf.convert_to_tensor(self.bias.value)

    def get_config(self):
        """Return the configuration with the initial value."""
        return {**super().get_config(), "initial": self.initial}
