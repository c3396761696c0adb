"""MLP-Mixer image towers (Tolstikhin et al. 2021, arXiv:2105.01601)."""

from __future__ import annotations

import keras
from keras import ops

from tfclip.models.layers import pixel_normalization
from tfclip.models.layers.activations import activation, gelu
from tfclip.models.layers.image_pooling import check_patches, pool_tokens
from tfclip.models.layers.normalization import LayerNormalization
from tfclip.models.towers.vision_transformer import ClassAndPosition


@keras.saving.register_keras_serializable("tfclip")
class MixerBlock(keras.layers.Layer):
    """Token mixing, then channel mixing: equation 1 of the Mixer paper.

    U = X + (W2 gelu(W1 LayerNorm(X)^T))^T,  Y = U + W4 gelu(W3 LayerNorm(U)).

    Input and output: (B, tokens, channels).

    Args:
        token_width, channel_width: hidden sizes of the two perceptrons.
        hidden_activation: "gelu" as in the paper, or "quick_gelu".
        epsilon: of both norms.
    """

    def __init__(
        self,
        token_width: int,
        channel_width: int,
        hidden_activation: str = "gelu",
        epsilon: float = 1e-6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.token_width = token_width
        self.channel_width = channel_width
        self.hidden_activation = hidden_activation
        self.epsilon = epsilon

    def build(self, input_shape):
        """Create the two perceptrons for (B, tokens, channels)."""
        _, tokens, channels = input_shape
        dense, norm = keras.layers.Dense, LayerNormalization
        plain = self.hidden_activation == "gelu"
        hidden = gelu if plain else activation(self.hidden_activation)
        self.token_norm = norm(epsilon=self.epsilon)
        self.token_in = dense(self.token_width, activation=hidden)
        self.token_out = dense(tokens)
        self.channel_norm = norm(epsilon=self.epsilon)
        self.channel_in = dense(self.channel_width, activation=hidden)
        self.channel_out = dense(channels)
        self.token_norm.build(input_shape)
        self.channel_norm.build(input_shape)
        self.token_in.build((None, channels, tokens))
        self.token_out.build((None, channels, self.token_width))
        self.channel_in.build((None, tokens, channels))
        self.channel_out.build((None, tokens, self.channel_width))

    def call(self, x):
        """Mix over tokens, then over channels; the shape is unchanged."""
        y = ops.transpose(self.token_norm(x), (0, 2, 1))
        x = x + ops.transpose(self.token_out(self.token_in(y)), (0, 2, 1))
        return x + self.channel_out(self.channel_in(self.channel_norm(x)))

    def get_config(self):
        """Return the configuration with all four arguments."""
        return {
            **super().get_config(),
            "token_width": self.token_width,
            "channel_width": self.channel_width,
            "hidden_activation": self.hidden_activation,
            "epsilon": self.epsilon,
        }


def mixer(
    image_size: int,
    patch_size: int = 16,
    blocks: int = 8,
    width: int = 512,
    token_width: int = 256,
    channel_width: int = 2048,
    pooling: str = "mean",
) -> keras.Model:
    """MLP-Mixer up to its pooling (figure 1 of the paper, without the classifier).

    Args:
        image_size: side S of the square pictures in pixels, a multiple of `patch_size`; weights
            fit one size only, because the mixing depends on the position of tokens.
        patch_size: side of a patch in pixels.
        blocks, width: number of Mixer blocks and channels of a token.
        token_width, channel_width: hidden sizes of the two perceptrons (D_S and D_C in table 1).
        pooling: "mean" or "none".

    Returns:
        A model from (B, S, S, 3) pictures in 0..255 to (B, width) features, or (B, P, width)
        unpooled.

    Raises:
        ValueError: for an image size that patches do not tile, or another pooling.
    """
    check_patches(image_size, patch_size)
    pictures = keras.Input((image_size, image_size, 3), name="image")
    x = pixel_normalization.PixelNormalization(*pixel_normalization.HALF)(pictures)
    x = keras.layers.Conv2D(width, patch_size, strides=patch_size, name="patches")(x)
    x = keras.layers.Reshape((-1, width))(x)
    for index in range(blocks):
        x = MixerBlock(token_width, channel_width, name=f"block_{index}")(x)
    x = LayerNormalization(epsilon=1e-6, name="norm")(x)
    return keras.Model(pictures, pool_tokens(x, pooling), name="mixer")


def clip_mixer(
    image_size: int,
    patch_size: int = 32,
    blocks: int = 12,
    width: int = 768,
    token_factor: int = 4,
    channel_factor: int = 4,
    pooling: str = "class",
) -> keras.Model:
    """CLIP's vision transformer with Mixer blocks: the image tower of recipe `clip-mixer`.

    It has a class token but no positions, patches without bias, QuickGELU, norms before and after
    the blocks, and CLIP's mean and deviation of pixels. The projection is part of the head.

    Args:
        image_size, patch_size: as for `mixer`.
        blocks, width: number of Mixer blocks and channels of a token.
        token_factor, channel_factor: hidden sizes of the two perceptrons, in tokens (P + 1) and
            channels.
        pooling: "class" (the class token), "mean" (over all tokens) or "none".

    Returns:
        A model from (B, S, S, 3) pictures in 0..255 to (B, width) features, or (B, P + 1, width)
        unpooled, the class token first.

    Raises:
        ValueError: for an image size that patches do not tile, or another pooling.
    """
    check_patches(image_size, patch_size)
    pictures = keras.Input((image_size, image_size, 3), name="image")
    x = pixel_normalization.PixelNormalization(*pixel_normalization.CLIP)(pictures)
    x = keras.layers.Conv2D(width, patch_size, patch_size, use_bias=False, name="patches")(x)
    x = ClassAndPosition(positions=False, name="tokens")(keras.layers.Reshape((-1, width))(x))
    x = LayerNormalization(epsilon=1e-5, name="pre_norm")(x)
    widths = token_factor * x.shape[1], channel_factor * width
    for index in range(blocks):
        x = MixerBlock(*widths, "quick_gelu", 1e-5, name=f"block_{index}")(x)
    x = LayerNormalization(epsilon=1e-5, name="norm")(x)
    return keras.Model(
        pictures, pool_tokens(x, pooling, ("class", "mean", "none")), name="clip_mixer"
    )


def teensy_mixer(
    image_size: int,
    patch_size: int = 16,
    blocks: int = 6,
    width: int = 512,
    token_factor: int = 4,
    channel_share: float = 0.5,
    pooling: str = "mean",
) -> keras.Model:
    """Return the Mixer of recipes `teensy-4m` and `teensy-5m`: wide tokens, narrow channels.

    Args:
        image_size, patch_size, blocks, width, pooling: as for `mixer`.
        token_factor, channel_share: hidden sizes of the two perceptrons, in tokens and channels.

    Returns:
        As `mixer`.
    """
    check_patches(image_size, patch_size)
    return mixer(
        image_size,
        patch_size,
        blocks,
        width,
        token_width=token_factor * (image_size // patch_size) ** 2,
        channel_width=int(channel_share * width),
        pooling=pooling,
    )
