"""A small pre-norm transformer text tower with masked mean pooling."""

from __future__ import annotations

import keras
from keras import ops


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

    def call(self, token_ids):
        """Look both up; the length L may be anything up to the context length."""
        embedded = ops.take(self.tokens, token_ids, axis=0)
        return embedded + self.positions[: ops.shape(token_ids)[1]]

    def get_config(self):
        """All three sizes."""
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
        """Padding neither adds to the sum nor to the count."""
        weight = ops.cast(text_mask, tokens.dtype)[..., None]
        return ops.sum(tokens * weight, axis=1) / ops.maximum(ops.sum(weight, axis=1), 1)


def text_inputs() -> dict[str, keras.KerasTensor]:
    """The inputs of every text tower: `token_ids` (B, L) int32 and `text_mask` (B, L) bool."""
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
) -> keras.Model:
    """Bidirectional transformer encoder for short captions.

    Args:
        vocabulary_size, context_length: sizes of the token and the position table.
        width, blocks, heads: channels of a token, number of blocks, attention heads.
        dropout: rate after each sub-layer.

    Returns:
        A model from `text_inputs()` to (B, width) features.
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
    return keras.Model(inputs, MaskedMean(name="pool")(x, mask), name="text_transformer")
