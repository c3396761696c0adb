"""SigLIP's SentencePiece tokenizer, the same eagerly and in a served graph."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from tfclip.inputs.tokenizers.sentencepiece_op import (
    first_tokens,
    id_of,
    split_into_pieces,
    vocabulary_size,
)

MODEL_FILE = "spiece.model"
_PUNCTUATION = "[" + "".join(f"\\{sign}" for sign in string.punctuation) + "]"


class SentencePieceTokenizer(tf.Module):
    """SigLIP's tokenizer (Zhai et al. 2023), with a model of the sentencepiece library.

    Text is lower-cased, its ASCII punctuation dropped, white space made one, and split into the
    pieces of the model; an end closes it. Bytes that are not UTF-8 count as U+FFFD.

    Args:
        model: the bytes of a `spiece.model`.
        context_length: L, the length of every row of ids, the end included.

    Raises:
        ValueError: the bytes are no such model, or the context is shorter than 3.
    """

    def __init__(self, model: bytes, context_length: int):
        super().__init__(name="sentence_piece_tokenizer")
        if context_length < 3:
            raise ValueError(f"context_length {context_length} is too short; 3 is the least")
        self.model = bytes(model)
        self.context_length = context_length
        first_tokens(self.model, 1)  # refuses what is no model
        self.vocabulary_size = vocabulary_size(self.model)
        self._end_id = id_of(self.model, "</s>")

    def __call__(self, texts: tf.Tensor | Sequence[str]) -> dict[str, tf.Tensor]:
        """Turn `texts` (N,) string into token_ids (N,L) int32 and text_mask (N,L) bool.

        A row is pieces, an end and padding, which has the end's id; the mask is true up to the
        first end. A text with more pieces than fit keeps its first ones and the end.
        """
        pieces = self._split(texts)[:, : self.context_length - 1]
        padded = pieces.to_tensor(self._end_id, shape=[None, self.context_length])
        return {"token_ids": padded, "text_mask": self.mask_of(padded)}

    def mask_of(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Tell text from padding by ids (N,L) alone: (N,L) bool, true up to the first end."""
        ended = tf.cast(tf.equal(token_ids, self._end_id), tf.int32)
        return tf.equal(tf.cumsum(ended, axis=1, exclusive=True), 0)

    def token_counts(self, texts: tf.Tensor | Sequence[str]) -> tf.Tensor:
        """Count the ids each of `texts` (N,) string needs, the end included: (N,) int32."""
        return tf.cast(self._split(texts).row_lengths(), tf.int32) + 1

    def with_context_length(self, context_length: int) -> SentencePieceTokenizer:
        """The same tokenizer for rows of another length."""
        return SentencePieceTokenizer(self.model, context_length)

    def describe(self) -> dict:
        """What a saved model says about its tokenizer, beside the file of `save`."""
        return {"kind": "sentence-piece"}

    def save(self, directory: Path) -> None:
        """Write `spiece.model` into `directory`."""
        (Path(directory) / MODEL_FILE).write_bytes(self.model)

    def _split(self, texts: tf.Tensor | Sequence[str]) -> tf.RaggedTensor:
        texts = tf.convert_to_tensor(texts, tf.string)
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8")
        texts = tf.strings.lower(texts, encoding="utf-8")
        texts = tf.strings.regex_replace(texts, _PUNCTUATION, "")
        texts = tf.strings.strip(tf.strings.regex_replace(texts, r"\s+", " "))
        return split_into_pieces(self.model, texts)
