"""Text normalisation before learnt pieces, the same in learning, training and serving.

There are two steps: `normalize` in the graph, and a table of characters that is compiled into each
learnt vocabulary, so that later versions cannot change it. The version of the rules is stored there
as well: a changed `normalize` needs a new version, with this one still supported.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

import tensorflow as tf
import tensorflow_text as tf_text

RULES = 1
# NFKC replaces no-break, thin and other spaces with plain ones. The zero-width space separates
# words in Khmer and Thai.
_SPACES = (*range(0x09, 0x0E), 0x85, 0x1680, 0x200B, 0x2028, 0x2029)
# Invisible marks of writing direction and line breaks. The joiners U+200C and U+200D stay, because
# Persian words and emoji differ by them.
_INVISIBLE = (0xAD, 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2060, *range(0x2066, 0x206A), 0xFEFF)
# SentencePiece's replacement for a space.
_SENTENCE_PIECE_SPACE = "\u2581"
_FINAL_SIGMA, _SIGMA = "\u03c2", "\u03c3"


def normalize(texts: tf.Tensor | Sequence[str]) -> tf.Tensor:
    """Normalise texts (N,) string to Unicode's NFKC: (N,) string.

    Letters with accents become one character where Unicode has it, the order of accents is fixed,
    and half- and full-width forms become the same. Invalid UTF-8 becomes U+FFFD.
    """
    texts = tf.convert_to_tensor(texts, tf.string)
    return tf_text.normalize_utf8(tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8"), "NFKC")


@cache
def character_rules(lowercase: bool) -> tuple[tuple[str, str], ...]:
    """Return the table that is compiled into a vocabulary: characters and their replacements.

    White space becomes a space; punctuation and symbols become separate words, so that they do not
    change the word next to them; control characters are removed; letters become lower case if
    `lowercase`. Accents are kept.
    """
    return tuple(_replacements(lowercase))


def white_space() -> str:
    """Return the characters that become a space."""
    return "".join(map(chr, _SPACES))


def invisible() -> str:
    """Return the characters that are removed, apart from NUL, which ends a text."""
    controls = (code for code in (*range(1, 0x20), *range(0x7F, 0xA0)) if code not in _SPACES)
    return "".join(map(chr, (*controls, *_INVISIBLE)))


def _replacements(lowercase: bool) -> Iterator[tuple[str, str]]:
    for code in range(1, sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if code in _SPACES:
            yield character, " "
        elif category == "Cc" or code in _INVISIBLE:
            yield character, ""
        elif category[0] in "PS" and character != _SENTENCE_PIECE_SPACE:
            yield character, f" {character} "
        elif lowercase:
            lower = character.lower().replace(_FINAL_SIGMA, _SIGMA)
            if lower != character:
                yield character, lower
