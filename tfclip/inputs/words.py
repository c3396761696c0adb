"""Words of the captions as tags: the choice of words, and the words of each picture."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.records import schema
from tfclip.records.reader import read_split, shard_counts

PROMPT = "a photo of a {}."
SHORTEST = 3
# Words of fewer pictures are noise; words of more do not describe the content ("with").
LEAST_PICTURES = 10
LARGEST_SHARE = 0.25
MOST_WORDS = 4096

# Thai, Lao, Myanmar, Khmer, New Tai Lue to Tai Tham, kana, and Chinese characters.
_NO_BLANKS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1980-\u1aaf"
    "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_JOINERS = "\u200c\u200d"
"""Signs within words of Persian, Hindi and other languages."""


@dataclass(frozen=True)
class RecordWords:
    """The chosen words in the captions of N records of a split.

    Attributes:
        words: the chosen words, most frequent first.
        places: (N, M) int32, the positions in `words` of the words of each record, padded with -1.
        counts: the number of records in each shard, in the order of the rows.
        without_blanks: the number of captions in scripts without spaces between words, in which
            no word is found.
    """

    words: tuple[str, ...]
    places: np.ndarray
    counts: Sequence[int]
    without_blanks: int = 0

    def look_up(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the rows of `places` of records (B,) int64: (B, M) int32."""
        places = tf.numpy_function(lambda at: self.places[at], [rows], tf.int32)
        return tf.ensure_shape(places, [*rows.shape, self.places.shape[1]])


def words_of(text: str) -> list[str]:
    """Return the words of a caption, case folded; a word is a run of letters with their marks.

    Chinese, Japanese, Thai and other scripts without spaces between words have none: their
    characters separate words.

    >>> words_of("Two dogs, 3 CATS"), words_of("लाल किताब, 犬 dog")
    (['two', 'dogs', 'cats'], ['लाल', 'किताब', 'dog'])
    """
    if text.isascii():
        text = text.casefold()
    else:
        text = _NO_BLANKS.sub(" ", unicodedata.normalize("NFC", text).casefold())
    letters = (character if character.isalpha() or _joins(character) else " " for character in text)
    return [word for word in "".join(letters).split() if any(map(str.isalpha, word))]


def _joins(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character).startswith("M")


def has_no_blanks(text: str) -> bool:
    """Return whether a text contains a script without spaces between words."""
    return not text.isascii() and _NO_BLANKS.search(text) is not None


def split_words(*parts: tuple[Path, str]) -> RecordWords:
    """Choose words, as `record_words`, from the captions and phrases of a split of records, or of
    several ones together.

    Raises:
        ValueError: no word is frequent enough.
    """
    texts = (schema.CAPTION, schema.PHRASE)
    captions = (
        [text.decode("utf-8", "replace") for name in texts for text in record[name]]
        for records, split in parts
        for record in read_split(records, split, features=texts).as_numpy_iterator()
    )
    return record_words(captions, [count for part in parts for count in shard_counts(*part)])


def record_words(captions: Iterable[Sequence[str]], counts: Sequence[int]) -> RecordWords:
    """Choose words by the number of pictures whose captions contain them.

    The words have at least `SHORTEST` letters and are in at least `LEAST_PICTURES` pictures and at
    most the fraction `LARGEST_SHARE` of all. Of these, the `MOST_WORDS` most frequent are chosen.

    Args:
        captions: the captions of each record.
        counts: the number of records in each shard.

    Raises:
        ValueError: no word is frequent enough.
    """
    of_records, without_blanks = [], 0
    for texts in captions:
        of_records.append({word for text in texts for word in words_of(text)})
        without_blanks += sum(map(has_no_blanks, texts))
    pictures = Counter(word for words in of_records for word in words)
    most = LARGEST_SHARE * len(of_records)
    chosen = [
        word
        for word, count in sorted(pictures.items(), key=lambda item: (-item[1], item[0]))
        if len(word) >= SHORTEST and LEAST_PICTURES <= count <= most
    ][:MOST_WORDS]
    if not chosen:
        raise ValueError(
            f"no word is in the captions of {LEAST_PICTURES} pictures or more and of at most "
            f"{LARGEST_SHARE:.0%} of the {len(of_records)}"
            + (
                f", and {without_blanks:,} captions have no spaces between words"
                if without_blanks
                else ""
            )
            + "; train with --word-weight 0"
        )
    place = {word: at for at, word in enumerate(chosen)}
    rows = [sorted(place[word] for word in words if word in place) for words in of_records]
    places = np.full((len(rows), max(map(len, rows))), -1, np.int32)
    for row, positions in enumerate(rows):
        places[row, : len(positions)] = positions
    return RecordWords(tuple(chosen), places, tuple(counts), without_blanks)
