"""BERT text towers of any size, on keras_hub's backbone."""

from __future__ import annotations

import keras
import keras_hub

from tfclip.models.text_transformer import MaskedMean, text_inputs


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
    pooling: str = "cls",
) -> keras.Model:
    """A BERT encoder (Devlin et al. 2019) and its pooled sentence.

    Args:
        vocabulary_size: rows of the token table.
        context_length: longest text in tokens; at most `max_sequence_length`.
        num_layers, hidden_dim, num_heads: L, H and A of Turc et al. 2019, table 1.
        intermediate_dim: width of the feed-forward part, four times `hidden_dim` when None.
        max_sequence_length: rows of the position table.
        num_segments: rows of the segment table; all text is segment 0.
        dropout: rate everywhere.
        pooling: "cls" (BERT's tanh-pooled first token) or "mean" (masked mean of the tokens).

    Returns:
        A model from `text_inputs()` to (B, hidden_dim) features.

    Raises:
        ValueError: when the context does not fit the position table.
    """
    if context_length > max_sequence_length:
        raise ValueError(
            f"This BERT has {max_sequence_length} positions; context_length must not be longer. "
            f"Received: {context_length}."
        )
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=vocabulary_size,
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        intermediate_dim=intermediate_dim or 4 * hidden_dim,
        dropout=dropout,
        max_sequence_length=max_sequence_length,
        num_segments=num_segments,
        name="bert_backbone",
    )
    inputs = text_inputs()
    outputs = backbone(
        {
            "token_ids": inputs["token_ids"],
            "segment_ids": keras.ops.zeros_like(inputs["token_ids"]),
            "padding_mask": inputs["text_mask"],
        }
    )
    if pooling == "cls":
        features = outputs["pooled_output"]
    elif pooling == "mean":
        features = MaskedMean(name="pool")(outputs["sequence_output"], inputs["text_mask"])
    else:
        raise ValueError(f"BERT's pooling must be cls or mean. Received: {pooling!r}.")
    return keras.Model(inputs, features, name="bert")
