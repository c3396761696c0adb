"""The text tower of recipe clip-mixer: a Mixer over tokens, pooled at the end of the text."""

from __future__ import annotations

import keras
from keras import ops

from tfclip.models.towers.mixer import MixerBlock
from tfclip.models.towers.text_transformer import pool_text, text_inputs


@keras.saving.register_keras_serializable("tfclip")
class TextMixerBlock(MixerBlock):
    """A `MixerBlock` for up to `context_length` tokens, (B, L, C), that can mask padding.

    With a mask, padding counts as zeros in the token mixing, and its own outputs are not used. The
    result then does not depend on the amount of padding, and a batch of short texts needs only the
    first L rows and columns of the token perceptron.
    """

    def __init__(self, context_length: int, token_width: int, channel_width: int, *args, **kwargs):
        super().__init__(token_width, channel_width, *args, **kwargs)
        self.context_length = context_length

    def build(self, input_shape):
        """Create the two perceptrons for (B, context_length, channels)."""
        super().build((None, self.context_length, input_shape[-1]))

    def call(self, x, text_mask=None):
        """Mix over the tokens of `text_mask` (B, L), or over all, then over channels."""
        length = ops.shape(x)[1]
        y = self.token_norm(x)
        if text_mask is not None:
            y = y * ops.cast(text_mask, y.dtype)[..., None]
        y = ops.transpose(y, (0, 2, 1))
        y = ops.matmul(y, ops.cast(self.token_in.kernel[:length], y.dtype))
        y = self.token_in.activation(y + ops.cast(self.token_in.bias, y.dtype))
        y = ops.matmul(y, ops.cast(self.token_out.kernel[:, :length], y.dtype))
        y = y + ops.cast(self.token_out.bias[:length], y.dtype)
        x = x + ops.transpose(y, (0, 2, 1))
        return x + self.channel_out(self.channel_in(self.channel_norm(x)))

    def compute_output_shape(self, input_shape, *_):
        """Return the unchanged shape."""
        return input_shape

    def get_config(self):
        """Return the configuration with the context length."""
        return {**super().get_config(), "context_length": self.context_length}


@keras.saving.register_keras_serializable("tfclip")
class PadTokens(keras.layers.Layer):
    """Pads ids or masks (B, L) with zeros to (B, context_length)."""

    def __init__(self, context_length: int, **kwargs):
        super().__init__(**kwargs)
        self.context_length = context_length

    def call(self, tokens):
        """Append zeros, CLIP's padding."""
        missing = self.context_length - ops.shape(tokens)[1]
        return ops.pad(tokens, [[0, 0], [0, missing]])

    def compute_output_shape(self, input_shape):
        """Return the padded shape."""
        return input_shape[0], self.context_length

    def get_config(self):
        """Return the configuration with the length."""
        return {**super().get_config(), "context_length": self.context_length}


def text_mixer(
    vocabulary_size: int,
    context_length: int,
    width: int = 512,
    blocks: int = 12,
    token_factor: int = 4,
    channel_factor: int = 4,
    mask_padding: bool = True,
    pooling: str = "end",
) -> keras.Model:
    """Return a Mixer (Tolstikhin et al. 2021, arXiv 2105.01601) over text tokens, for CLIP.

    Token table, blocks with QuickGELU, norm, the end-of-text token. There are no positions, since
    the weights of a Mixer depend on the position. It is not causal: a token sees later ones.

    In the original, padding is mixed into the tokens, so that an embedding depends on the amount of
    padding. Here padding is masked, unless `mask_padding` is False.

    Args:
        vocabulary_size: rows of the token table; CLIP's has 49,408.
        context_length: L, the most tokens; CLIP's is 77.
        width, blocks: channels of a token, number of blocks.
        token_factor, channel_factor: hidden sizes of the two perceptrons, in tokens and channels.
        mask_padding: mask the padding; False pads every text to the context length first.
        pooling: see `text_transformer.pool_text`.

    Returns:
        A model from `text_inputs()` to (B, width) features, or (B, L, width) unpooled.
    """
    inputs = text_inputs()
    token_ids, mask = inputs["token_ids"], inputs["text_mask"]
    if not mask_padding:
        token_ids = PadTokens(context_length, dtype="int32", name="pad_ids")(token_ids)
        mask = PadTokens(context_length, dtype="bool", name="pad_mask")(mask)
    x = keras.layers.Embedding(
        vocabulary_size,
        width,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=0.02),
        name="embeddings",
    )(token_ids)
    widths = token_factor * context_length, channel_factor * width
    for index in range(blocks):
        block = TextMixerBlock(context_length, *widths, "quick_gelu", 1e-5, name=f"block_{index}")
        x = block(x, text_mask=mask) if mask_padding else block(x)
    x = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")(x)
    return keras.Model(inputs, pool_text(x, mask, pooling), name="text_mixer")
