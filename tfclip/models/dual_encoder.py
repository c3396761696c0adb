"""The dual encoder: two towers, two heads, one temperature, and the contrastive `train_step`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from tfclip.models import registry
from tfclip.models.config import ModelConfig
from tfclip.models.layers.dropout_seeds import dropout_seeds, restore_dropout_seeds, seed_dropout
from tfclip.models.layers.logit_scale import LogitBias, LogitScale
from tfclip.models.objective import cross_replica
from tfclip.models.objective.global_loss import LOSSES, flat_captions, global_loss
from tfclip.models.objective.grad_cache import cached_gradients
from tfclip.models.objective.losses import unit_norm
from tfclip.models.objective.tagging_loss import TaggingLoss
from tfclip.naming import unknown

DTYPE_POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}

MODALITIES = ("image", "text")
# What a file of an earlier version says of `compile` and means.
EARLIER_COMPILE_OPTIONS = ("optimizer", "run_eagerly", "steps_per_execution")


@keras.saving.register_keras_serializable("tfclip")
class DualEncoder(keras.Model):
    """An image tower and a text tower that meet in one space (Radford et al. 2021).

    Its outputs are embeddings, not the matrix of logits: the loss needs the rows of all replicas.
    A batch holds `image` (B, S, S, 3) uint8, `token_ids` (B, L) int32, `text_mask` (B, L) bool,
    and, to train, `image_id` and `caption_id`, both (B,) int64. With K captions to a picture, what
    belongs to a caption has the shape (B, K, ...). The stored output of a frozen tower may stand in
    the place of its input: `image_features` for `image`, `text_features` for `token_ids`. With a
    `tagging_loss`, `words` (B, M) int32 are the words of the pictures' captions, -1 for none.

    How it trains is said by `compile` and `freeze`, is saved by `model.save`, and comes back with
    `keras.models.load_model`.

    Attributes:
        loss: "softmax" or "sigmoid"; see `compile`.
        clip_norm: largest norm of the whole gradient, or None; see `compile`.
        micro_batch: pictures that go through the towers at a time, or None; see `compile`.
        frozen: the modalities whose towers neither train nor drop out; see `freeze`.
        tagging_loss: the auxiliary loss over the words of the captions, or None.
    """

    def __init__(self, config: ModelConfig | Mapping, **kwargs):
        super().__init__(**{"name": "dual_encoder", **kwargs})
        self.config = config if isinstance(config, ModelConfig) else ModelConfig.from_dict(config)
        # XLA refuses the loop over chunks of the loss: Keras' jit_compile="auto" becomes False.
        self.supports_jit = False
        self.loss = "softmax"
        self._clip_norm: float | None = None
        self._micro_batch: int | None = None
        self.frozen: tuple[str, ...] = ()
        self.tagging_loss: TaggingLoss | None = None
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
            if getattr(self.text_head, "members", 1) != self.ensemble_size:
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

    def freeze(self, modalities: Sequence[str]) -> None:
        """Keep the towers of these modalities as they are (Zhai et al. 2022, LiT); () frees both.

        A frozen tower runs as in inference: no dropout, batch normalisation by its moving
        statistics. Compile again afterwards: the optimizer's variables are the trainable ones.

        Raises:
            ValueError: for anything but "image" and "text".
        """
        for modality in modalities:
            if modality not in MODALITIES:
                raise unknown("tower to freeze", modality, MODALITIES)
        self.frozen = tuple(modality for modality in MODALITIES if modality in modalities)
        self.image_tower.trainable = "image" not in self.frozen
        self.text_tower.trainable = "text" not in self.frozen

    def compile(
        self,
        optimizer="rmsprop",
        loss: str = "softmax",
        *,
        clip_norm: float | None = None,
        micro_batch: int | None = None,
        jit_compile: bool | str = "auto",
        **options,
    ) -> None:
        """Say how the model trains.

        Args:
            optimizer: as for `keras.Model.compile`.
            loss: "softmax" (InfoNCE) or "sigmoid" (SigLIP; needs `initial_logit_bias`).
            clip_norm: largest norm of the whole gradient, over all replicas; None does not clip.
            micro_batch: pictures that go through the towers at a time, which saves memory and
                changes no gradient, see `objective.grad_cache`; None takes the whole batch.
            jit_compile: False, or "auto", which is the same here.
            options: `run_eagerly`, `steps_per_execution`, `auto_scale_loss` of Keras.

        Raises:
            ValueError: for a value that is not allowed, and for `jit_compile=True`.
        """
        if loss not in LOSSES:
            raise unknown("loss", str(loss), LOSSES)
        if loss == "sigmoid" and self.logit_bias is None:
            raise ValueError(
                "The sigmoid loss needs a bias: build the model with "
                "ModelConfig(initial_logit_bias=-10.0). Received: initial_logit_bias=None."
            )
        if clip_norm is not None and not clip_norm > 0:
            raise ValueError(f"clip_norm must be above 0, or None. Received: {clip_norm}.")
        if micro_batch is not None and not (isinstance(micro_batch, int) and micro_batch > 0):
            raise ValueError(f"micro_batch must be 1 or more, or None. Received: {micro_batch}.")
        if jit_compile not in ("auto", False, None):
            raise ValueError(
                f"DualEncoder does not train under XLA: compile with jit_compile=False. "
                f"Received: jit_compile={jit_compile}."
            )
        if unused := {"metrics", "loss_weights", "weighted_metrics"} & {
            name for name, value in options.items() if value is not None
        }:
            raise ValueError(
                f"DualEncoder does not use {', '.join(sorted(unused))}: it reports its own loss "
                "and accuracy. Leave it out."
            )
        super().compile(optimizer=optimizer, jit_compile=False, **options)
        self.loss, self._clip_norm, self._micro_batch = loss, clip_norm, micro_batch

    @property
    def clip_norm(self) -> float | None:
        """The largest norm of the whole gradient, as compiled."""
        return self._clip_norm

    @property
    def micro_batch(self) -> int | None:
        """How many pictures go through the towers at a time, as compiled."""
        return self._micro_batch

    def get_compile_config(self):
        """What `compile` was called with, the tagging loss, and the seeds of the dropout."""
        if not self.compiled:
            return {}
        return {
            **super().get_compile_config(),
            "loss": self.loss,
            "clip_norm": self.clip_norm,
            "micro_batch": self.micro_batch,
            "tagging_loss": self.tagging_loss and self.tagging_loss.get_config(),
            "dropout_seeds": dropout_seeds(self),
        }

    def compile_from_config(self, config):
        """Compile as `get_compile_config` says; a file of an earlier version names no loss."""
        config = dict(keras.saving.deserialize_keras_object(config))
        if "clip_norm" not in config:
            config = {name: config[name] for name in EARLIER_COMPILE_OPTIONS if name in config}
        tagging_loss = config.pop("tagging_loss", None)
        self.tagging_loss = tagging_loss and TaggingLoss.from_config(tagging_loss)
        restore_dropout_seeds(self, config.pop("dropout_seeds", []))
        self.compile(**config)
        self.optimizer.build(self.trainable_variables)

    def get_config(self):
        """The model configuration and which towers are frozen; weights are not part of it."""
        return {"config": self.config.to_dict(), "name": self.name, "frozen": list(self.frozen)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Build the same architecture with fresh weights, the same towers frozen."""
        config = dict(config)
        frozen = config.pop("frozen", ())
        model = cls(**config)
        model.freeze(frozen)
        return model

    @property
    def metrics(self):
        """The running means that `fit` resets at each epoch."""
        return [self.loss_tracker, self.accuracy_tracker]

    def call(self, inputs: Mapping, training: bool = False) -> dict[str, tf.Tensor]:
        """Embed both modalities of a batch: `image_embeddings` and `text_embeddings`, (B, D)."""
        text_mask = tf.cast(inputs["text_mask"], tf.bool)
        image_features = inputs.get("image_features")
        if image_features is None:
            image_features = self.image_features(inputs["image"], training)
        text_features = inputs.get("text_features")
        if text_features is None:
            text_features = self.text_features(inputs["token_ids"], text_mask, training)
        image = self.image_head(image_features, training=training)
        text = self.text_head(text_features, keep=text_mask, training=training)
        return {"image_embeddings": unit_norm(image), "text_embeddings": unit_norm(text)}

    def encode_image(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Pictures (B, S, S, 3), uint8 or 0..255 float, to (B, D) float32 unit-norm embeddings."""
        features = self.image_features(images, training)
        return self.embed_image_features(features, training)

    def encode_text(
        self, token_ids: tf.Tensor, text_mask: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Token ids (B, L) int32 and their mask (B, L) to (B, D) float32 unit-norm embeddings."""
        features = self.text_features(token_ids, text_mask, training)
        return self.embed_text_features(features, text_mask, training)

    def image_features(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the features of the image tower: (B, F), or (B, P, F) without pooling."""
        training = training and "image" not in self.frozen
        return self.image_tower(tf.cast(images, tf.float32), training=training)

    def text_features(
        self, token_ids: tf.Tensor, text_mask: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Return the features of the text tower: (B, F), or (B, L, F) without pooling."""
        training = training and "text" not in self.frozen
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

    @property
    def ensemble_size(self) -> int:
        """How many parts of the embedding learn apart, each with a loss of its own."""
        return getattr(self.image_head, "members", 1)

    def embed_batch(self, batch: Mapping, training: bool) -> dict[str, tf.Tensor]:
        """`call` on a batch that may have K captions to a picture: texts (B * K, D)."""
        return self(flat_captions(batch), training=training)

    def local_loss(
        self, embeddings: Mapping, batch: Mapping, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """This replica's share of the loss and accuracy of the global batch; see `global_loss`."""
        loss, accuracy = global_loss(
            embeddings,
            batch,
            loss=self.loss,
            scale=self.temperature(),
            bias=None if self.logit_bias is None else self.logit_bias(),
            ensemble_size=self.ensemble_size,
        )
        if self.tagging_loss is not None and training:
            images, step = embeddings["image_embeddings"], self.optimizer.iterations
            tagging = self.tagging_loss(self._embed_prompts, step, images, batch["words"])
            loss += tagging / cross_replica.global_rows(images)
        return loss, accuracy

    def _embed_prompts(self, prompts: Mapping) -> tf.Tensor:
        """The text half of `call`, in training: (M, D)."""
        features, mask = prompts.get("text_features"), prompts["text_mask"]
        if features is None:
            features = self.text_features(prompts["token_ids"], mask, training=True)
        return self.embed_text_features(features, mask, training=True)

    def train_step(self, batch: Mapping) -> dict[str, tf.Tensor]:
        """One update from the global batch; in a replica context under a strategy.

        Returns:
            The running means of the epoch, and of this step: `batch_loss`, `gradient_norm` (before
            clipping), that of each modality, and `logit_scale`, each () float32 and equal on all
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
            **self._norms_by_modality(norms),
            "logit_scale": self.temperature(),
        }

    def _norms_by_modality(self, norms: tf.Tensor) -> dict[str, tf.Tensor]:
        """The norms of the gradients of tower and head together, from one norm per variable."""
        by_modality = {}
        for modality in MODALITIES:
            parts = getattr(self, f"{modality}_tower"), getattr(self, f"{modality}_head")
            own = {id(variable) for part in parts for variable in part.trainable_variables}
            places = [n for n, v in enumerate(self.trainable_variables) if id(v) in own]
            if places:
                by_modality[f"gradient_norm_{modality}"] = tf.norm(tf.gather(norms, places))
        return by_modality

    def _gradients(self, batch: Mapping, loss_scale: tf.Tensor | None) -> tuple:
        """The shares of the loss and of the accuracy, and the gradients of the scaled share."""
        step = self.optimizer.iterations.value
        variables = [variable.value for variable in self.trainable_variables]

        def embed(part: Mapping, number: tf.Tensor | int) -> dict[str, tf.Tensor]:
            seed_dropout(self, step, number)
            return self.embed_batch(part, training=True)

        def loss_of(embeddings: Mapping) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            loss, accuracy = self.local_loss(embeddings, batch, training=True)
            return loss if loss_scale is None else loss * loss_scale, loss, accuracy

        def loss_of_parts(embeddings: Mapping, count: tf.Tensor):
            seed_dropout(self, step, count)
            shape = [None, self.config.embed_dim]
            return loss_of({name: tf.ensure_shape(e, shape) for name, e in embeddings.items()})

        if self.micro_batch is not None:
            (_, *shares), gradients = cached_gradients(
                embed, loss_of_parts, variables, batch, self.micro_batch
            )
            return *shares, gradients
        with tf.GradientTape() as tape:
            scaled, *shares = loss_of(embed(batch, 0))
        return *shares, tape.gradient(scaled, variables)

    def test_step(self, batch: Mapping) -> dict[str, tf.Tensor]:
        """The loss and accuracy of a batch, without an update."""
        shares = self.local_loss(self.embed_batch(batch, False), batch, False)
        return self._track(*cross_replica.sum_over_replicas(list(shares)))

    def _track(self, loss, accuracy):
        self.loss_tracker.update_state(loss)
        self.accuracy_tracker.update_state(accuracy)
        return {"loss": self.loss_tracker.result(), "accuracy": self.accuracy_tracker.result()}

    def _loss_scale(self):
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            return self.optimizer.scale_loss(tf.constant(1.0))
        return None
