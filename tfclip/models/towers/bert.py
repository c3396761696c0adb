"""BERT and DistilBERT text towers of any size, on keras_hub's transformer layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import keras_hub

from tfclip.models.layers.activations import gelu_tanh
from tfclip.models.towers.text_transformer import pool_text, text_inputs

# By the names in configurations. BERT's first code and keras_hub use the tanh approximation of
# GELU, PyTorch code the exact one; outputs differ by 3e-4.
ACTIVATIONS = ("gelu", "gelu_tanh", "relu")


def bert(
    vocabulary_size: int,
    context_length: int,
    num_layers: int = 4,
    hidden_dim: int = 512,
    num_heads: int = 8,
    intermediate_dim: int | None = None,
    max_sequence_length: int = 512,
    num_segments: int = 2,
    dropout: float = 0.1,
    activation: str = "gelu",
    pooler: bool = True,
    pooling: str = "cls",
    epsilon: float = 1e-12,
    dense: Sequence[Mapping] = (),
    normalize: bool = False,
) -> keras.Model:
    """Return a BERT encoder (Devlin et al. 2019, arXiv 1810.04805) and its pooled sentence.

    DistilBERT (Sanh et al. 2019, arXiv 1910.01108) has no segments and no pooler.
    Layers are named as in keras_hub's backbones; the blocks are `transformer_layer_<n>`.

    Args:
        vocabulary_size: rows of the token table.
        context_length: longest text in tokens; at most `max_sequence_length`.
        num_layers, hidden_dim, num_heads: L, H and A of Turc et al. 2019, table 1.
        intermediate_dim: width of the feed-forward part, four times `hidden_dim` when None.
        max_sequence_length: rows of the position table.
        num_segments: rows of the segment table, 0 for none; all text is segment 0.
        dropout: the rate of all dropout layers.
        activation: of the feed-forward part: "gelu" (exact), "gelu_tanh" or "relu".
        pooler: whether the first token goes through BERT's tanh layer when `pooling` is "cls";
            other poolings do not use it.
        pooling: see `pool_text`.
        epsilon: of all norms; XLM-R has 1e-5.
        dense: arguments of dense layers after the pooling, as sentence encoders have: `units`,
            `activation`, `use_bias`.
        normalize: whether the features have unit norm, as those of sentence encoders often do.

    Returns:
        A model from `text_inputs()` to (B, hidden_dim) features, or as many as the last of `dense`
        has units; with pooling "none" to the tokens (B, L, hidden_dim).

    Raises:
        ValueError: the context is longer than the position table, or an option is unknown.
    """
    if context_length > max_sequence_length:
        raise ValueError(
            f"This BERT has {max_sequence_length} positions; context_length must not be longer. "
            f"Received: {context_length}."
        )
    inputs = text_inputs()
    token_ids, mask = inputs["token_ids"], inputs["text_mask"]
    x = keras.layers.Embedding(
        vocabulary_size,
        hidden_dim,
        embeddings_initializer=_initializer(),
        name="token_embedding",
    )(token_ids)
    parts = [x, _positions(max_sequence_length)(x)]
    if num_segments:
        segments = keras.layers.Embedding(
            num_segments,
            hidden_dim,
            embeddings_initializer=_initializer(),
            name="segment_embedding",
        )
        parts.append(segments(keras.ops.zeros_like(token_ids)))
    x = keras.layers.Add(name="embeddings_add")(parts)
    x = keras.layers.LayerNormalization(epsilon=epsilon, name="embeddings_layer_norm")(x)
    x = keras.layers.Dropout(dropout, name="embeddings_dropout")(x)
    for index in range(num_layers):
        x = keras_hub.layers.TransformerEncoder(
            intermediate_dim=intermediate_dim or 4 * hidden_dim,
            num_heads=num_heads,
            dropout=dropout,
            activation=_activation(activation),
            layer_norm_epsilon=epsilon,
            kernel_initializer=_initializer(),
            name=f"transformer_layer_{index}",
        )(x, padding_mask=mask)
    x = pool_text(x, mask, pooling)
    if pooling == "cls" and pooler:
        x = keras.layers.Dense(
            hidden_dim, activation="tanh", kernel_initializer=_initializer(), name="pooled_dense"
        )(x)
    for index, arguments in enumerate(dense):
        x = keras.layers.Dense(**arguments, name=f"sentence_dense_{index}")(x)
    if normalize:
        x = keras.layers.UnitNormalization(name="sentence_norm")(x)
    return keras.Model(inputs, x, name="bert")


def _activation(name: str):
    if name not in ACTIVATIONS:
        raise ValueError(
            f"BERT's activation must be one of {', '.join(ACTIVATIONS)}. Received: {name!r}."
        )
    return gelu_tanh if name == "gelu_tanh" else name


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=0.02)


def _positions(length: int) -> keras.layers.Layer:
    return keras_hub.layers.PositionEmbedding(
        length, initializer=_initializer(), name="position_embedding"
    )
