"""SentencePiece models as parts of a `tokenizer.json`."""

from __future__ import annotations

import base64
import string
from collections.abc import Iterator

from sentencepiece import sentencepiece_model_pb2

from tfclip.inputs.text import LearntPieceTokenizer, SentencePieceTokenizer
from tfclip.inputs.tokenizers import text_rules

_SPACE = "\u2581"
# What SentencePiece stores as the types of pieces.
_UNIGRAM, _BPE = 1, 2
# Capital sigma at the end of a word has a lower case of its own, which the library does not know.
FINAL_SIGMA = {
    "type": "Replace",
    "pattern": {"Regex": "(?<=\\p{L})\u03a3(?!\\p{L})"},
    "content": "\u03c2",
}
LOWER: tuple[dict, ...] = (FINAL_SIGMA, {"type": "Lowercase"})


def sentence_piece_parts(
    tokenizer: SentencePieceTokenizer | LearntPieceTokenizer,
) -> tuple[dict, list[dict], dict, dict[str, int]]:
    """Return the model, the normalisers, the pre-tokenizer and the ids of `tokenizer.json`.

    Raises:
        ValueError: the model is of a type that the library does not have.
    """
    stored = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model)  # type: ignore[attr-defined]
    pieces = [(piece.piece, piece.score) for piece in stored.pieces]
    ids = {piece: number for number, (piece, _) in enumerate(pieces)}
    kind = stored.trainer_spec.model_type
    if kind not in (_UNIGRAM, _BPE):
        raise ValueError(f"a SentencePiece model of type {kind} has no form in that library")
    is_learnt = isinstance(tokenizer, LearntPieceTokenizer)
    spec = stored.normalizer_spec
    prefix = "always" if spec.add_dummy_prefix else "never"
    words = {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": prefix}
    words["split"] = kind == _BPE
    if is_learnt:
        rules, words = _learnt_rules(tokenizer.lowercase), _learnt_words(words)
    else:
        rules = [*_siglip_rules(), *_own_normalizer(spec)]
    model = _unigram(stored, pieces) if kind == _UNIGRAM else _sentence_pairs(stored, pieces, ids)
    return model, rules, words, ids


def _siglip_rules() -> list[dict]:
    """Lower case, without ASCII punctuation."""
    signs = "[" + "".join(f"\\{sign}" for sign in string.punctuation) + "]"
    return [*LOWER, {"type": "Replace", "pattern": {"Regex": signs}, "content": ""}]


def _learnt_rules(lowercase: bool) -> list[dict]:
    """Write `text_rules` out: the library's reader of compiled tables drops marks after letters."""
    spaces, nothing = text_rules.white_space(), text_rules.invisible()
    rules: list[dict] = [
        {"type": "NFKC"},
        {"type": "Replace", "pattern": {"Regex": f"[{nothing}]"}, "content": ""},
        {"type": "Replace", "pattern": {"Regex": f"[{spaces}]"}, "content": " "},
    ]
    final_sigma, sigma = "\u03c2", "\u03c3"
    return [*rules, {"type": "Lowercase"}, replacement(final_sigma, sigma)] if lowercase else rules


def _learnt_words(words: dict) -> dict:
    """Split at spaces, and make each punctuation mark and symbol a word."""
    signs = {"Regex": r"[\p{P}\p{S}]"}
    split = {"type": "Split", "pattern": signs, "behavior": "Isolated", "invert": False}
    parts: list[dict] = [{"type": "WhitespaceSplit"}, split, words]
    return {"type": "Sequence", "pretokenizers": parts}


def _own_normalizer(spec) -> Iterator[dict]:
    """The normalisation that is compiled into a SentencePiece model."""
    if spec.precompiled_charsmap:
        coded = base64.b64encode(spec.precompiled_charsmap).decode()
        yield {"type": "Precompiled", "precompiled_charsmap": coded}
    if spec.remove_extra_whitespaces:
        yield {"type": "Replace", "pattern": {"Regex": r"[ \t\n\v\f\r]+"}, "content": " "}
        yield {"type": "Strip", "strip_left": True, "strip_right": True}


def _unigram(stored, pieces: list[tuple[str, float]]) -> dict:
    return {
        "type": "Unigram",
        "unk_id": stored.trainer_spec.unk_id,
        "vocab": [[piece, score] for piece, score in pieces],
        "byte_fallback": bool(stored.trainer_spec.byte_fallback),
    }


def _sentence_pairs(stored, pieces: list[tuple[str, float]], ids: dict[str, int]) -> dict:
    """Byte pairs: SentencePiece joins the pair whose result has the highest score."""
    normal = {piece.piece for piece in stored.pieces if piece.type == piece.NORMAL}
    merges = []
    for piece, score in pieces:
        if piece not in normal:
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in normal and right in normal:
                merges.append((-score, ids[left], ids[right], left, right))
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": pieces[stored.trainer_spec.unk_id][0],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": bool(stored.trainer_spec.byte_fallback),
        "vocab": ids,
        "merges": [[left, right] for *_, left, right in sorted(merges)],
    }


def replacement(text: str, content: str) -> dict:
    """Return the normaliser that replaces a text."""
    return {"type": "Replace", "pattern": {"String": text}, "content": content}
