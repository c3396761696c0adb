"""XLM-R's SentencePiece tokenizer, which runs eagerly and in a graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from tfclip.inputs.tokenizers.framing import frame_rows
from tfclip.inputs.tokenizers.sentencepiece_op import (
    first_tokens,
    id_of,
    split_into_pieces,
    vocabulary_size,
)

KIND = "xlm-roberta"
XLM_ROBERTA_FILE = "xlm_roberta.model"
_START, _PAD, _END = "<s>", "<pad>", "</s>"


class XlmRobertaTokenizer(tf.Module):
    """XLM-R's tokenizer (Conneau et al. 2020, arXiv:1911.02116): <s>, pieces, </s>, padding.

    Text is normalised as the model says, which keeps case and accents, and split into its pieces.
    Invalid UTF-8 becomes U+FFFD.

    Args:
        model: the bytes of a SentencePiece model with the ids that XLM-R uses: <s>, <pad>, </s>,
            <unk>, pieces.
        context_length: L, the length of each row of ids, both ends included.

    Raises:
        ValueError: the bytes are not such a model, or the context length is below 3.
    """

    def __init__(self, model: bytes, context_length: int):
        super().__init__(name="xlm_roberta_tokenizer")
        if context_length < 3:
            raise ValueError(f"received context_length {context_length}; allowed: 3 or more")
        self.model = bytes(model)
        self.context_length = context_length
        found = first_tokens(self.model, 4)
        if found[:3] != [_START, _PAD, _END]:
            raise ValueError(
                f"a SentencePiece model with XLM-R's ids begins with {_START}, {_PAD}, {_END}; "
                f"received {', '.join(found)}"
            )
        self.vocabulary_size = vocabulary_size(self.model)
        self._ids = {
            "start": id_of(self.model, _START),
            "end": id_of(self.model, _END),
            "pad": id_of(self.model, _PAD),
        }

    def __call__(self, texts: tf.Tensor | Sequence[str]) -> dict[str, tf.Tensor]:
        """Turn `texts` (N,) string into token_ids (N,L) int32 and text_mask (N,L) bool.

        The mask is true up to the end. Longer texts are cut.
        """
        return frame_rows(self._split(texts), self.context_length, **self._ids)

    def mask_of(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Return the mask of ids (N,L), true except for padding: (N,L) bool."""
        return tf.not_equal(token_ids, self._ids["pad"])

    def token_counts(self, texts: tf.Tensor | Sequence[str]) -> tf.Tensor:
        """Return the number of ids of each text, (N,) int32, both ends included."""
        return tf.cast(self._split(texts).row_lengths(), tf.int32) + 2

    def with_context_length(self, context_length: int) -> XlmRobertaTokenizer:
        """Return a copy with another context length."""
        return XlmRobertaTokenizer(self.model, context_length)

    def describe(self) -> dict:
        """Return what a saved model stores about the tokenizer besides the file of `save`."""
        return {"kind": KIND}

    def save(self, directory: Path) -> None:
        """Write `xlm_roberta.model` into `directory`."""
        (Path(directory) / XLM_ROBERTA_FILE).write_bytes(self.model)

    def _split(self, texts: tf.Tensor | Sequence[str]) -> tf.RaggedTensor:
        texts = tf.convert_to_tensor(texts, tf.string)
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8")
        return split_into_pieces(self.model, texts)
