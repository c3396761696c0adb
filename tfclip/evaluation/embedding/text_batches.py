"""Embeds distinct texts in batches of similar length, which saves equal texts and padding."""

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
    places = places_of_texts(texts)
    distinct = list(places)
    embeddings = np.zeros((len(texts), width), np.float32)
    all_ids: list[np.ndarray] = [np.zeros((0, tokenizer.context_length), np.int32)]
    all_lengths: list[np.ndarray] = [np.zeros(0, np.int64)]
    for start in range(0, len(distinct), _TOKENIZED_AT_ONCE):
        batch = tokenizer(tf.constant(distinct[start : start + _TOKENIZED_AT_ONCE], tf.string))
        all_ids.append(batch["token_ids"].numpy())
        all_lengths.append(tf.math.count_nonzero(batch["text_mask"], axis=1).numpy())
    ids, lengths = np.concatenate(all_ids), np.concatenate(all_lengths)
    batches = batches_by_length(lengths)
    for rows in progress(batches, total=len(batches), what="embedding texts"):
        longest = lengths[rows[0]]
        mask = np.arange(longest)[None] < lengths[rows][:, None]
        token_ids = tf.constant(ids[rows, :longest])
        embedded = np.asarray(encode(token_ids=token_ids, text_mask=tf.constant(mask)))
        for row, embedding in zip(rows, embedded, strict=True):
            embeddings[places[distinct[row]]] = embedding
    return embeddings


def places_of_texts(texts: Sequence[str | bytes]) -> dict[str | bytes, list[int]]:
    """Return the rows of each distinct text, in the order of the first ones.

    Examples:
        >>> places_of_texts(["a dog", "a cat", "a dog"])
        {'a dog': [0, 2], 'a cat': [1]}
    """
    places: dict[str | bytes, list[int]] = {}
    for row, text in enumerate(texts):
        places.setdefault(text, []).append(row)
    return places


def batches_by_length(lengths: np.ndarray) -> list[np.ndarray]:
    """Split rows, those of the longest texts first, into batches of bounded size.

    Args:
        lengths: (M,) tokens of each text.
    """
    order, batches, start = np.argsort(-lengths, kind="stable"), [], 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        at_once = max(1, min(TEXTS_AT_ONCE, TOKENS_AT_ONCE // longest))
        batches.append(order[start : start + at_once])
        start += at_once
    return batches
