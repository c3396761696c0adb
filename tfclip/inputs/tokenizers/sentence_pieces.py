"""SigLIP's SentencePiece tokenizer, which runs eagerly and in a graph."""

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

    Text is lower-cased, stripped of ASCII punctuation and of repeated white space, and split into
    the pieces of the model; an end token follows. Invalid UTF-8 becomes U+FFFD.

    Args:
        model: the bytes of a `spiece.model`.
        context_length: L, the length of each row of ids, the end included.

    Raises:
        ValueError: the bytes are not such a model, or the context length is below 3.
    """

    def __init__(self, model: bytes, context_length: int):
        super().__init__(name="sentence_piece_tokenizer")
        if context_length < 3:
            raise ValueError(f"received context_length {context_length}; allowed: 3 or more")
        self.model = bytes(model)
        self.context_length = context_length
        first_tokens(self.model, 1)  # raises ValueError if it is not a model
        self.vocabulary_size = vocabulary_size(self.model)
        self._end_id = id_of(self.model, "</s>")

    def __call__(self, texts: tf.Tensor | Sequence[str]) -> dict[str, tf.Tensor]:
        """Turn `texts` (N,) string into token_ids (N,L) int32 and text_mask (N,L) bool.

        A row is pieces, end and padding, which has the id of the end; the mask is true up to the
        first end. Longer texts are cut.
        """
        pieces = self._split(texts)[:, : self.context_length - 1]
        padded = pieces.to_tensor(self._end_id, shape=[None, self.context_length])
        return {"token_ids": padded, "text_mask": self.mask_of(padded)}

    def mask_of(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Return the mask of ids (N,L), true up to the first end: (N,L) bool."""
        ended = tf.cast(tf.equal(token_ids, self._end_id), tf.int32)
        return tf.equal(tf.cumsum(ended, axis=1, exclusive=True), 0)

    def token_counts(self, texts: tf.Tensor | Sequence[str]) -> tf.Tensor:
        """Return the number of ids of each text, (N,) int32, the end included."""
        return tf.cast(self._split(texts).row_lengths(), tf.int32) + 1

    def with_context_length(self, context_length: int) -> SentencePieceTokenizer:
        """Return a copy with another context length."""
        return SentencePieceTokenizer(self.model, context_length)

    def describe(self) -> dict:
        """Return what a saved model stores about the tokenizer besides the file of `save`."""
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
