"""Learns a vocabulary of pieces from captions by SentencePiece's byte-pair encoding."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import sentencepiece
import tensorflow as tf

from tfclip.inputs.tokenizers.learnt_pieces import SPECIALS, rules_token
from tfclip.inputs.tokenizers.text_rules import character_rules, normalize

BYTES = 256
# [PAD] [UNK] [CLS] [SEP], the token that names the text rules, the bytes.
FIXED = len(SPECIALS) + 1 + BYTES
# SentencePiece skips longer lines, and each word is a line. Long words take long to learn from.
LONGEST_WORD = 16_384
LEAST_COUNT = 2
NO_WORD = "."
# The library's log level of errors, which it also raises.
QUIET = 2


def learn_pieces(captions: Iterable[str], size: int, *, lowercase: bool = True) -> bytes:
    """Learn a vocabulary of at most `size` pieces; deterministic for the same captions.

    The most frequent pair of neighbouring pieces within a word is merged repeatedly (Sennrich et
    al. 2016, arXiv 1508.07909), until `size` is reached or no pair occurs twice; in scripts without
    spaces a word may be a sentence. Characters take at most half of `size` without the 256 bytes
    and the special tokens; rarer characters are encoded as bytes.

    Args:
        captions: the texts, read once; only word counts are held in memory.
        size: upper bound; there are fewer pieces when the captions contain no more.
        lowercase: False for a cased vocabulary.

    Returns:
        The model of a `LearntPieceTokenizer`.

    Raises:
        ValueError: the captions contain no word, or `size` leaves no room for characters.
    """
    sentencepiece.set_min_log_level(QUIET)
    room = (size - FIXED) // 2
    if room < 1:
        raise ValueError(
            f"vocabulary size {size} is too small: {FIXED} entries are bytes and special tokens, "
            "and characters need more; try 8000"
        )
    words = count_words(captions, lowercase)
    if not words:
        raise ValueError("no words to learn a vocabulary from: all captions are empty")
    # Without a frequent character nothing can be merged, and every word is encoded as bytes.
    words = _without_rare(words, room) or Counter([NO_WORD])
    model = _train(words, size, lowercase)
    needed = _needed(model, words)
    return model if needed is None else _train(words, needed, lowercase)


def count_words(captions: Iterable[str], lowercase: bool) -> Counter[str]:
    """Return the frequencies of the words of `captions`, split as by the tokenizer."""
    raw_words: Counter[bytes] = Counter()
    captions = iter(captions)
    while chunk := list(islice(captions, 8192)):
        for text in normalize(tf.constant(chunk, tf.string)).numpy():
            raw_words.update(text.split())
    normalizer = sentencepiece.SentencePieceNormalizer(
        norm_map=character_rules(lowercase), add_dummy_prefix=False, escape_whitespaces=False
    )
    words: Counter[str] = Counter()
    for word, count in raw_words.items():
        for part in normalizer.normalize(word.decode()).split(" "):
            words[part] += count
    del words[""]
    return words


def _without_rare(words: Counter[str], room: int) -> Counter[str]:
    """Split words at the characters that are encoded as bytes: those seen once or beyond `room`."""
    seen: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            seen[character] += count
    ranked = sorted(seen, key=lambda character: (-seen[character], character))[:room]
    kept = {character for character in ranked if seen[character] >= LEAST_COUNT}
    parts: Counter[str] = Counter()
    for word, count in words.items():
        for part in "".join(c if c in kept else " " for c in word).split():
            if len(part.encode()) <= LONGEST_WORD:
                parts[part] += count
    return parts


def _train(words: Counter[str], size: int, lowercase: bool) -> bytes:
    pad, unknown, start, end = SPECIALS
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(f"{word}\t{count}" for word, count in sorted(words.items())),
        input_format="tsv",
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        byte_fallback=True,
        normalizer=sentencepiece.SentencePieceNormalizer(norm_map=character_rules(lowercase)),
        max_sentence_length=2 * LONGEST_WORD,
        control_symbols=[rules_token(lowercase)],
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        pad_piece=pad,
        unk_piece=unknown,
        bos_piece=start,
        eos_piece=end,
        num_threads=1,
        minloglevel=QUIET,
    )
    return model.getvalue()


def _needed(model: bytes, words: Counter[str]) -> int | None:
    """Return the size with all pieces that the words use at least twice; None if it is this one.

    Pieces are in the order of their merges, with the characters last: pieces after the last
    frequent one come from words seen once, or are never used.
    """
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    uses: Counter[int] = Counter()
    for ids, count in zip(pieces.encode(list(words)), words.values(), strict=True):
        for piece in ids:
            uses[piece] += count
    size = pieces.get_piece_size()
    joined = [at for at in _joined(pieces) if uses[at] >= LEAST_COUNT]
    characters = size - FIXED - sum(1 for _ in _joined(pieces))
    needed = max(joined, default=FIXED - 1) + 1 + characters
    return needed if needed < size else None


def _joined(pieces: sentencepiece.SentencePieceProcessor) -> Iterator[int]:
    """Return the ids of the pieces of two characters or more."""
    return (at for at in range(FIXED, len(pieces)) if len(pieces.id_to_piece(at)) > 1)
