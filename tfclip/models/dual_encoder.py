"""The dual encoder: two towers, two heads and one temperature, which embed pictures and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfclip.models import registry
from tfclip.models.config import ModelConfig
from tfclip.models.contrastive_model import MODALITIES, ContrastiveModel
from tfclip.models.layers.logit_scale import LogitBias, LogitScale
from tfclip.models.objective.global_loss import flat_captions
from tfclip.models.objective.losses import unit_norm
from tfclip.naming import unknown

DTYPE_POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


@keras.saving.register_keras_serializable("tfclip")
class DualEncoder(ContrastiveModel):
    """An image tower and a text tower with a shared embedding space (Radford et al. 2021).

    It outputs embeddings, not the matrix of logits: the loss needs the rows of all replicas. A
    batch holds `image` (B, S, S, 3) uint8, `token_ids` (B, L) int32, `text_mask` (B, L) bool and,
    in training, `image_id` and `caption_id`, both (B,) int64. With K captions per picture, each
    column of the captions has the shape (B, K, ...). The stored output of a frozen tower may
    replace its input: `image_features` for `image`, `text_features` for `token_ids`. With a
    `tagging_loss`, `words` (B, M) int32 holds the words of the pictures' captions, padded with -1.

    `compile` and `freeze` configure training. Both settings are saved by `model.save` and restored
    by `keras.models.load_model`.

    Examples:
        >>> import numpy as np
        >>> from tfclip.models.config import ModelConfig
        >>> from tfclip.models.dual_encoder import DualEncoder
        >>> config = ModelConfig(
        ...     image_tower="small-convolutional", text_tower="small-transformer", image_size=16,
        ...     embed_dim=8, context_length=6, vocabulary_size=20,
        ...     image_options={"widths": (4, 8), "stem": 2},
        ...     text_options={"width": 8, "blocks": 1, "heads": 2})
        >>> model = DualEncoder(config)
        >>> model.encode_image(np.zeros((2, 16, 16, 3), "uint8")).shape
        TensorShape([2, 8])
        >>> model.compile("adam", loss="softmax", clip_norm=1.0)
        >>> batch = {
        ...     "image": np.zeros((4, 16, 16, 3), "uint8"), "token_ids": np.ones((4, 6), "int32"),
        ...     "text_mask": np.ones((4, 6), bool), "image_id": np.arange(4),
        ...     "caption_id": np.arange(4)}
        >>> history = model.fit(batch, batch_size=4, verbose=0).history
        >>> round(history["loss"][0], 2)  # ln 4: four equal pictures and captions
        1.39

    Args:
        config: the architecture.
        modalities: what is built. With "image" or "text" alone the model embeds pictures or texts
            only, without the time that the other tower takes; it can neither train nor be saved.

    Attributes:
        config: the architecture.
        image_tower, text_tower: Keras models from inputs to features.
        image_head, text_head: layers from features to the embedding.
        frozen: the modalities whose towers neither train nor use dropout; see `freeze`.
    """

    def __init__(
        self, config: ModelConfig | Mapping, modalities: Sequence[str] = MODALITIES, **kwargs
    ):
        super().__init__(**{"name": "dual_encoder", **kwargs})
        self.config = config if isinstance(config, ModelConfig) else ModelConfig.from_dict(config)
        self.frozen: tuple[str, ...] = ()
        options = self.config
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(DTYPE_POLICIES[options.precision])
        try:
            if "image" in modalities:
                self.image_tower = registry.image_tower(options.image_tower).build(
                    image_size=options.image_size, **options.image_options
                )
            if "text" in modalities:
                self.text_tower = registry.text_tower(options.text_tower).build(
                    vocabulary_size=options.vocabulary_size,
                    context_length=options.context_length,
                    **options.text_options,
                )
        finally:
            keras.config.set_dtype_policy(policy)
        if "image" in modalities:
            self.image_head = self.new_head("image", self.image_tower.output_shape)
        if "text" in modalities:
            self.text_head = self.new_head("text", self.text_tower.output_shape)
        sizes = [getattr(self, f"{modality}_head").ensemble_size for modality in modalities]
        if len(set(sizes)) > 1:
            raise ValueError(
                "image_head and text_head must have ensembles of the same size (the option "
                f"members). Received: {sizes[0]} and {sizes[1]}."
            )
        self.logit_scale = LogitScale(options.initial_logit_scale)
        self.logit_scale.build()
        self.logit_bias = None
        if options.initial_logit_bias is not None:
            self.logit_bias = LogitBias(options.initial_logit_bias)
            self.logit_bias.build()
        self.built = True
        self.create_metrics()

    def new_head(self, modality: str, shape: Sequence[int | None]) -> keras.layers.Layer:
        """Return the head of the configuration with new weights, for features of `shape`."""
        options = self.config
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(DTYPE_POLICIES[options.precision])
        try:
            head = registry.head(getattr(options, f"{modality}_head"))(
                options.embed_dim,
                name=f"{modality}_head",
                **getattr(options, f"{modality}_head_options"),
            )
            head.build(shape)
        finally:
            keras.config.set_dtype_policy(policy)
        return head

    def freeze(self, modalities: Sequence[str]) -> None:
        """Freeze the towers of these modalities (Zhai et al. 2022, LiT); () unfreezes both.

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

    def get_config(self) -> dict[str, Any]:
        """Return the configuration and the frozen modalities, without the weights."""
        return {"config": self.config.to_dict(), "name": self.name, "frozen": list(self.frozen)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects=None) -> DualEncoder:
        """Build the same architecture with new weights and the same towers frozen."""
        config = dict(config)
        frozen = config.pop("frozen", ())
        model = cls(**config)
        model.freeze(frozen)
        return model

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
        """Embed pictures (B, S, S, 3), uint8 or float in 0..255: (B, D) float32, unit norm."""
        features = self.image_features(images, training)
        return self.embed_image_features(features, training)

    def encode_text(
        self, token_ids: tf.Tensor, text_mask: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Embed token ids (B, L) int32 with their mask (B, L): (B, D) float32, unit norm."""
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
        """Return the embeddings (B, D) of `image_features`: the second half of `encode_image`."""
        return unit_norm(self.image_head(features, training=training))

    def embed_text_features(
        self, features: tf.Tensor, text_mask: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Return the embeddings (B, D) of `text_features`: the second half of `encode_text`."""
        keep = tf.cast(text_mask, tf.bool)
        return unit_norm(self.text_head(features, keep=keep, training=training))

    @property
    def ensemble_size(self) -> int:
        """The number of parts of the embedding that learn separately, each with its own loss."""
        return self.image_head.ensemble_size

    def embed_batch(self, batch: Mapping, training: bool) -> dict[str, tf.Tensor]:
        """`call` for a batch that may have K captions per picture: texts (B * K, D)."""
        return self(flat_captions(batch), training=training)

    def embed_prompts(self, prompts: Mapping) -> tf.Tensor:
        """Return the embeddings (M, D) of M prompts, in training.

        Args:
            prompts: `text_mask` (M, L), and `token_ids` (M, L) or `text_features`.
        """
        features, mask = prompts.get("text_features"), prompts["text_mask"]
        if features is None:
            features = self.text_features(prompts["token_ids"], mask, training=True)
        return self.embed_text_features(features, mask, training=True)
