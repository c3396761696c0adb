"""Words of the captions as tags: the choice of words, and the words of each picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

PROMPT = "a photo of a {}."
SHORTEST = 3
# Words of fewer pictures are noise; words of more do not describe the content ("with").
LEAST_PICTURES = 10
LARGEST_SHARE = 0.25
MOST_WORDS = 4096


@dataclass(frozen=True)
class RecordWords:
    """The chosen words in the captions of N records of a split.

    Attributes:
        words: the chosen words, most frequent first.
        places: (N, M) int32, the positions in `words` of the words of each record, padded with -1.
        counts: the number of records in each shard, in the order of the rows.
    """

    words: tuple[str, ...]
    places: np.ndarray
    counts: Sequence[int]

    def look_up(self, rows: tf.Tensor) -> tf.Tensor:
        """Return the rows of `places` of records (B,) int64: (B, M) int32."""
        places = tf.numpy_function(lambda at: self.places[at], [rows], tf.int32)
        return tf.ensure_shape(places, [*rows.shape, self.places.shape[1]])


def words_of(text: str) -> list[str]:
    """Return the words of a caption, case folded; a word is a run of letters.

    >>> words_of("Two dogs, 3 CATS")
    ['two', 'dogs', 'cats']
    """
    letters = (character if character.isalpha() else " " for character in text.casefold())
    return "".join(letters).split()


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
    of_records = [{word for text in texts for word in words_of(text)} for texts in captions]
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
            f"{LARGEST_SHARE:.0%} of the {len(of_records)}; train with --word-weight 0"
        )
    place = {word: at for at, word in enumerate(chosen)}
    rows = [sorted(place[word] for word in words if word in place) for words in of_records]
    places = np.full((len(rows), max(map(len, rows))), -1, np.int32)
    for row, positions in enumerate(rows):
        places[row, : len(positions)] = positions
    return RecordWords(tuple(chosen), places, tuple(counts))
