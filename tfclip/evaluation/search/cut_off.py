"""The cosine below which nothing in an index looks like a text, learnt from the index itself.

Each of several hundred things of many kinds is searched for. Most of them are in no picture of a
collection, so that the lower half of their best cosines shows what a text reaches that has no
answer: the cut-off lies `DEVIATIONS` above their median, a deviation being the distance from the
median down to the 16th percentile. It is learnt anew when the index changes.
"""

from __future__ import annotations

import numpy as np

from tfclip.evaluation.embedding.cache import RunEmbeddings
from tfclip.evaluation.search import store
from tfclip.evaluation.search.index import SearchIndex
from tfclip.evaluation.search.nearest import CHUNK
from tfclip.evaluation.search.things import THINGS

DEVIATIONS = 2.5
PROMPT = "a photo of a {}."
ENTRY = "cut_off"


def best_cosines(embeddings: np.ndarray, texts: np.ndarray, chunk: int = CHUNK) -> np.ndarray:
    """Return the largest cosine of each text with any row.

    Args:
        embeddings: (N,D) of unit norm, may be memory-mapped.
        texts: (M,D) of unit norm.
        chunk: rows in memory at a time.

    Returns:
        (M,) float32.
    """
    best = np.full(len(texts), -1.0, np.float32)
    for start in range(0, len(embeddings), chunk):
        np.maximum(best, (embeddings[start : start + chunk] @ texts.T).max(axis=0), out=best)
    return best


def cut_off_of(best: np.ndarray) -> float:
    """Return the cut-off from the best cosines of things, (M,).

    >>> cut_off_of(np.array([0.1, 0.2, 0.3, 0.4, 0.9]))
    0.7
    """
    low, median = np.percentile(best, (16, 50))
    return round(float(median + DEVIATIONS * (median - low)), 4)


def learnt_cut_off(index: SearchIndex) -> float | None:
    """Return the cut-off of an index: the stored one, or one that is learnt now and stored.

    The texts are embedded once for each model. Returns None where the model cannot embed them.
    """
    known = index.description.get(ENTRY)
    if known is not None:
        return float(known)
    try:
        texts = RunEmbeddings(index.run).texts([PROMPT.format(thing) for thing in THINGS])
    except ValueError:  # A context too short for a sentence.
        return None
    learnt = cut_off_of(best_cosines(index.embeddings, texts))
    if index.place.is_dir():
        try:
            with store.writing(index.place):
                if store.read_description(index.place)["token"] == index.description["token"]:
                    store.renew(index.place, {ENTRY: learnt})
        except (OSError, ValueError):  # A folder that is read-only, or is being written.
            pass
    return learnt
