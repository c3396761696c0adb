"""The dual encoder: two towers, two heads, one temperature, and the contrastive `train_step`."""

from __future__ import annotations

import math
from collections.abc import Mapping

import keras
import tensorflow as tf

from tfclip.models import cross_replica, registry
from tfclip.models.config import ModelConfig
from tfclip.models.losses import softmax_contrastive

# Radford et al. 2021, section 2.5: the learnt factor on the cosine is kept at 100 or less.
LARGEST_LOGIT_SCALE = 100.0
DTYPE_POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


@keras.saving.register_keras_serializable("tfclip")
class LogitScale(keras.layers.Layer):
    """The learnt factor on the cosine, stored as its logarithm and used as its exponential."""

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
        """The scale, () float32 in 1..100."""
        return tf.exp(tf.clip_by_value(self.log_scale.value, 0.0, math.log(LARGEST_LOGIT_SCALE)))

    def get_config(self):
        """The starting value."""
        return {**super().get_config(), "initial": self.initial}


@keras.saving.register_keras_serializable("tfclip")
class ClampLogScale(keras.constraints.Constraint):
    """Keeps the stored logarithm in [0, ln 100], so that it cannot drift where no gradient is."""

    def __call__(self, w):
        """Clamp after each update."""
        return keras.ops.clip(w, 0.0, math.log(LARGEST_LOGIT_SCALE))


@keras.saving.register_keras_serializable("tfclip")
class DualEncoder(keras.Model):
    """An image tower and a text tower that meet in one space (Radford et al. 2021).

    Its outputs are embeddings, not the matrix of logits: the loss needs the rows of all replicas.
    A batch holds `image` (B, S, S, 3) uint8, `token_ids` (B, L) int32, `text_mask` (B, L) bool,
    and, to train, `image_id` and `caption_id`, both (B,) int64.
    """

    def __init__(self, config: ModelConfig | Mapping, **kwargs):
        super().__init__(**{"name": "dual_encoder", **kwargs})
        self.config = config if isinstance(config, ModelConfig) else ModelConfig.from_dict(config)
        self.clip_norm: float | None = None
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(DTYPE_POLICIES[self.config.precision])
        try:
            self.image_tower = registry.image_tower(self.config.image_tower).build(
                image_size=self.config.image_size, **self.config.image_options
            )
            self.text_tower = registry.text_tower(self.config.text_tower).build(
                vocabulary_size=self.config.vocabulary_size,
                context_length=self.config.context_length,
                **self.config.text_options,
            )
            self.image_head = keras.layers.Dense(
                self.config.embed_dim, use_bias=False, name="image_head"
            )
            self.text_head = keras.layers.Dense(
                self.config.embed_dim, use_bias=False, name="text_head"
            )
        finally:
            keras.config.set_dtype_policy(policy)
        self.logit_scale = LogitScale(self.config.initial_logit_scale)
        self.image_head.build(self.image_tower.output_shape)
        self.text_head.build(self.text_tower.output_shape)
        self.logit_scale.build()
        self.built = True
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.accuracy_tracker = keras.metrics.Mean(name="accuracy")

    def get_config(self):
        """The model configuration; weights are not part of it."""
        return {"config": self.config.to_dict(), "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Build the same architecture with fresh weights."""
        return cls(**config)

    @property
    def metrics(self):
        """The running means that `fit` resets at each epoch."""
        return [self.loss_tracker, self.accuracy_tracker]

    def encode_image(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Pictures (B, S, S, 3), uint8 or 0..255 float, to (B, D) float32 unit-norm embeddings."""
        features = self.image_tower(tf.cast(images, tf.float32), training=training)
        return _unit_norm(self.image_head(features))

    def encode_text(
        self, token_ids: tf.Tensor, text_mask: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Token ids (B, L) int32 and their mask (B, L) to (B, D) float32 unit-norm embeddings."""
        features = self.text_tower(
            {"token_ids": token_ids, "text_mask": tf.cast(text_mask, tf.bool)}, training=training
        )
        return _unit_norm(self.text_head(features))

    def temperature(self) -> tf.Tensor:
        """The factor on the cosine as it is used: () float32 in 1..100."""
        return self.logit_scale()

    def call(self, inputs: Mapping, training: bool = False) -> dict[str, tf.Tensor]:
        """Embed both sides of a batch: `image_embeddings` and `text_embeddings`, (B, D)."""
        return {
            "image_embeddings": self.encode_image(inputs["image"], training),
            "text_embeddings": self.encode_text(inputs["token_ids"], inputs["text_mask"], training),
        }

    def local_loss(self, batch: Mapping, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """This replica's share of the loss of the global batch.

        Both directions against the columns of all replicas, divided by the global number of rows:
        the shares of all replicas add up to the loss of the whole batch on one device.

        Returns:
            The share of the loss and of the image-to-text accuracy, both () float32.
        """
        embeddings = self(batch, training=training)
        image, text = embeddings["image_embeddings"], embeddings["text_embeddings"]
        ids = (batch["image_id"], batch["caption_id"])
        all_ids = tuple(cross_replica.gather_rows(part) for part in ids)
        all_image, all_text = cross_replica.gather_rows(image), cross_replica.gather_rows(text)
        scale = self.temperature()
        to_text, hits = softmax_contrastive(image, all_text, scale, ids, all_ids)
        to_image, _ = softmax_contrastive(text, all_image, scale, ids, all_ids)
        rows = tf.cast(tf.shape(all_ids[0])[0], tf.float32)
        return 0.5 * (to_text + to_image) / rows, hits / rows

    def train_step(self, batch: Mapping) -> dict[str, tf.Tensor]:
        """One update from the global batch; in a replica context under a strategy.

        Returns:
            The running means of the epoch, and of this step: `batch_loss`, `gradient_norm` (before
            clipping) and `logit_scale`, each () float32 and equal on all replicas.
        """
        loss_scale = self._loss_scale()
        with tf.GradientTape() as tape:
            loss, accuracy = self.local_loss(batch, training=True)
            scaled = loss if loss_scale is None else loss * loss_scale
        variables = self.trainable_variables
        gradients, norm = cross_replica.reduce_and_clip(
            tape.gradient(scaled, [variable.value for variable in variables]),
            self.clip_norm,
            loss_scale,
        )
        self.optimizer.apply(gradients, variables)
        loss, accuracy = cross_replica.sum_over_replicas([loss, accuracy])
        return {
            **self._track(loss, accuracy),
            "batch_loss": loss,
            "gradient_norm": norm,
            "logit_scale": self.temperature(),
        }

    def test_step(self, batch: Mapping) -> dict[str, tf.Tensor]:
        """The loss and accuracy of a batch, without an update."""
        loss, accuracy = cross_replica.sum_over_replicas(list(self.local_loss(batch, False)))
        return self._track(loss, accuracy)

    def _track(self, loss, accuracy):
        self.loss_tracker.update_state(loss)
        self.accuracy_tracker.update_state(accuracy)
        return {"loss": self.loss_tracker.result(), "accuracy": self.accuracy_tracker.result()}

    def _loss_scale(self):
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            return self.optimizer.scale_loss(tf.constant(1.0))
        return None


def _unit_norm(x: tf.Tensor) -> tf.Tensor:
    """Rows of length one in float32: half-precision norms would not be unit to 1e-3."""
    return tf.math.l2_normalize(tf.cast(x, tf.float32), axis=-1, epsilon=1e-12)
