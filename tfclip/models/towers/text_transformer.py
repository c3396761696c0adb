"""The text transformers (small, CLIP, SigLIP), and the parts that all text towers share."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfclip.models.towers.vision_transformer import EncoderBlock
from tfclip.naming import unknown


@keras.saving.register_keras_serializable("tfclip")
class TokenAndPosition(keras.layers.Layer):
    """Sum of a token embedding and a learnt position embedding: (B, L) -> (B, L, width)."""

    def __init__(self, vocabulary_size: int, context_length: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.context_length = context_length
        self.width = width

    def build(self, input_shape):
        """Create both tables."""
        self.tokens = self.add_weight(
            shape=(self.vocabulary_size, self.width),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="token_embeddings",
        )
        self.positions = self.add_weight(
            shape=(self.context_length, self.width),
            initializer=keras.initializers.RandomNormal(stddev=0.01),
            name="position_embeddings",
        )

    def save_own_variables(self, store):
        """Save both tables without Keras' second copy, which is large for a token table."""
        for key, table in enumerate((self.tokens, self.positions)):
            store[str(key)] = np.from_dlpack(tf.convert_to_tensor(table.value))

    def call(self, token_ids):
        """Add both embeddings; L may be any length up to the context length."""
        embedded = ops.take(self.tokens, token_ids, axis=0)
        return embedded + self.positions[: ops.shape(token_ids)[1]]

    def get_config(self):
        """Return the configuration with all three sizes."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "context_length": self.context_length,
            "width": self.width,
        }


@keras.saving.register_keras_serializable("tfclip")
class MaskedMean(keras.layers.Layer):
    """Mean over the tokens that are not padding: (B, L, C), (B, L) bool -> (B, C)."""

    def call(self, tokens, text_mask):
        """Average over the tokens where `text_mask` is true."""
        weight = ops.cast(text_mask, tokens.dtype)[..., None]
        return ops.sum(tokens * weight, axis=1) / ops.maximum(ops.sum(weight, axis=1), 1)


@keras.saving.register_keras_serializable("tfclip")
class MaskedSumOverRoot(keras.layers.Layer):
    """Sum over the tokens that are not padding by the root of their number, as in
    sentence-transformers' `mean_sqrt_len`: (B, L, C), (B, L) bool -> (B, C)."""

    def call(self, tokens, text_mask):
        """Sum the tokens where `text_mask` is true, and divide."""
        weight = ops.cast(text_mask, tokens.dtype)[..., None]
        count = ops.maximum(ops.sum(weight, axis=1), 1)
        return ops.sum(tokens * weight, axis=1) / ops.sqrt(count)


@keras.saving.register_keras_serializable("tfclip")
class MaskedMaximum(keras.layers.Layer):
    """Maximum over the tokens that are not padding: (B, L, C), (B, L) bool -> (B, C)."""

    def call(self, tokens, text_mask):
        """Take the maximum where `text_mask` is true; a text without tokens gives 0."""
        kept = ops.max(ops.where(text_mask[..., None], tokens, float("-inf")), axis=1)
        return ops.where(ops.any(text_mask, axis=1, keepdims=True), kept, 0)


@keras.saving.register_keras_serializable("tfclip")
class LastToken(keras.layers.Layer):
    """The last token that is not padding, CLIP's end-of-text: (B, L, C), (B, L) bool -> (B, C)."""

    def call(self, tokens, text_mask):
        """Select the last position of the mask, which must be contiguous."""
        length = ops.sum(ops.cast(text_mask, "int32"), axis=1, keepdims=True)
        chosen = ops.arange(ops.shape(tokens)[1])[None] == length - 1
        return ops.einsum("bl,blc->bc", ops.cast(chosen, tokens.dtype), tokens)


def pool_text(
    tokens: keras.KerasTensor, text_mask: keras.KerasTensor, pooling: str
) -> keras.KerasTensor:
    """Pool the tokens of a text tower.

    Args:
        tokens: (B, L, C).
        text_mask: (B, L) bool.
        pooling: "mean", "max" or "mean_sqrt_len" over the tokens that are not padding, "end" for
            the last of them, "cls" for the first, all (B, C); or "none" for `tokens`.

    Raises:
        ValueError: for another pooling.
    """
    layers: dict[str, type[keras.layers.Layer]] = {
        "mean": MaskedMean,
        "max": MaskedMaximum,
        "mean_sqrt_len": MaskedSumOverRoot,
        "end": LastToken,
    }
    if pooling in layers:
        return layers[pooling](name="pool")(tokens, text_mask)
    if pooling == "cls":
        return tokens[:, 0]
    if pooling == "none":
        return tokens
    raise unknown("pooling", pooling, (*layers, "cls", "none"))


def text_inputs() -> dict[str, keras.KerasTensor]:
    """Return the inputs of text towers: `token_ids` (B, L) int32, `text_mask` (B, L) bool."""
    return {
        "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
        "text_mask": keras.Input((None,), dtype="bool", name="text_mask"),
    }


def text_transformer(
    vocabulary_size: int,
    context_length: int,
    width: int = 128,
    blocks: int = 2,
    heads: int = 4,
    dropout: float = 0.0,
    pooling: str = "mean",
) -> keras.Model:
    """Bidirectional transformer encoder for short captions.

    Args:
        vocabulary_size, context_length: sizes of the token and the position table.
        width, blocks, heads: channels of a token, number of blocks, attention heads.
        dropout: rate after each sub-layer.
        pooling: see `pool_text`.

    Returns:
        A model from `text_inputs()` to (B, width) features, or (B, L, width) unpooled.
    """
    layers = keras.layers
    inputs = text_inputs()
    mask = inputs["text_mask"]
    x = TokenAndPosition(vocabulary_size, context_length, width, name="embeddings")(
        inputs["token_ids"]
    )
    attention_mask = ops.expand_dims(mask, 1)
    for index in range(blocks):
        y = layers.LayerNormalization(epsilon=1e-6, name=f"block_{index}_attention_norm")(x)
        y = layers.MultiHeadAttention(heads, width // heads, name=f"block_{index}_attention")(
            y, y, attention_mask=attention_mask
        )
        x = x + layers.Dropout(dropout)(y)
        y = layers.LayerNormalization(epsilon=1e-6, name=f"block_{index}_dense_norm")(x)
        y = layers.Dense(4 * width, activation="gelu", name=f"block_{index}_dense_in")(y)
        y = layers.Dense(width, name=f"block_{index}_dense_out")(y)
        x = x + layers.Dropout(dropout)(y)
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return keras.Model(inputs, pool_text(x, mask, pooling), name="text_transformer")


@keras.saving.register_keras_serializable("tfclip")
class CausalBlock(EncoderBlock):
    """An `EncoderBlock` in which a token attends to itself and those before it, (B, L, C)."""

    def call(self, x, training=None):
        """Apply causal attention, then the perceptron."""
        y = self.attention_norm(x)
        y = self.attention(y, y, use_causal_mask=True, training=training)
        x = x + self.drop(y, training=training)
        y = self.mlp_out(self.mlp_in(self.mlp_norm(x)))
        return x + self.drop(y, training=training)


def clip_text(
    vocabulary_size: int,
    context_length: int,
    width: int = 512,
    blocks: int = 12,
    heads: int = 8,
    dropout: float = 0.0,
    hidden_activation: str = "quick_gelu",
    pooling: str = "end",
    mlp_width: int | None = None,
    epsilon: float = 1e-5,
) -> keras.Model:
    """Return the text tower of CLIP (Radford et al. 2021, section 2.4), without its projection.

    A causal pre-norm transformer with QuickGELU, pooled at the end-of-text token after the last
    norm. Later tokens cannot change earlier ones, so padding needs no mask except in pooling.

    Args:
        vocabulary_size, context_length: sizes of the token and the position table; CLIP's are
            49,408 and 77.
        width, blocks, heads: channels of a token, number of blocks, attention heads.
        dropout: rate after each sub-layer.
        hidden_activation: of the perceptrons; "gelu" in OpenCLIP's models.
        pooling: see `pool_text`.
        mlp_width: channels inside the perceptrons; by default 4 * `width`.
        epsilon: of all norms.

    Returns:
        A model from `text_inputs()` to (B, width) features, or (B, L, width) unpooled.
    """
    inputs = text_inputs()
    x = TokenAndPosition(vocabulary_size, context_length, width, name="embeddings")(
        inputs["token_ids"]
    )
    options = (heads, mlp_width or 4 * width, hidden_activation, epsilon, dropout)
    for index in range(blocks):
        x = CausalBlock(*options, name=f"block_{index}")(x)
    x = keras.layers.LayerNormalization(epsilon=epsilon, name="norm")(x)
    return keras.Model(inputs, pool_text(x, inputs["text_mask"], pooling), name="clip_text")


@keras.saving.register_keras_serializable("tfclip")
class PadIds(keras.layers.Layer):
    """Pads ids to the context length and sets padding to `pad_id`: (B, l), (B, l) -> (B, L).

    Args:
        context_length: L.
        pad_id: the id for every position where the mask is false.
    """

    def __init__(self, context_length: int, pad_id: int, **kwargs):
        super().__init__(**{**kwargs, "dtype": "int32"})
        self.context_length = context_length
        self.pad_id = pad_id

    def call(self, token_ids, text_mask):
        """Replace masked ids, then append padding."""
        ids = ops.where(text_mask, token_ids, self.pad_id)
        missing = self.context_length - ops.shape(token_ids)[1]
        return ops.pad(ids, [[0, 0], [0, missing]], constant_values=self.pad_id)

    def compute_output_shape(self, token_ids_shape, text_mask_shape):
        """Return the padded shape."""
        return token_ids_shape[0], self.context_length

    def get_config(self):
        """Return the configuration with both arguments."""
        config = {"context_length": self.context_length, "pad_id": self.pad_id}
        return {**super().get_config(), **config}


def siglip_text(
    vocabulary_size: int,
    context_length: int,
    width: int = 768,
    blocks: int = 12,
    heads: int = 12,
    dropout: float = 0.0,
    hidden_activation: str = "gelu_tanh",
    mlp_width: int | None = None,
    epsilon: float = 1e-6,
    pad_id: int = 1,
    pooling: str = "last",
) -> keras.Model:
    """Return the text tower of SigLIP (Zhai et al. 2023, arXiv:2303.15343), without its projection.

    A pre-norm transformer that attends to all positions, including the padding, as in its training:
    texts are padded to the context length, and the last position is the output.

    Args:
        vocabulary_size, context_length: sizes of the token and the position table.
        width, blocks, heads, dropout, hidden_activation, mlp_width, epsilon: as of `clip_text`.
        pad_id: the padding token.
        pooling: "last" for (B, width), or "none" for (B, L, width).

    Raises:
        ValueError: for another pooling.
    """
    if pooling not in ("last", "none"):
        raise unknown("pooling", pooling, ("last", "none"))
    inputs = text_inputs()
    ids = PadIds(context_length, pad_id, name="pad")(inputs["token_ids"], inputs["text_mask"])
    x = TokenAndPosition(vocabulary_size, context_length, width, name="embeddings")(ids)
    options = (heads, mlp_width or 4 * width, hidden_activation, epsilon, dropout)
    for index in range(blocks):
        x = EncoderBlock(*options, name=f"block_{index}")(x)
    x = keras.layers.LayerNormalization(epsilon=epsilon, name="norm")(x)
    return keras.Model(inputs, x[:, -1] if pooling == "last" else x, name="siglip_text")
