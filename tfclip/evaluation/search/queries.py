"""Queries: a text or a picture, and other texts and pictures added to it or taken away from it.

Texts and pictures have cosines of another size and spread with the pictures of an index. Terms are
therefore put together as standard scores: the cosine with each term minus its mean over the
index, divided by its standard deviation over the index, added up with the terms' weights.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfclip.sources.image_folder import ENDINGS
from tfclip.text_repair import fix_text

MINUS_WEIGHT = 0.5
"""The weight of what is taken away, beside 1 of the query."""
SAMPLE = 20_000
"""The largest number of rows that mean and deviation are computed from."""


@dataclass(frozen=True)
class Query:
    """A query with what is added and taken away.

    Attributes:
        first: a text or a picture file.
        plus, minus: further ones.
        minus_weight: of each of `minus`.
    """

    first: str
    plus: tuple[str, ...] = ()
    minus: tuple[str, ...] = ()
    minus_weight: float = MINUS_WEIGHT

    def __str__(self) -> str:
        return " ".join(
            [self.first, *(f"+ {one}" for one in self.plus), *(f"- {one}" for one in self.minus)]
        )

    def repaired(self) -> Query:
        """Return the query with its texts repaired, see `text_repair.fix_text`."""

        def repair(term: str) -> str:
            return term if is_picture(term) else fix_text(term)

        plus, minus = (tuple(map(repair, terms)) for terms in (self.plus, self.minus))
        return replace(self, first=repair(self.first), plus=plus, minus=minus)

    @property
    def terms(self) -> tuple[str, ...]:
        """All texts and picture files, the query first."""
        return (self.first, *self.plus, *self.minus)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each term."""
        return (1.0,) * (1 + len(self.plus)) + (-self.minus_weight,) * len(self.minus)


def is_picture(term: str) -> bool:
    """Return whether a term is a picture file, by its name."""
    return os.path.splitext(term)[1].lower() in ENDINGS or os.path.isfile(term)


def check_term(term: str) -> None:
    """Raise for a term that is empty, or the name of a picture file that does not exist.

    Raises:
        ValueError: it is empty.
        FileNotFoundError: there is no such picture.
    """
    if not term.strip():
        raise ValueError("the query is empty; give a text, or a picture file")
    if is_picture(term) and not os.path.isfile(term):
        raise FileNotFoundError(f"no picture at {term}")


def sample_rows(embeddings: np.ndarray, count: int = SAMPLE) -> np.ndarray:
    """Return up to `count` rows, evenly spread over (N,D) embeddings."""
    step = max(1, -(-len(embeddings) // count))
    return np.asarray(embeddings[::step])


def combine(
    terms: np.ndarray, weights: Sequence[float], sample: np.ndarray
) -> tuple[np.ndarray, float]:
    """Put the embeddings of terms together.

    Args:
        terms: (M,D) of unit norm.
        weights: (M,).
        sample: (R,D) rows of the index.

    Returns:
        A vector (D,) and a number: the product of a picture with the vector, less the number, is
        the weighted sum of the standard scores of the picture with the terms.
    """
    cosines = sample.astype(np.float64) @ terms.T.astype(np.float64)
    spread = np.maximum(cosines.std(axis=0), 1e-9)
    factors = np.asarray(weights) / spread
    return factors @ terms.astype(np.float64), float(factors @ cosines.mean(axis=0))
