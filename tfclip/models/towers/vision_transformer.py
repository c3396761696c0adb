"""Vision transformers: the plain one (arXiv:2010.11929) and CLIP's (arXiv:2103.00020)."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from tfclip.models.layers.activations import activation
from tfclip.models.layers.image_pooling import check_patches, pool_tokens
from tfclip.models.layers.normalization import LayerNormalization
from tfclip.models.layers.pixel_normalization import CLIP, HALF, PixelNormalization


@keras.saving.register_keras_serializable("tfclip")
class ClassAndPosition(keras.layers.Layer):
    """Prepends a learnt class token and adds learnt positions: (B, P, C) -> (B, P + 1, C)."""

    def __init__(self, positions: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.positions = positions

    def build(self, input_shape):
        """Create the class token (C,) and the table (P + 1, C)."""
        _, patches, width = input_shape
        normal = keras.initializers.RandomNormal(stddev=0.02)
        self.class_token = self.add_weight(shape=(width,), initializer=normal, name="class_token")
        if self.positions:
            self.table = self.add_weight(
                shape=(patches + 1, width), initializer=normal, name="position_embeddings"
            )

    def call(self, patches):
        """Prepend the class token and add the positions."""
        batch, width = ops.shape(patches)[0], patches.shape[-1]
        first = ops.broadcast_to(ops.cast(self.class_token, patches.dtype), (batch, 1, width))
        x = ops.concatenate([first, patches], axis=1)
        return x + ops.cast(self.table, x.dtype) if self.positions else x

    def compute_output_shape(self, input_shape):
        """Return the shape with one more token."""
        batch, patches, width = input_shape
        return batch, patches + 1, width

    def get_config(self):
        """Return the configuration with `positions`."""
        return {**super().get_config(), "positions": self.positions}


@keras.saving.register_keras_serializable("tfclip")
class Positions(keras.layers.Layer):
    """Adds learnt positions to patches: (B, P, C) to the same shape."""

    def build(self, input_shape):
        """Create the table (P, C)."""
        self.table = self.add_weight(
            shape=input_shape[1:],
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="position_embeddings",
        )

    def call(self, patches):
        """Add."""
        return patches + ops.cast(self.table, patches.dtype)

    def compute_output_shape(self, input_shape):
        """Return the unchanged shape."""
        return input_shape


@keras.saving.register_keras_serializable("tfclip")
class AttentionPool(keras.layers.Layer):
    """One learnt query attends to all tokens, then a perceptron: (B, P, C) to (B, C).

    The head of SigLIP (Zhai et al. 2023): Y = Attention(probe, X), then Y + MLP(LayerNorm(Y)).

    Args:
        heads, mlp_width, hidden_activation, epsilon: as of `EncoderBlock`.
    """

    def __init__(self, heads, mlp_width, hidden_activation="gelu", epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads
        self.mlp_width = mlp_width
        self.hidden_activation = hidden_activation
        self.epsilon = epsilon

    def build(self, input_shape):
        """Create the query, attention, norm and perceptron."""
        width = input_shape[-1]
        layers = keras.layers
        self.probe = self.add_weight(shape=(width,), initializer="random_normal", name="probe")
        self.attention = layers.MultiHeadAttention(self.heads, width // self.heads)
        self.norm = LayerNormalization(epsilon=self.epsilon)
        self.mlp_in = layers.Dense(self.mlp_width, activation=activation(self.hidden_activation))
        self.mlp_out = layers.Dense(width)
        one = (input_shape[0], 1, width)
        self.attention.build(one, input_shape)
        self.norm.build(one)
        self.mlp_in.build(one)
        self.mlp_out.build((*one[:-1], self.mlp_width))

    def call(self, x):
        """Apply attention, then the perceptron."""
        probe = ops.cast(self.probe, x.dtype)
        probe = ops.broadcast_to(probe, (ops.shape(x)[0], 1, x.shape[-1]))
        y = self.attention(probe, x)
        return (y + self.mlp_out(self.mlp_in(self.norm(y))))[:, 0]

    def compute_output_shape(self, input_shape):
        """Return the shape (B, C)."""
        return input_shape[0], input_shape[-1]

    def get_config(self):
        """Return the configuration with all four arguments."""
        return {
            **super().get_config(),
            "heads": self.heads,
            "mlp_width": self.mlp_width,
            "hidden_activation": self.hidden_activation,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable("tfclip")
class EncoderBlock(keras.layers.Layer):
    """A pre-norm transformer block, (B, P, C) to the same shape.

    U = X + Attention(LayerNorm(X)),  Y = U + W2 activation(W1 LayerNorm(U)).

    Args:
        heads: attention heads.
        mlp_width: channels inside the perceptron.
        hidden_activation: "gelu" or "quick_gelu".
        epsilon: of both norms.
        dropout: rate after attention and after the perceptron.
    """

    def __init__(
        self,
        heads: int,
        mlp_width: int,
        hidden_activation: str = "gelu",
        epsilon: float = 1e-6,
        dropout: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.heads = heads
        self.mlp_width = mlp_width
        self.hidden_activation = hidden_activation
        self.epsilon = epsilon
        self.dropout = dropout

    def build(self, input_shape):
        """Create attention, perceptron and both norms."""
        width = input_shape[-1]
        layers = keras.layers
        self.attention_norm = LayerNormalization(epsilon=self.epsilon)
        self.attention = layers.MultiHeadAttention(self.heads, width // self.heads)
        self.mlp_norm = LayerNormalization(epsilon=self.epsilon)
        self.mlp_in = layers.Dense(self.mlp_width, activation=activation(self.hidden_activation))
        self.mlp_out = layers.Dense(width)
        self.drop = layers.Dropout(self.dropout)
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape, input_shape)
        self.mlp_norm.build(input_shape)
        self.mlp_in.build(input_shape)
        self.mlp_out.build((*input_shape[:-1], self.mlp_width))

    def attend(self, windows, x, mask):
        """Apply the block to further class tokens, each of which sees itself and some patches.

        Args:
            windows: (B, T, C), the tokens.
            x: (B, P + 1, C), the input of the block; its class token is not used.
            mask: (T, T + P) bool: what each token sees.
        """
        y = self.attention_norm(ops.concatenate([windows, x[:, 1:]], axis=1))
        mask = ops.broadcast_to(mask[None], (ops.shape(x)[0], *mask.shape))
        windows = windows + self.attention(y[:, : windows.shape[1]], y, attention_mask=mask)
        return windows + self.mlp_out(self.mlp_in(self.mlp_norm(windows)))

    def call(self, x, training=None):
        """Apply attention, then the perceptron."""
        y = self.attention_norm(x)
        x = x + self.drop(self.attention(y, y, training=training), training=training)
        y = self.mlp_out(self.mlp_in(self.mlp_norm(x)))
        return x + self.drop(y, training=training)

    def compute_output_shape(self, input_shape):
        """Return the unchanged shape."""
        return input_shape

    def get_config(self):
        """Return the configuration with all five arguments."""
        return {
            **super().get_config(),
            "heads": self.heads,
            "mlp_width": self.mlp_width,
            "hidden_activation": self.hidden_activation,
            "epsilon": self.epsilon,
            "dropout": self.dropout,
        }


def vision_transformer(
    image_size: int,
    patch_size: int = 16,
    blocks: int = 12,
    width: int = 768,
    heads: int = 12,
    dropout: float = 0.0,
    clip: bool = False,
    pooling: str = "class",
    mlp_width: int | None = None,
    hidden_activation: str | None = None,
    epsilon: float | None = None,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
    class_token: bool = True,
) -> keras.Model:
    """Return a vision transformer up to its last norm, without classifier or projection.

    Dosovitskiy et al. 2020, and with `clip` the image tower of Radford et al. 2021: patches without
    bias, a norm before the blocks too, QuickGELU, CLIP's own mean and deviation of pixels.

    Args:
        image_size: side S of the square pictures in pixels, a multiple of `patch_size`; weights
            fit one size only, because positions are learnt.
        patch_size: side of a patch in pixels.
        blocks, width, heads: number of blocks, channels of a token, attention heads.
        dropout: rate after each sub-layer.
        clip: build CLIP's variant.
        pooling: "class" (the class token), "mean" (over all tokens), "attention" (SigLIP's head) or
            "none".
        mlp_width: channels inside the perceptrons; by default 4 * `width`.
        hidden_activation: of the perceptrons: "gelu", "gelu_tanh" or "quick_gelu"; by default
            that of the variant.
        epsilon: of all norms; by default that of the variant.
        mean, deviation: of pixels, in units of 0..255, red first; by default the variant's.
        class_token: whether to prepend a class token; SigLIP has none.

    Returns:
        A model from (B, S, S, 3) pictures in 0..255 to (B, width) features, or (B, P + 1, width)
        unpooled, the class token first.

    Raises:
        ValueError: for an image size that patches do not tile, or another pooling.
    """
    check_patches(image_size, patch_size)
    layers = keras.layers
    epsilon = epsilon or (1e-5 if clip else 1e-6)
    mlp_width = mlp_width or 4 * width
    own_mean, own_deviation = CLIP if clip else HALF
    pictures = keras.Input((image_size, image_size, 3), name="image")
    x = PixelNormalization(mean or own_mean, deviation or own_deviation)(pictures)
    x = layers.Conv2D(width, patch_size, patch_size, use_bias=not clip, name="patches")(x)
    x = layers.Reshape((-1, width))(x)
    x = (ClassAndPosition if class_token else Positions)(name="tokens")(x)
    if clip:
        x = LayerNormalization(epsilon=epsilon, name="pre_norm")(x)
    hidden = hidden_activation or ("quick_gelu" if clip else "gelu")
    for index in range(blocks):
        block = EncoderBlock(heads, mlp_width, hidden, epsilon, dropout, name=f"block_{index}")
        x = block(x)
    x = LayerNormalization(epsilon=epsilon, name="norm")(x)
    if pooling == "attention":
        features = AttentionPool(heads, mlp_width, hidden, epsilon, name="pool")(x)
    else:
        allowed = ("class", "mean", "attention", "none") if class_token else ("mean", "none")
        features = pool_tokens(x, pooling, allowed)
    return keras.Model(pictures, features, name="vision_transformer")
