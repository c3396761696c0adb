"""Heads: from the features of a tower to the shared embedding, by name."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfclip")
class Head(keras.layers.Layer):
    """Base of all heads: (B, F) features, or (B, N, F) of N places or tokens, to (B, embed_dim).

    A head that pools takes `keep` (B, N) bool, true where a token is no padding; None counts all.
    The result is not yet of unit norm.
    """

    def __init__(self, embed_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim

    def get_config(self):
        """The size of the embedding."""
        return {**super().get_config(), "embed_dim": self.embed_dim}

    def check_rank(self, shape: tuple, rank: int) -> None:
        """Refuse features of another rank than this head takes.

        Raises:
            ValueError: naming the head, what it received and what to choose.
        """
        if len(shape) != rank:
            takes = "(B, F) features" if rank == 2 else "(B, N, F) places or tokens"
            fix = "another pooling than none" if rank == 2 else "pooling none"
            raise ValueError(
                f"The {type(self).__name__} head takes {takes}: give the tower {fix}. "
                f"Received: {tuple(shape)}."
            )


@keras.saving.register_keras_serializable("tfclip")
class Identity(Head):
    """No head: the tower's features are the embedding, and must have its size."""

    def build(self, input_shape):
        """Compare the sizes; there are no weights."""
        self.check_rank(input_shape, 2)
        if input_shape[-1] != self.embed_dim:
            raise ValueError(
                f"Without a head the embedding has the size of the features, {input_shape[-1]}. "
                f"Received: embed_dim {self.embed_dim}."
            )

    def call(self, features, keep=None, training=False):
        """The features as they are."""
        return features


@keras.saving.register_keras_serializable("tfclip")
class Linear(Head):
    """One matrix, without or with a bias (Radford et al. 2021, section 2.3: without)."""

    def __init__(self, embed_dim: int, use_bias: bool = False, **kwargs):
        super().__init__(embed_dim, **kwargs)
        self.use_bias = use_bias

    def build(self, input_shape):
        """Create the matrix."""
        self.check_rank(input_shape, 2)
        self.dense = keras.layers.Dense(
            self.embed_dim, use_bias=self.use_bias, dtype=self.dtype_policy, name="dense"
        )
        self.dense.build(input_shape)

    def call(self, features, keep=None, training=False):
        """Multiply."""
        return self.dense(features)

    def get_config(self):
        """The size and whether there is a bias."""
        return {**super().get_config(), "use_bias": self.use_bias}


@keras.saving.register_keras_serializable("tfclip")
class Projection(Head):
    """liteCLIP's head: x = Dense(features), then x + LayerNorm(Dropout(GELU(x)))."""

    def __init__(self, embed_dim: int, dropout: float = 0.1, **kwargs):
        super().__init__(embed_dim, **kwargs)
        self.rate = dropout

    def build(self, input_shape):
        """Create the matrix and the norm."""
        self.check_rank(input_shape, 2)
        policy = {"dtype": self.dtype_policy}
        self.dense = keras.layers.Dense(self.embed_dim, name="dense", **policy)
        self.dropout = keras.layers.Dropout(self.rate, **policy)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm", **policy)
        self.dense.build(input_shape)
        self.norm.build((None, self.embed_dim))

    def call(self, features, keep=None, training=False):
        """Project, and add the normalised non-linear part."""
        x = self.dense(features)
        return x + self.norm(self.dropout(ops.gelu(x, approximate=False), training=training))

    def get_config(self):
        """The size and the dropout rate."""
        return {**super().get_config(), "dropout": self.rate}


@keras.saving.register_keras_serializable("tfclip")
class Perceptron(Head):
    """simple-clip's head: a bias-free perceptron, F to F to embed_dim, with GELU between."""

    def build(self, input_shape):
        """Create both matrices."""
        self.check_rank(input_shape, 2)
        options = {"use_bias": False, "dtype": self.dtype_policy}
        self.hidden = keras.layers.Dense(
            input_shape[-1], activation="gelu", name="hidden", **options
        )
        self.dense = keras.layers.Dense(self.embed_dim, name="dense", **options)
        self.hidden.build(input_shape)
        self.dense.build(input_shape)

    def call(self, features, keep=None, training=False):
        """Through the hidden layer."""
        return self.dense(self.hidden(features))
