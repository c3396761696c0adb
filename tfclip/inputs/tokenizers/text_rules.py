"""What a text is before it is split into learnt pieces: the same to learn, to train and to serve.

Two steps: `normalize` in the graph, and a table of characters that is compiled into each learnt
vocabulary, so that a stored one keeps it whatever later versions do. The rules have a version,
which is stored there as well: to change `normalize` means to add a version and to keep this one.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

import tensorflow as tf
import tensorflow_text as tf_text

RULES = 1
# No-break, thin and other spaces become plain ones by NFKC. The zero-width space parts words in
# Khmer and Thai.
_SPACES = (*range(0x09, 0x0E), 0x85, 0x1680, 0x200B, 0x2028, 0x2029)
# Invisible marks of direction, and where to break a line. The joiners U+200C and U+200D stay: they
# tell Persian words and emoji apart.
_INVISIBLE = (0xAD, 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2060, *range(0x2066, 0x206A), 0xFEFF)
# How SentencePiece writes a space.
_SENTENCE_PIECE_SPACE = "\u2581"
_FINAL_SIGMA, _SIGMA = "\u03c2", "\u03c3"


def normalize(texts: tf.Tensor | Sequence[str]) -> tf.Tensor:
    """Bring texts (N,) string to Unicode's NFKC: (N,) string.

    Letters with marks are one character where there is one, marks stand in one order, and half or
    full width make no difference. Bytes that are not UTF-8 become U+FFFD.
    """
    texts = tf.convert_to_tensor(texts, tf.string)
    return tf_text.normalize_utf8(tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8"), "NFKC")


@cache
def character_rules(lowercase: bool) -> tuple[tuple[str, str], ...]:
    """The table that is compiled into a vocabulary: characters, and what takes their place.

    White space becomes a space; punctuation and symbols become words of their own, so that a sign
    does not change the word it is glued to; control characters go; letters become lower case, if
    wanted. Letters keep their marks.
    """
    return tuple(_replaced(lowercase))


def _replaced(lowercase: bool) -> Iterator[tuple[str, str]]:
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
