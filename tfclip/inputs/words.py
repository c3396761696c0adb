"""The words of the captions: which are worth asking a picture for, and which picture has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

PROMPT = "a photo of a {}."
SHORTEST = 3
# A word of fewer pictures teaches noise; one of more says nothing of what is to be seen ("with").
LEAST_PICTURES = 10
LARGEST_SHARE = 0.25
MOST_WORDS = 4096


@dataclass(frozen=True)
class RecordWords:
    """For N records of a split, which of some chosen words their captions hold.

    Attributes:
        words: the chosen words, the most frequent first.
        places: (N, M) int32, the places in `words` of each record's words, -1 for none.
        counts: of the records in each shard, in the order of the rows.
    """

    words: tuple[str, ...]
    places: np.ndarray
    counts: Sequence[int]

    def look_up(self, rows: tf.Tensor) -> tf.Tensor:
        """The words of records (B,) int64: (B, M) int32."""
        found = tf.numpy_function(lambda at: self.places[at], [rows], tf.int32)
        return tf.ensure_shape(found, [*rows.shape, self.places.shape[1]])


def words_of(text: str) -> list[str]:
    """The words of a caption, case folded: runs of letters."""
    letters = (character if character.isalpha() else " " for character in text.casefold())
    return "".join(letters).split()


def record_words(captions: Iterable[Sequence[str]], counts: Sequence[int]) -> RecordWords:
    """Choose words by the number of pictures whose captions hold them, and note which.

    Words of `SHORTEST` letters or more, in at least `LEAST_PICTURES` pictures and at most
    `LARGEST_SHARE` of all; the `MOST_WORDS` most frequent of them.

    Args:
        captions: the captions of each record.
        counts: of the records in each shard.

    Raises:
        ValueError: no word is frequent enough.
    """
    of_records = [{word for text in texts for word in words_of(text)} for texts in captions]
    pictures = Counter(word for words in of_records for word in words)
    most = LARGEST_SHARE * len(of_records)
    known = [
        word
        for word, count in sorted(pictures.items(), key=lambda item: (-item[1], item[0]))
        if len(word) >= SHORTEST and LEAST_PICTURES <= count <= most
    ][:MOST_WORDS]
    if not known:
        raise ValueError(
            f"no word is in the captions of {LEAST_PICTURES} pictures or more and of at most "
            f"{LARGEST_SHARE:.0%} of the {len(of_records)}; train with --word-weight 0"
        )
    place = {word: at for at, word in enumerate(known)}
    rows = [sorted(place[word] for word in words if word in place) for words in of_records]
    places = np.full((len(rows), max(map(len, rows))), -1, np.int32)
    for row, found in enumerate(rows):
        places[row, : len(found)] = found
    return RecordWords(tuple(known), places, tuple(counts))
