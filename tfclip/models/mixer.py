"""MLP-Mixer image towers (Tolstikhin et al. 2021, arXiv:2105.01601)."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfclip")
class MixerBlock(keras.layers.Layer):
    """Token mixing, then channel mixing: equation 1 of the Mixer paper.

    U = X + (W2 gelu(W1 LayerNorm(X)^T))^T,  Y = U + W4 gelu(W3 LayerNorm(U)).

    Input and output: (B, tokens, channels).
    """

    def __init__(self, token_width: int, channel_width: int, **kwargs):
        super().__init__(**kwargs)
        self.token_width = token_width
        self.channel_width = channel_width

    def build(self, input_shape):
        """Create the two perceptrons for (B, tokens, channels)."""
        _, tokens, channels = input_shape
        dense = keras.layers.Dense
        self.token_norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.token_in = dense(self.token_width, activation="gelu")
        self.token_out = dense(tokens)
        self.channel_norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.channel_in = dense(self.channel_width, activation="gelu")
        self.channel_out = dense(channels)
        self.token_norm.build(input_shape)
        self.channel_norm.build(input_shape)
        self.token_in.build((None, channels, tokens))
        self.token_out.build((None, channels, self.token_width))
        self.channel_in.build((None, tokens, channels))
        self.channel_out.build((None, tokens, self.channel_width))

    def call(self, x):
        """Mix over tokens, then over channels; the shape stays."""
        y = ops.transpose(self.token_norm(x), (0, 2, 1))
        x = x + ops.transpose(self.token_out(self.token_in(y)), (0, 2, 1))
        return x + self.channel_out(self.channel_in(self.channel_norm(x)))

    def get_config(self):
        """Both widths."""
        return {
            **super().get_config(),
            "token_width": self.token_width,
            "channel_width": self.channel_width,
        }


def mixer(
    image_size: int,
    patch_size: int = 16,
    blocks: int = 8,
    width: int = 512,
    token_width: int = 256,
    channel_width: int = 2048,
) -> keras.Model:
    """MLP-Mixer up to its global average pooling (figure 1 of the paper, without the classifier).

    Args:
        image_size: side S of the square pictures in pixels, a multiple of `patch_size`.
        patch_size: side of a patch in pixels.
        blocks, width: number of Mixer blocks and channels of a token.
        token_width, channel_width: hidden sizes of the two perceptrons (D_S and D_C in table 1).

    Returns:
        A model from (B, S, S, 3) pictures in 0..255 to (B, width) features.

    Raises:
        ValueError: for an image size that patches do not tile.
    """
    if image_size % patch_size:
        raise ValueError(
            f"The mixer's patches of {patch_size} pixels need an image size that is a multiple of "
            f"{patch_size}. Received: {image_size}."
        )
    pictures = keras.Input((image_size, image_size, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pictures)
    x = keras.layers.Conv2D(width, patch_size, strides=patch_size, name="patches")(x)
    x = keras.layers.Reshape((-1, width))(x)
    for index in range(blocks):
        x = MixerBlock(token_width, channel_width, name=f"block_{index}")(x)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return keras.Model(pictures, keras.layers.GlobalAveragePooling1D()(x), name="mixer")
