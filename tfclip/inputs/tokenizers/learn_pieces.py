"""Learning a vocabulary of pieces from captions, by SentencePiece's byte-pair encoding."""

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
# [PAD] [UNK] [CLS] [SEP], the token of the rules, the bytes.
FIXED = len(SPECIALS) + 1 + BYTES
# SentencePiece passes over lines that are longer; a word has a line. It takes time to learn from.
LONGEST_WORD = 16_384
LEAST_COUNT = 2
NO_WORD = "."
# Of the library: errors, which are raised as well.
QUIET = 2


def learn_pieces(captions: Iterable[str], size: int, *, lowercase: bool = True) -> bytes:
    """Learn the pieces of a vocabulary of at most `size`, the same for the same captions.

    The most frequent pair of neighbours within a word is joined into a piece, again and again
    (Sennrich et al. 2016, arXiv 1508.07909), until `size` is reached or no pair occurs twice; in
    scripts without blanks a word may be a sentence. The characters take at most half of what the
    256 bytes leave of `size`; the rarest of them are spelt in bytes.

    Args:
        captions: read once, held only as counts of words.
        size: upper bound; fewer pieces come back when the captions hold no more.
        lowercase: False keeps upper and lower case apart.

    Returns:
        The model of a `LearntPieceTokenizer`.

    Raises:
        ValueError: there is no word in the captions, or `size` leaves no room for characters.
    """
    sentencepiece.set_min_log_level(QUIET)
    room = (size - FIXED) // 2
    if room < 1:
        raise ValueError(
            f"vocabulary size {size} is too small: {FIXED} are bytes and special tokens, and the "
            "characters need some; try 8000"
        )
    words = count_words(captions, lowercase)
    if not words:
        raise ValueError("no words to learn a vocabulary from: all captions are empty")
    # Without a frequent character there is nothing to join, and all is spelt in bytes.
    words = _without_rare(words, room) or Counter([NO_WORD])
    model = _train(words, size, lowercase)
    needed = _needed(model, words)
    return model if needed is None else _train(words, needed, lowercase)


def count_words(captions: Iterable[str], lowercase: bool) -> Counter[str]:
    """Count the words of `captions`, as the tokenizer normalises and parts them."""
    found: Counter[bytes] = Counter()
    captions = iter(captions)
    while some := list(islice(captions, 8192)):
        for text in normalize(tf.constant(some, tf.string)).numpy():
            found.update(text.split())
    normalizer = sentencepiece.SentencePieceNormalizer(
        norm_map=character_rules(lowercase), add_dummy_prefix=False, escape_whitespaces=False
    )
    words: Counter[str] = Counter()
    for word, count in found.items():
        for part in normalizer.normalize(word.decode()).split(" "):
            words[part] += count
    del words[""]
    return words


def _without_rare(words: Counter[str], room: int) -> Counter[str]:
    """Cut words at the characters that are left to the bytes: seen once, or beyond `room`."""
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
    """The size that holds all pieces of which the words have two or more; None for this one.

    Pieces are in the order in which they were joined, characters last: what comes after the last
    frequent one was joined for a word seen once, or is never used.
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
    """The ids of the pieces of two characters or more."""
    return (at for at in range(FIXED, len(pieces)) if len(pieces.id_to_piece(at)) > 1)
