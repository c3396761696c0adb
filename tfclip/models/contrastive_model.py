"""Compiling, saving and the contrastive train step of a model of pictures and texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfclip.models.config import ModelConfig
from tfclip.models.layers.dropout_seeds import dropout_seeds, restore_dropout_seeds, seed_dropout
from tfclip.models.layers.logit_scale import LogitBias, LogitScale
from tfclip.models.objective import cross_replica
from tfclip.models.objective.distillation import Distillation
from tfclip.models.objective.global_loss import LOSSES, global_loss
from tfclip.models.objective.grad_cache import cached_gradients
from tfclip.models.objective.tagging_loss import TaggingLoss
from tfclip.models.objective.word_distillation import WordDistillation
from tfclip.naming import unknown

MODALITIES = ("image", "text")
# The compile options of files from before the loss was part of `compile`.
EARLIER_COMPILE_OPTIONS = ("optimizer", "run_eagerly", "steps_per_execution")


class ContrastiveModel(keras.Model):
    """The training half of `DualEncoder`, which adds the towers, the heads and the forward pass.

    A subclass sets `config`, `image_tower`, `text_tower`, `image_head`, `text_head`, `logit_scale`
    and `logit_bias` and implements the methods that raise NotImplementedError here.

    Attributes:
        loss: "softmax" or "sigmoid"; see `compile`.
        clip_norm: largest norm of the whole gradient, or None; see `compile`.
        micro_batch: pictures that go through the towers at a time, or None; see `compile`.
        tagging_loss: the auxiliary loss over the words of the captions, or None.
        distillation: the losses against the stored embeddings of teachers, or None.
        word_distillation: the loss against a teacher's embeddings of words, or None; not saved.
    """

    config: ModelConfig
    logit_scale: LogitScale
    logit_bias: LogitBias | None

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # XLA refuses the loss's loop over chunks: Keras' jit_compile="auto" becomes False.
        self.supports_jit = False
        self.loss = "softmax"
        self._clip_norm: float | None = None
        self._micro_batch: int | None = None
        self.tagging_loss: TaggingLoss | None = None
        self.distillation: Distillation | None = None
        self.word_distillation: WordDistillation | None = None

    @property
    def ensemble_size(self) -> int:
        """The number of parts of the embedding that learn separately, each with its own loss."""
        raise NotImplementedError

    def embed_batch(self, batch: Mapping, training: bool) -> dict[str, tf.Tensor]:
        """Return `image_embeddings` (R, D) and `text_embeddings` (R * K, D) of a batch."""
        raise NotImplementedError

    def embed_prompts(self, prompts: Mapping) -> tf.Tensor:
        """Return the embeddings (M, D) of M prompts, in training."""
        raise NotImplementedError

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
        """Configure training.

        Args:
            optimizer: as for `keras.Model.compile`.
            loss: "softmax" (InfoNCE) or "sigmoid" (SigLIP; needs `initial_logit_bias`).
            clip_norm: largest norm of the whole gradient, over all replicas; None does not clip.
            micro_batch: pictures that go through the towers at a time, which saves memory and
                changes no gradient, see `objective.grad_cache`; None processes the whole batch.
            jit_compile: False or "auto", which has the same effect: the loss does not run under
                XLA.
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
                "and accuracy. Omit these arguments."
            )
        super().compile(optimizer=optimizer, jit_compile=False, **options)
        cross_replica.take_reduced(self.optimizer)
        self.loss, self._clip_norm, self._micro_batch = loss, clip_norm, micro_batch

    @property
    def clip_norm(self) -> float | None:
        """The largest norm of the whole gradient, as compiled."""
        return self._clip_norm

    @property
    def micro_batch(self) -> int | None:
        """The number of pictures that go through the towers at a time, as compiled."""
        return self._micro_batch

    def get_compile_config(self) -> dict[str, Any]:
        """Return the arguments of `compile`, the tagging loss, and the seeds of the dropout."""
        if not self.compiled:
            return {}
        return {
            **super().get_compile_config(),
            "loss": self.loss,
            "clip_norm": self.clip_norm,
            "micro_batch": self.micro_batch,
            "tagging_loss": self.tagging_loss and self.tagging_loss.get_config(),
            "distillation": self.distillation and self.distillation.get_config(),
            "dropout_seeds": dropout_seeds(self),
        }

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """Compile as `get_compile_config` describes; files of earlier versions mean "softmax"."""
        config = dict(keras.saving.deserialize_keras_object(config))
        if "clip_norm" not in config:
            config = {name: config[name] for name in EARLIER_COMPILE_OPTIONS if name in config}
        tagging_loss = config.pop("tagging_loss", None)
        self.tagging_loss = tagging_loss and TaggingLoss.from_config(tagging_loss)
        distillation = config.pop("distillation", None)
        self.distillation = distillation and Distillation.from_config(distillation)
        restore_dropout_seeds(self, config.pop("dropout_seeds", []))
        self.compile(**config)
        self.optimizer.build(self.trainable_variables)

    def create_metrics(self) -> None:
        """Create the running means; called last by `__init__`, which fixes their order in files."""
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.accuracy_tracker = keras.metrics.Mean(name="accuracy")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The running means that `fit` resets at each epoch."""
        return [self.loss_tracker, self.accuracy_tracker]

    def temperature(self) -> tf.Tensor:
        """Return the factor that multiplies the cosine: () float32 in 1..100."""
        return self.logit_scale()

    def local_loss(
        self, embeddings: Mapping, batch: Mapping, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return this replica's part of the loss and accuracy of the global batch.

        See `global_loss`. In training the distillation losses and the tagging loss are added, if
        there are any.

        Args:
            embeddings: as returned by `embed_batch`.
            batch: with `image_id` (R,) and `caption_id` (R,) or (R, K), int64; for a tagging loss
                `words` (R, M) int32; for distillation `teacher_image` and `teacher_text`.
            training: whether this is a training step.
        """
        loss, accuracy = global_loss(
            embeddings,
            batch,
            loss=self.loss,
            scale=self.temperature(),
            bias=None if self.logit_bias is None else self.logit_bias(),
            ensemble_size=self.ensemble_size,
        )
        if self.distillation is not None and training:
            taught = self.distillation(embeddings, batch, self.temperature())
            loss = self.distillation.contrastive * loss + taught
        if self.word_distillation is not None and training:
            learnt = self.word_distillation(self.embed_prompts, self.optimizer.iterations)
            loss += learnt / cross_replica.replica_count()
        if self.tagging_loss is not None and training:
            images, step = embeddings["image_embeddings"], self.optimizer.iterations
            tagging = self.tagging_loss(self.embed_prompts, step, images, batch["words"])
            loss += tagging / cross_replica.global_rows(images)
        return loss, accuracy

    def train_step(self, batch: Mapping) -> dict[str, tf.Tensor]:
        """Update the weights once from the global batch; under a strategy, in a replica context.

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

    def test_step(self, batch: Mapping) -> dict[str, tf.Tensor]:
        """Return the loss and accuracy of a batch, without an update."""
        parts = self.local_loss(self.embed_batch(batch, False), batch, False)
        return self._track(*cross_replica.sum_over_replicas(list(parts)))

    def _norms_by_modality(self, norms: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return the gradient norm of each modality's tower and head, from norms by variable."""
        by_modality = {}
        for modality in MODALITIES:
            parts = getattr(self, f"{modality}_tower"), getattr(self, f"{modality}_head")
            own = {id(variable) for part in parts for variable in part.trainable_variables}
            places = [n for n, v in enumerate(self.trainable_variables) if id(v) in own]
            if places:
                by_modality[f"gradient_norm_{modality}"] = tf.norm(tf.gather(norms, places))
        return by_modality

    def _gradients(self, batch: Mapping, loss_scale: tf.Tensor | None) -> tuple:
        """This replica's part of the loss and accuracy, and the gradients of the scaled loss."""
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
            (_, *parts), gradients = cached_gradients(
                embed, loss_of_parts, variables, batch, self.micro_batch
            )
            return *parts, gradients
        with tf.GradientTape() as tape:
            scaled, *parts = loss_of(embed(batch, 0))
        return *parts, tape.gradient(scaled, variables)

    def _track(self, loss: tf.Tensor, accuracy: tf.Tensor) -> dict[str, tf.Tensor]:
        self.loss_tracker.update_state(loss)
        self.accuracy_tracker.update_state(accuracy)
        return {"loss": self.loss_tracker.result(), "accuracy": self.accuracy_tracker.result()}

    def _loss_scale(self) -> tf.Tensor | None:
        """Return the factor of a loss-scaling optimizer (float16), or None."""
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            return self.optimizer.scale_loss(tf.constant(1.0))
        return None
