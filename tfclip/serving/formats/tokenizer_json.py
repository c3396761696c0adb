"""Writes a tokenizer as the `tokenizer.json` that the tokenizers library reads."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from tfclip.inputs.text import (
    BytePairTokenizer,
    LearntPieceTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
)
from tfclip.inputs.tokenizers import byte_pair
from tfclip.inputs.tokenizers.learnt_pieces import SPECIALS
from tfclip.inputs.tokenizers.vocabulary import CONTINUES, END, PAD, START, UNKNOWN
from tfclip.serving.formats.sentence_piece_json import (
    FINAL_SIGMA,
    LOWER,
    replacement,
    sentence_piece_parts,
)

_SENTENCE_END = "</s>"
_CLIP_PATTERN = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
# Texts that the written tokenizer is compared on, besides those that the caller gives.
PROBES = (
    "a photo of a dog",
    "Two red circles, left of a blue square!",
    "It's 3:45 p.m.; they'll pay $12.50 (or 10%)...",
    "  spaces\tand\nlines  ",
    "Straße, Ångström, naïve café, ﬁne ½ …",
    "hyphen-ated under_score #tag @name",
    "красный круг и синий квадрат",
    "一张狗的照片",
    "犬の写真 🐕‍🦺 😀",
    "लाल गोला और नीला वर्ग",
    "",
)


def tokenizer_json(tokenizer: Tokenizer) -> dict:
    """Return the content of `tokenizer.json`: with padding and truncation to the context length.

    Raises:
        ValueError: the tokenizers library has no such tokenizer; says why.
    """
    if isinstance(tokenizer, WordPieceTokenizer):
        return _word_pieces(tokenizer)
    if isinstance(tokenizer, BytePairTokenizer):
        return _byte_pairs(tokenizer)
    if isinstance(tokenizer, (SentencePieceTokenizer, LearntPieceTokenizer)):
        model, rules, words, ids = sentence_piece_parts(tokenizer)
        learnt = isinstance(tokenizer, LearntPieceTokenizer)
        start, end = (SPECIALS[2], SPECIALS[3]) if learnt else (None, _SENTENCE_END)
        return _frame(tokenizer, model, rules, words, ids, start=start, end=end, added=())
    raise ValueError(f"a {type(tokenizer).__name__} has no form in the tokenizers library")


def pad_token(tokenizer: Tokenizer) -> str:
    """Return the token whose id fills a row after the text."""
    if isinstance(tokenizer, BytePairTokenizer):
        return "!"  # the id 0
    return _SENTENCE_END if isinstance(tokenizer, SentencePieceTokenizer) else PAD


def differing_texts(content: str, tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Return those of `texts` for which the tokenizers library gives other ids than `tokenizer`.

    Args:
        content: of the `tokenizer.json`.
        tokenizer: the model's tokenizer.
        texts: any texts.

    Raises:
        ValueError: the tokenizers library does not accept the file.
    """
    import tokenizers

    try:
        written = tokenizers.Tokenizer.from_str(content)
    # The library's errors have no class of their own.
    except Exception as error:
        raise ValueError(f"the tokenizers library refuses it: {error}") from None
    ours = tokenizer(list(texts))["token_ids"].numpy()
    theirs = [encoding.ids for encoding in written.encode_batch(list(texts))]
    return [
        text
        for text, own, other in zip(texts, ours, theirs, strict=True)
        if not np.array_equal(own, np.array(other, np.int32))
    ]


def _frame(
    tokenizer: Tokenizer,
    model: dict,
    normalizer: list[dict],
    pre_tokenizer: dict | None,
    ids: dict[str, int],
    *,
    start: str | None,
    end: str,
    added: Sequence[str],
) -> dict:
    """Return the whole file: text, then `start` ... `end`, padded and cut to the context."""
    pad = pad_token(tokenizer)
    single: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    if start is not None:
        single.insert(0, {"SpecialToken": {"id": start, "type_id": 0}})
    single.append({"SpecialToken": {"id": end, "type_id": 0}})
    framing = {token: ids[token] for token in (start, end) if token is not None}
    return {
        "version": "1.0",
        "truncation": {
            "direction": "Right",
            "max_length": tokenizer.context_length,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        "padding": {
            "strategy": {"Fixed": tokenizer.context_length},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": ids[pad],
            "pad_type_id": 0,
            "pad_token": pad,
        },
        "added_tokens": [
            {
                "id": ids[token],
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in added
        ],
        "normalizer": {"type": "Sequence", "normalizers": normalizer} if normalizer else None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": single,
            "special_tokens": {
                token: {"id": token, "ids": [number], "tokens": [token]}
                for token, number in framing.items()
            },
        },
        "decoder": None,
        "model": model,
    }


def _word_pieces(tokenizer: WordPieceTokenizer) -> dict:
    ids = {token: number for number, token in enumerate(tokenizer.vocabulary)}
    folds = tokenizer.lowercase and tokenizer.folding == "nfkc"
    bert = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": tokenizer.lowercase,
        "lowercase": tokenizer.lowercase,
    }
    before = [FINAL_SIGMA] if tokenizer.lowercase else []
    if folds:
        before = [*_case_folding(), {"type": "NFKC"}, *_case_folding()]
    return _frame(
        tokenizer,
        {
            "type": "WordPiece",
            "unk_token": UNKNOWN,
            "continuing_subword_prefix": CONTINUES,
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
        [*before, bert],
        {"type": "BertPreTokenizer"},
        ids,
        start=START,
        end=END,
        # Brackets are separate words in tfclip, so no text contains a special token.
        added=(),
    )


@cache
def _case_folding() -> tuple[dict, ...]:
    """Return replacements for the letters whose case folding is not their lower case."""
    pairs = [
        (chr(code), chr(code).casefold())
        for code in range(sys.maxunicode + 1)
        if chr(code).casefold() not in (chr(code).lower(), chr(code))
        and unicodedata.normalize("NFKC", chr(code)) == chr(code)
    ]
    return tuple(replacement(letter, folded) for letter, folded in pairs)


def _byte_pairs(tokenizer: BytePairTokenizer) -> dict:
    letters = byte_pair.byte_letters()
    symbols = [*letters, *(letter + "</w>" for letter in letters)]
    symbols += [merge.replace(" ", "", 1) for merge in tokenizer.merges]
    symbols += [byte_pair.START, byte_pair.END]
    ids = {symbol: number for number, symbol in enumerate(symbols)}
    spaces = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": byte_pair.END,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "</w>",
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": ids,
        "merges": [merge.split(" ") for merge in tokenizer.merges],
    }
    split = {
        "type": "Split",
        "pattern": {"Regex": _CLIP_PATTERN},
        "behavior": "Removed",
        "invert": True,
    }
    to_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return _frame(
        tokenizer,
        model,
        [replacement("\0", ""), {"type": "NFC"}, spaces, *LOWER],
        {"type": "Sequence", "pretokenizers": [split, {**to_bytes, "use_regex": False}]},
        ids,
        start=byte_pair.START,
        end=byte_pair.END,
        added=(byte_pair.START, byte_pair.END),
    )
