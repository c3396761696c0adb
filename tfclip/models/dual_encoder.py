"""The dual encoder: two towers, two heads, one temperature, and the contrastive `train_step`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from tfclip.models import registry
from tfclip.models.config import ModelConfig
from tfclip.models.layers.dropout_seeds import seed_dropout
from tfclip.models.layers.logit_scale import LogitBias, LogitScale
from tfclip.models.objective import cross_replica
from tfclip.models.objective.global_loss import flat_captions, global_loss
from tfclip.models.objective.grad_cache import cached_gradients
from tfclip.models.objective.losses import unit_norm
from tfclip.models.objective.tagging_loss import WordPrompts
from tfclip.naming import unknown

DTYPE_POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}

SIDES = ("image", "text")
CONTRASTS = ("softmax", "sigmoid")


@keras.saving.register_keras_serializable("tfclip")
class DualEncoder(keras.Model):
    """An image tower and a text tower that meet in one space (Radford et al. 2021).

    Its outputs are embeddings, not the matrix of logits: the loss needs the rows of all replicas.
    A batch holds `image` (B, S, S, 3) uint8, `token_ids` (B, L) int32, `text_mask` (B, L) bool,
    and, to train, `image_id` and `caption_id`, both (B,) int64. With K captions to a picture, what
    belongs to a caption has the shape (B, K, ...). The stored output of a locked tower may stand in
    the place of its input: `image_features` for `image`, `text_features` for `token_ids`. With
    `word_prompts`, `words` (B, M) int32 are the words of the pictures' captions, -1 for none.

    Attributes:
        locked: the sides whose towers neither train nor drop out; see `lock`.
        contrast: which loss, "softmax" or "sigmoid"; the latter needs `initial_logit_bias`.
        clip_norm: largest norm of the whole gradient, or None.
        micro_batch: pictures that go through the towers at a time, or None; see `grad_cache`.
        word_prompts: the words that pictures are asked for beside their captions, or None.
    """

    def __init__(self, config: ModelConfig | Mapping, **kwargs):
        super().__init__(**{"name": "dual_encoder", **kwargs})
        self.config = config if isinstance(config, ModelConfig) else ModelConfig.from_dict(config)
        self.clip_norm: float | None = None
        self.micro_batch: int | None = None
        self.contrast = "softmax"
        self.locked: tuple[str, ...] = ()
        self.word_prompts: WordPrompts | None = None
        options = self.config
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(DTYPE_POLICIES[options.precision])
        try:
            self.image_tower = registry.image_tower(options.image_tower).build(
                image_size=options.image_size, **options.image_options
            )
            self.text_tower = registry.text_tower(options.text_tower).build(
                vocabulary_size=options.vocabulary_size,
                context_length=options.context_length,
                **options.text_options,
            )
            self.image_head = registry.head(options.image_head)(
                options.embed_dim, name="image_head", **options.image_head_options
            )
            self.text_head = registry.head(options.text_head)(
                options.embed_dim, name="text_head", **options.text_head_options
            )
            self.image_head.build(self.image_tower.output_shape)
            self.text_head.build(self.text_tower.output_shape)
            if getattr(self.text_head, "members", 1) != self.members:
                raise ValueError("image_head and text_head must have the same number of members.")
        finally:
            keras.config.set_dtype_policy(policy)
        self.logit_scale = LogitScale(options.initial_logit_scale)
        self.logit_scale.build()
        self.logit_bias = None
        if options.initial_logit_bias is not None:
            self.logit_bias = LogitBias(options.initial_logit_bias)
            self.logit_bias.build()
        self.built = True
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.accuracy_tracker = keras.metrics.Mean(name="accuracy")

    def lock(self, sides: Sequence[str]) -> None:
        """Keep the towers of these sides as they are (Zhai et al. 2022, LiT); () frees both.

        A locked tower runs as in inference: no dropout, batch normalisation by its moving
        statistics. Compile again afterwards: the optimizer's variables are the trainable ones.

        Raises:
            ValueError: for anything but "image" and "text".
        """
        for side in sides:
            if side not in SIDES:
                raise unknown("side to lock", side, SIDES)
        self.locked = tuple(side for side in SIDES if side in sides)
        self.image_tower.trainable = "image" not in self.locked
        self.text_tower.trainable = "text" not in self.locked

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
        return self.embed_image_features(self.image_features(images, training), training)

    def encode_text(
        self, token_ids: tf.Tensor, text_mask: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Token ids (B, L) int32 and their mask (B, L) to (B, D) float32 unit-norm embeddings."""
        features = self.text_features(token_ids, text_mask, training)
        return self.embed_text_features(features, text_mask, training)

    def image_features(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """What the image tower says of pictures: (B, F), or (B, P, F) without pooling."""
        training = training and "image" not in self.locked
        return self.image_tower(tf.cast(images, tf.float32), training=training)

    def text_features(
        self, token_ids: tf.Tensor, text_mask: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """What the text tower says of texts: (B, F), or (B, L, F) without pooling."""
        training = training and "text" not in self.locked
        inputs = {"token_ids": token_ids, "text_mask": tf.cast(text_mask, tf.bool)}
        return self.text_tower(inputs, training=training)

    def embed_image_features(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The rest of `encode_image` after `image_features`."""
        return unit_norm(self.image_head(features, training=training))

    def embed_text_features(
        self, features: tf.Tensor, text_mask: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """The rest of `encode_text` after `text_features`."""
        keep = tf.cast(text_mask, tf.bool)
        return unit_norm(self.text_head(features, keep=keep, training=training))

    def temperature(self) -> tf.Tensor:
        """The factor on the cosine as it is used: () float32 in 1..100."""
        return self.logit_scale()

    def call(self, inputs: Mapping, training: bool = False) -> dict[str, tf.Tensor]:
        """Embed both sides of a batch: `image_embeddings` and `text_embeddings`, (B, D)."""
        image, text = inputs.get("image_features"), inputs.get("text_features")
        if image is None:
            image = self.image_features(inputs["image"], training)
        if text is None:
            text = self.text_features(inputs["token_ids"], inputs["text_mask"], training)
        return {
            "image_embeddings": self.embed_image_features(image, training),
            "text_embeddings": self.embed_text_features(text, inputs["text_mask"], training),
        }

    @property
    def members(self) -> int:
        """How many parts of the embedding learn apart, each with a loss of its own."""
        return getattr(self.image_head, "members", 1)

    def embed_batch(self, batch: Mapping, training: bool) -> dict[str, tf.Tensor]:
        """`call` on a batch whose text side may have K captions to a picture: (B * K, D)."""
        return self(flat_captions(batch), training=training)

    def local_loss(self, batch: Mapping, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """This replica's share of the loss and accuracy of the global batch; see `global_loss`."""
        return global_loss(self, self.embed_batch(batch, training), batch, training)

    def train_step(self, batch: Mapping) -> dict[str, tf.Tensor]:
        """One update from the global batch; in a replica context under a strategy.

        Returns:
            The running means of the epoch, and of this step: `batch_loss`, `gradient_norm` (before
            clipping), that of the two sides, and `logit_scale`, each () float32 and equal on all
            replicas.
        """
        loss_scale = self._loss_scale()
        loss, accuracy, gradients = self._gradients(batch, loss_scale)
        gradients, norm, norms = cross_replica.reduce_and_clip(
            gradients, self.clip_norm, loss_scale
        )
        self.optimizer.apply(gradients, self.trainable_variables)
        loss, accuracy = cross_replica.sum_over_replicas([loss, accuracy])
        return {
            **self._track(loss, accuracy),
            "batch_loss": loss,
            "gradient_norm": norm,
            **self._norms_by_side(norms),
            "logit_scale": self.temperature(),
        }

    def _norms_by_side(self, norms: tf.Tensor) -> dict[str, tf.Tensor]:
        """The norms of the gradients of the tower and head of each side, from one per variable."""
        found = {}
        for side in SIDES:
            parts = getattr(self, f"{side}_tower"), getattr(self, f"{side}_head")
            own = {id(variable) for part in parts for variable in part.trainable_variables}
            places = [n for n, v in enumerate(self.trainable_variables) if id(v) in own]
            if places:
                found[f"gradient_norm_{side}"] = tf.norm(tf.gather(norms, places))
        return found

    def _gradients(self, batch: Mapping, loss_scale: tf.Tensor | None) -> tuple:
        """The shares of the loss and of the accuracy, and the gradients of the scaled share."""
        if self.micro_batch is not None:
            return cached_gradients(self, batch, self.micro_batch, loss_scale)
        seed_dropout(self, self.optimizer.iterations.value)
        with tf.GradientTape() as tape:
            loss, accuracy = self.local_loss(batch, training=True)
            scaled = loss if loss_scale is None else loss * loss_scale
        variables = [variable.value for variable in self.trainable_variables]
        return loss, accuracy, tape.gradient(scaled, variables)

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
