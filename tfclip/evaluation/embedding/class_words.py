"""Words of classes: synonyms, whose prompts are averaged, and negatives, which are subtracted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tfclip.evaluation.embedding.prompts import class_prompts, mean_embeddings, readable_names
from tfclip.naming import unknown
from tfclip.text_lists import read_lines

OWN, OTHERS = "auto", "others"
"""Instead of a file: synonyms among the training captions, see `own_words`; or the other classes as
the negatives of each."""
NEGATIVE_WEIGHT = 0.25
"""The weight of the mean of a class's negatives; that of its texts is 1."""
_NOT = ("not an ", "not a ", "not the ", "not ")


@dataclass(frozen=True)
class ClassWords:
    """Words by class name; a class without an entry has its own name and no negatives.

    Attributes:
        synonyms: words that replace the class name; their prompts are averaged.
        negatives: words of what the class is not.
    """

    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    negatives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def check(self, class_names: Sequence[str]) -> None:
        """Raise ValueError when words are given for an unknown class."""
        for name in (*self.synonyms, *self.negatives):
            if name not in class_names:
                raise unknown("class in the class words", name, class_names)

    def described(self) -> str:
        """Return one line with the words of each class that has some."""
        if self.negatives and self == other_classes(tuple(self.negatives)):
            return "negatives of each class: all others"
        listed = [
            f"{name}: "
            + ", ".join(
                (
                    *self.synonyms.get(name, ()),
                    *(f"not {word}" for word in self.negatives.get(name, ())),
                )
            )
            for name in dict.fromkeys((*self.synonyms, *self.negatives))
        ]
        return "words of classes: " + ("; ".join(listed) or "none")

    def prompts(self, class_names: Sequence[str], templates: str) -> list[tuple[str, ...]]:
        """Return the texts of each class, see `prompts.class_prompts`."""
        return class_prompts(class_names, templates, self.synonyms)

    def negative_prompts(self, class_names: Sequence[str], templates: str) -> list[tuple[str, ...]]:
        """Return what is subtracted from each class: () for a class without negatives."""
        named = [name for name in class_names if name in self.negatives]
        filled = dict(zip(named, class_prompts(named, templates, self.negatives), strict=True))
        return [filled.get(name, ()) for name in class_names]


def read_class_words(path: Path) -> ClassWords:
    """Read a file of words: UTF-8, one class per line, "sofa: couch, sofa, not a bench".

    Words that follow "not" are negatives. A line with negatives alone leaves the class its name.
    Empty lines and lines that begin with # are ignored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8, a line has no colon or no word, or a class occurs twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of class words at {path}")
    synonyms: dict[str, tuple[str, ...]] = {}
    negatives: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line or line.startswith("#"):
            continue
        name, _, word_list = (part.strip() for part in line.partition(":"))
        words = [word.strip() for word in word_list.split(",") if word.strip()]
        denials = [_negative(word) for word in words]
        denied = tuple(filter(None, denials))
        stated = tuple(word for word, no in zip(words, denials, strict=True) if no is None)
        if not name or not words or "" in denials or name in {*synonyms, *negatives}:
            raise ValueError(
                f"{path}, line {number}: received {line[:60]!r}; allowed: CLASS: word, "
                "word, not word; each class once"
            )
        synonyms |= {name: stated} if stated else {}
        negatives |= {name: denied} if denied else {}
    return ClassWords(synonyms, negatives)


def other_classes(class_names: Sequence[str]) -> ClassWords:
    """Return all other classes as the negatives of each class.

    This subtracts a part of what all classes of a set have in common, so that a picture that is
    near to all of them counts less.

    >>> dict(other_classes(["dog", "cat", "sofa"]).negatives)["dog"]
    ('cat', 'couch')
    """
    readable = readable_names(class_names)
    if len(class_names) < 2:
        return ClassWords()
    return ClassWords(
        negatives={
            name: tuple(other for other in readable if other != shown)
            for name, shown in zip(class_names, readable, strict=True)
        }
    )


def _negative(word: str) -> str | None:
    """Return what a word denies ("not a bench": "bench"), or None if it denies nothing.

    >>> [_negative(word) for word in ("not a bench", "not", "knot")]
    ['bench', '', None]
    """
    folded = f"{word.lower()} "
    for start in _NOT:
        if folded.startswith(start):
            return word[len(start) :].strip()
    return None


def combined_embeddings(
    embed: Callable[[Sequence[str]], np.ndarray],
    texts: Sequence[Sequence[str]],
    negatives: Sequence[Sequence[str]] = (),
) -> np.ndarray:
    """Embed each of C classes: the mean of its texts, minus a part of the mean of its negatives.

    The result is a vector like that of a text, so that scores stay cosines and an exported graph
    needs nothing else.

    Args:
        embed: from M texts to (M,D) embeddings of unit norm.
        texts: at least one for each class.
        negatives: none or some for each class; empty for none at all.

    Returns:
        (C,D) of unit norm.
    """
    denied = [listed for listed in negatives if listed]
    every = embed([text for listed in (*texts, *denied) for text in listed])
    means = mean_embeddings(every, [len(listed) for listed in (*texts, *denied)])
    if not denied:
        return means
    rows = [row for row, listed in enumerate(negatives) if listed]
    means[rows] -= NEGATIVE_WEIGHT * means[len(texts) :]
    means = means[: len(texts)]
    return means / np.maximum(np.linalg.norm(means, axis=-1, keepdims=True), 1e-12)
