"""A text tower without attention: the mean of the vectors of a text's tokens."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfclip.models.towers.text_transformer import pool_text, text_inputs


@keras.saving.register_keras_serializable("tfclip")
class TokenTable(keras.layers.Layer):
    """Looks up a vector for each token, without its position: (B, L) -> (B, L, width).

    Args:
        vocabulary_size: rows of the table.
        width: size of a vector.
    """

    def __init__(self, vocabulary_size: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.width = width

    def build(self, input_shape):
        """Create the table."""
        self.tokens = self.add_weight(
            shape=(self.vocabulary_size, self.width),
            initializer=keras.initializers.RandomNormal(stddev=0.05),
            name="token_embeddings",
        )

    def save_own_variables(self, store):
        """Save the table without Keras' second copy."""
        store["0"] = np.from_dlpack(tf.convert_to_tensor(self.tokens.value))

    def call(self, token_ids):
        """Return the rows of the tokens."""
        return ops.take(self.tokens, token_ids, axis=0)

    def get_config(self):
        """Return the configuration with both sizes."""
        config = {"vocabulary_size": self.vocabulary_size, "width": self.width}
        return {**super().get_config(), **config}


def token_table(
    vocabulary_size: int, context_length: int, width: int = 128, pooling: str = "mean"
) -> keras.Model:
    """Return a tower that pools the vectors of a text's tokens; their order does not matter.

    As static embeddings of sentences (Model2Vec, github.com/MinishLab/model2vec). A teacher's
    embeddings of single words (`--teacher-words`) teach it those that no caption contains.

    Args:
        vocabulary_size: rows of the table.
        context_length: the longest text; the table has no positions.
        width: size of a vector.
        pooling: see `pool_text`.

    Returns:
        A model from `text_inputs()` to (B, width) features, or (B, L, width) unpooled.
    """
    inputs = text_inputs()
    tokens = TokenTable(vocabulary_size, width, name="embeddings")(inputs["token_ids"])
    pooled = pool_text(tokens, inputs["text_mask"], pooling)
    return keras.Model(inputs, pooled, name="token_table")
