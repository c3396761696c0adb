"""Frames the ids of pieces as rows of one length: start, pieces, end, padding."""

from __future__ import annotations

import tensorflow as tf


def frame_rows(
    pieces: tf.RaggedTensor, context_length: int, *, start: int, end: int, pad: int
) -> dict[str, tf.Tensor]:
    """Return token_ids (N,L) int32 and text_mask (N,L) bool of `pieces` (N,None) int32.

    A row is start, pieces, end, padding; the mask is true up to the end. Rows with more pieces than
    fit are cut.

    Args:
        pieces: the ids of each text.
        context_length: L, the length of each row.
        start, end, pad: the ids of these tokens.
    """
    room = context_length - 2
    counts = tf.minimum(tf.cast(pieces.row_lengths(), tf.int32), room)[:, None]
    # Padding first, then framing: concatenating ragged rows takes twice as long.
    padded = pieces.to_tensor(pad, shape=[None, room])
    padded = tf.pad(padded, [[0, 0], [1, 1]], constant_values=pad)
    place = tf.range(context_length)[None]
    token_ids = tf.where(place == counts + 1, end, padded)
    return {
        "token_ids": tf.where(place == 0, start, token_ids),
        "text_mask": place <= counts + 1,
    }
