"""Heads: from the features of a tower to the shared embedding, by name."""

from __future__ import annotations

import keras
import numpy as np
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


@keras.saving.register_keras_serializable("tfclip")
class Residual(Head):
    """The head for frozen towers: standardised features, through a matrix and a perceptron beside.

    y = W x + V dropout(gelu(U x)), where x are the features, each with the mean 0 and the deviation
    1 of `adapt`, after dropout. Strong dropout is what lets heads learn from a few thousand
    pictures. Several `members` learn apart, each with a loss of its own, and their unit-norm
    embeddings stand one after the other: the cosine is the mean of the members' cosines, as in an
    ensemble (Hansen and Salamon 1990).

    Args:
        embed_dim: of all members together.
        members: how many; divides `embed_dim`.
        hidden: width of the perceptron of each member.
        input_dropout: rate at the standardised features.
        dropout: rate in the perceptron.
    """

    def __init__(
        self,
        embed_dim: int,
        members: int = 1,
        hidden: int = 512,
        input_dropout: float = 0.0,
        dropout: float = 0.5,
        **kwargs,
    ):
        super().__init__(embed_dim, **kwargs)
        if members < 1 or embed_dim % members:
            raise ValueError(
                f"members must be 1 or more and divide embed_dim {embed_dim}. Received: {members}."
            )
        self.members = members
        self.hidden_width = hidden
        self.input_rate = input_dropout
        self.rate = dropout

    def build(self, input_shape):
        """Create the members, and the mean and deviation of the features, which do not train."""
        self.check_rank(input_shape, 2)
        width = input_shape[-1]
        policy = {"dtype": self.dtype_policy}
        kept = {"shape": (width,), "trainable": False, "dtype": "float32"}
        self.mean = self.add_weight(name="mean", initializer="zeros", **kept)
        self.deviation = self.add_weight(name="deviation", initializer="ones", **kept)
        self.parts = []
        for number in range(self.members):
            layers = {
                "input_dropout": keras.layers.Dropout(self.input_rate, **policy),
                "hidden": keras.layers.Dense(
                    self.hidden_width, activation="gelu", name=f"hidden_{number}", **policy
                ),
                "dropout": keras.layers.Dropout(self.rate, **policy),
                "out": keras.layers.Dense(self._member_dim, name=f"out_{number}", **policy),
                "straight": keras.layers.Dense(
                    self._member_dim, use_bias=False, name=f"straight_{number}", **policy
                ),
            }
            layers["hidden"].build((None, width))
            layers["straight"].build((None, width))
            layers["out"].build((None, self.hidden_width))
            self.parts.append(layers)

    @property
    def _member_dim(self) -> int:
        return self.embed_dim // self.members

    def adapt(self, features: np.ndarray) -> None:
        """Take the mean and the deviation from (N, F) features of training examples.

        A feature that hardly varies would become noise: no deviation below a thousandth of the
        largest one is taken.
        """
        features = np.asarray(features, np.float32)
        deviation = features.std(axis=0)
        self.mean.assign(features.mean(axis=0))
        self.deviation.assign(np.maximum(deviation, 1e-3 * max(deviation.max(), 1e-6)))

    def call(self, features, keep=None, training=False):
        """The members' embeddings of (B, F), each of unit norm: (B, embed_dim)."""
        x = (ops.cast(features, "float32") - self.mean) / self.deviation
        x = ops.cast(x, self.compute_dtype)
        return ops.concatenate([self._member(part, x, training) for part in self.parts], axis=-1)

    def _member(self, part: dict, x, training: bool):
        x = part["input_dropout"](x, training=training)
        y = part["out"](part["dropout"](part["hidden"](x), training=training))
        y = ops.cast(y + part["straight"](x), "float32")
        return y / ops.sqrt(ops.maximum(ops.sum(y * y, axis=-1, keepdims=True), 1e-12))

    def get_config(self):
        """The sizes and rates."""
        return {
            **super().get_config(),
            "members": self.members,
            "hidden": self.hidden_width,
            "input_dropout": self.input_rate,
            "dropout": self.rate,
        }
