"""The tokenizer of learnt vocabularies: byte-pair pieces for any script, eagerly or in a graph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from tfclip.inputs.tokenizers.framing import frame_rows
from tfclip.inputs.tokenizers.sentencepiece_op import (
    first_tokens,
    split_into_pieces,
    vocabulary_size,
)
from tfclip.inputs.tokenizers.text_rules import RULES, normalize

LEARNT_FILE = "vocab.model"
KIND = "learnt-pieces"
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_PAD, _UNKNOWN, _START, _END, _RULES = range(5)


class LearntPieceTokenizer(tf.Module):
    """Tokenizer with a SentencePiece model of `learn_pieces` (Kudo and Richardson 2018).

    Texts are normalised (see `text_rules`) and split by byte-pair encoding, also in scripts without
    spaces. A character that is not in the vocabulary is encoded as its UTF-8 bytes, so no word is
    unknown, and texts that differ after normalisation have different pieces.

    Ids: [PAD] [UNK] [CLS] [SEP], a token that names the text rules and occurs in no text, 256
    bytes, the pieces.

    Args:
        model: the bytes of a `vocab.model`.
        context_length: L, the length of each row of ids, [CLS] and [SEP] included.

    Raises:
        ValueError: the bytes are not such a model, its text rules are of a later version, or the
            context length is below 3.
    """

    def __init__(self, model: bytes, context_length: int):
        super().__init__(name="learnt_piece_tokenizer")
        if context_length < 3:
            raise ValueError(
                f"context_length {context_length} is too short; [CLS], a token and [SEP] take 3"
            )
        self.model = bytes(model)
        self.context_length = context_length
        self.rules, self.lowercase = _rules(first_tokens(self.model, 5))
        self.vocabulary_size = vocabulary_size(self.model)

    def __call__(self, texts: tf.Tensor | Sequence[str]) -> dict[str, tf.Tensor]:
        """Turn `texts` (N,) string into token_ids (N,L) int32 and text_mask (N,L) bool.

        A row is [CLS] pieces [SEP] [PAD]..., and the mask is true up to [SEP]. Longer texts are
        cut; see `token_counts`.
        """
        return frame_rows(self._split(texts), self.context_length, start=_START, end=_END, pad=_PAD)

    def token_counts(self, texts: tf.Tensor | Sequence[str]) -> tf.Tensor:
        """Return the number of ids of each text, (N,) int32, [CLS] and [SEP] included."""
        return tf.cast(self._split(texts).row_lengths(), tf.int32) + 2

    def mask_of(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Return the mask of ids (N,L), false at padding: (N,L) bool."""
        return tf.not_equal(token_ids, _PAD)

    def with_context_length(self, context_length: int) -> LearntPieceTokenizer:
        """Return a copy with another context length."""
        return LearntPieceTokenizer(self.model, context_length)

    def describe(self) -> dict:
        """Return what a saved model stores about the tokenizer besides the file of `save`."""
        return {"kind": KIND, "rules": self.rules, "lowercase": self.lowercase}

    def save(self, directory: Path) -> None:
        """Write `vocab.model` into `directory`."""
        (Path(directory) / LEARNT_FILE).write_bytes(self.model)

    def _split(self, texts: tf.Tensor | Sequence[str]) -> tf.RaggedTensor:
        return split_into_pieces(self.model, normalize(texts))


def rules_token(lowercase: bool) -> str:
    """Return the token that names the text rules of a vocabulary."""
    return f"[RULES-{RULES}-{'LOWER' if lowercase else 'CASED'}]"


def _rules(tokens: Sequence[str]) -> tuple[int, bool]:
    """Return the version of the rules, and whether they lower-case, from a model's first tokens."""
    named = re.fullmatch(r"\[RULES-(\d+)-(LOWER|CASED)\]", tokens[_RULES]) if tokens[4:] else None
    if named is None or tuple(tokens[:4]) != SPECIALS:
        raise ValueError(
            "the SentencePiece model was made by another program: it does not name tfclip's text "
            "rules. Give a vocab.model that make_records learnt, a vocab.txt, or CLIP's merges"
        )
    if int(named[1]) != RULES:
        raise ValueError(
            f"the vocabulary was learnt with version {named[1]} of the text rules; this tfclip "
            f"supports version {RULES}. Install a later tfclip"
        )
    return int(named[1]), named[2] == "LOWER"
