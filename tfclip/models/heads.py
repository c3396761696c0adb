"""Heads: from the features of a tower to the shared embedding, by name."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("tfclip")
class Head(keras.layers.Layer):
    """Base of all heads: (B, F) features, or (B, N, F) of N places or tokens, to (B, embed_dim).

    A head that pools takes `keep` (B, N) bool, false for padding; None keeps every position. The
    result is not yet of unit norm.

    Attributes:
        ensemble_size: parts of the embedding that learn separately; 1 but for `Residual`.
    """

    ensemble_size = 1

    def __init__(self, embed_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.embed_dim = embed_dim

    def get_config(self):
        """Return the configuration with the size of the embedding."""
        return {**super().get_config(), "embed_dim": self.embed_dim}

    def check_rank(self, shape: tuple, rank: int) -> None:
        """Check the rank of the features.

        Raises:
            ValueError: names the head, the shape it received and the pooling to choose.
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
    """No head: the tower's features are the embedding; their size must be `embed_dim`."""

    def build(self, input_shape):
        """Check the size of the features; there are no weights."""
        self.check_rank(input_shape, 2)
        if input_shape[-1] != self.embed_dim:
            raise ValueError(
                f"The Identity head needs embed_dim {input_shape[-1]}, the size of the tower's "
                f"features. Received: embed_dim {self.embed_dim}."
            )

    def call(self, features, keep=None, training=False):
        """Return the features unchanged."""
        return features


@keras.saving.register_keras_serializable("tfclip")
class Linear(Head):
    """One linear layer, by default without a bias (Radford et al. 2021, section 2.3)."""

    def __init__(self, embed_dim: int, use_bias: bool = False, **kwargs):
        super().__init__(embed_dim, **kwargs)
        self.use_bias = use_bias

    def build(self, input_shape):
        """Create the layer."""
        self.check_rank(input_shape, 2)
        self.dense = keras.layers.Dense(
            self.embed_dim, use_bias=self.use_bias, dtype=self.dtype_policy, name="dense"
        )
        self.dense.build(input_shape)

    def call(self, features, keep=None, training=False):
        """Project (B, F) to (B, embed_dim)."""
        return self.dense(features)

    def get_config(self):
        """Return the configuration with `use_bias`."""
        return {**super().get_config(), "use_bias": self.use_bias}


@keras.saving.register_keras_serializable("tfclip")
class Projection(Head):
    """liteCLIP's head: x = Dense(features), then x + LayerNorm(Dropout(GELU(x)))."""

    def __init__(self, embed_dim: int, dropout: float = 0.1, **kwargs):
        super().__init__(embed_dim, **kwargs)
        self.rate = dropout

    def build(self, input_shape):
        """Create the projection and the normalisation."""
        self.check_rank(input_shape, 2)
        policy = {"dtype": self.dtype_policy}
        self.dense = keras.layers.Dense(self.embed_dim, name="dense", **policy)
        self.dropout = keras.layers.Dropout(self.rate, **policy)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm", **policy)
        self.dense.build(input_shape)
        self.norm.build((None, self.embed_dim))

    def call(self, features, keep=None, training=False):
        """Project (B, F) to (B, embed_dim) and add the normalised non-linear part."""
        x = self.dense(features)
        return x + self.norm(self.dropout(ops.gelu(x, approximate=False), training=training))

    def get_config(self):
        """Return the configuration with the dropout rate."""
        return {**super().get_config(), "dropout": self.rate}


@keras.saving.register_keras_serializable("tfclip")
class Perceptron(Head):
    """simple-clip's head: bias-free linear layers, F to F to embed_dim, GELU between."""

    def build(self, input_shape):
        """Create both layers."""
        self.check_rank(input_shape, 2)
        options = {"use_bias": False, "dtype": self.dtype_policy}
        self.hidden = keras.layers.Dense(
            input_shape[-1], activation="gelu", name="hidden", **options
        )
        self.dense = keras.layers.Dense(self.embed_dim, name="dense", **options)
        self.hidden.build(input_shape)
        self.dense.build(input_shape)

    def call(self, features, keep=None, training=False):
        """Map (B, F) to (B, embed_dim)."""
        return self.dense(self.hidden(features))


@keras.saving.register_keras_serializable("tfclip")
class Residual(Head):
    """The head for frozen towers: a linear layer and a perceptron over standardised features.

    y = W x + V dropout(gelu(U x)), where x are the features with mean 0 and deviation 1, as fitted
    by `adapt`, after dropout. Strong dropout makes it possible to train heads on a few thousand
    pictures. The head may be an ensemble: its members learn separately, each with its own loss, and
    their unit-norm embeddings are concatenated, so that the cosine is the mean of the members'
    cosines (Hansen and Salamon 1990).

    Args:
        embed_dim: size of the concatenated embedding.
        members: size of the ensemble; must divide `embed_dim`. (The name is part of saved models.)
        hidden: width of the perceptron of each member.
        input_dropout: dropout rate of the standardised features.
        dropout: dropout rate in the perceptron.
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
        self.ensemble_size = members
        self.hidden_width = hidden
        self.input_rate = input_dropout
        self.rate = dropout

    def build(self, input_shape):
        """Create the members' layers, and the features' mean and deviation, which do not train."""
        self.check_rank(input_shape, 2)
        width = input_shape[-1]
        policy = {"dtype": self.dtype_policy}
        kept = {"shape": (width,), "trainable": False, "dtype": "float32"}
        self.mean = self.add_weight(name="mean", initializer="zeros", **kept)
        self.deviation = self.add_weight(name="deviation", initializer="ones", **kept)
        self.parts = []
        for number in range(self.ensemble_size):
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
        return self.embed_dim // self.ensemble_size

    def adapt(self, features: np.ndarray) -> None:
        """Set the mean and the deviation to those of (N, F) features of training examples.

        Deviations are at least a thousandth of the largest one: a feature that hardly varies would
        otherwise be amplified to noise.
        """
        features = np.asarray(features, np.float32)
        deviation = features.std(axis=0)
        self.mean.assign(features.mean(axis=0))
        self.deviation.assign(np.maximum(deviation, 1e-3 * max(deviation.max(), 1e-6)))

    def call(self, features, keep=None, training=False):
        """Return the members' unit-norm embeddings of (B, F), concatenated: (B, embed_dim)."""
        x = (ops.cast(features, "float32") - self.mean) / self.deviation
        x = ops.cast(x, self.compute_dtype)
        return ops.concatenate([self._member(part, x, training) for part in self.parts], axis=-1)

    def _member(self, part: dict, x, training: bool):
        x = part["input_dropout"](x, training=training)
        y = part["out"](part["dropout"](part["hidden"](x), training=training))
        y = ops.cast(y + part["straight"](x), "float32")
        return y / ops.sqrt(ops.maximum(ops.sum(y * y, axis=-1, keepdims=True), 1e-12))

    def get_config(self):
        """Return the configuration with the sizes and dropout rates."""
        return {
            **super().get_config(),
            "members": self.ensemble_size,
            "hidden": self.hidden_width,
            "input_dropout": self.input_rate,
            "dropout": self.rate,
        }
