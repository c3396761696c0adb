"""Embeds texts in batches of similar length, which saves the computation of padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfclip.console import progress
from tfclip.inputs.text import Tokenizer

TEXTS_AT_ONCE = 256
TOKENS_AT_ONCE = 8192
_TOKENIZED_AT_ONCE = 4096


def embed_by_length(
    encode: Callable[..., tf.Tensor],
    tokenizer: Tokenizer,
    texts: Sequence[str | bytes],
    width: int,
) -> np.ndarray:
    """Embed M texts, the longest first, each batch padded to its longest text: (M,width) float32.

    Args:
        encode: function of `token_ids` and `text_mask`, both (N,L), that returns (N,width). L is at
            most the context length; the result must not depend on the padding.
        tokenizer: truncates texts that are longer than its context.
        texts: in any order; the rows of the result have the same order.
        width: of an embedding.
    """
    embeddings = np.zeros((len(texts), width), np.float32)
    all_ids: list[np.ndarray] = [np.zeros((0, tokenizer.context_length), np.int32)]
    all_lengths: list[np.ndarray] = [np.zeros(0, np.int64)]
    for start in range(0, len(texts), _TOKENIZED_AT_ONCE):
        batch = tokenizer(tf.constant(texts[start : start + _TOKENIZED_AT_ONCE], tf.string))
        all_ids.append(batch["token_ids"].numpy())
        all_lengths.append(tf.math.count_nonzero(batch["text_mask"], axis=1).numpy())
    ids, lengths = np.concatenate(all_ids), np.concatenate(all_lengths)
    order = np.argsort(-lengths, kind="stable")
    batches = _cut(order, lengths)
    for rows in progress(batches, total=len(batches), what="embedding texts"):
        longest = lengths[rows[0]]
        mask = np.arange(longest)[None] < lengths[rows][:, None]
        token_ids = tf.constant(ids[rows, :longest])
        embeddings[rows] = encode(token_ids=token_ids, text_mask=tf.constant(mask))
    return embeddings


def _cut(order: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    """Split rows, the longest first, into batches of bounded size."""
    batches, start = [], 0
    while start < len(order):
        at_once = max(1, min(TEXTS_AT_ONCE, TOKENS_AT_ONCE // lengths[order[start]]))
        batches.append(order[start : start + at_once])
        start += at_once
    return batches
