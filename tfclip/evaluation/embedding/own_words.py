"""Finds synonyms of class names among the caption words of a run, those of its tagging loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfclip.evaluation.embedding.cache import RunEmbeddings, class_embeddings_of
from tfclip.evaluation.embedding.class_words import (
    OTHERS,
    OWN,
    ClassWords,
    other_classes,
    read_class_words,
)
from tfclip.evaluation.embedding.prompts import readable_names
from tfclip.inputs.words import PROMPT, split_words, words_of
from tfclip.records.manifest import load_manifest, records_reference

LEAST_COSINE = 0.6
MOST_SYNONYMS = 3


def class_words(
    run: Path, word: str | None, class_names: Sequence[str], embeddings: RunEmbeddings | None = None
) -> ClassWords:
    """Return the words that --class-words names: none, those of a file, or found ones.

    Raises:
        FileNotFoundError, ValueError: see `read_class_words`, `caption_words`.
    """
    if word is None:
        return ClassWords()
    if word == OTHERS:
        return other_classes(class_names)
    if word != OWN:
        return read_class_words(Path(word))
    embeddings = embeddings or RunEmbeddings(run)
    words = caption_words(run, embeddings)
    return ClassWords(find_synonyms(embeddings, class_names, words))


def caption_words(run: Path, embeddings: RunEmbeddings) -> tuple[str, ...]:
    """Return the words of a run's training captions, chosen as for its tagging loss.

    Raises:
        ValueError: the run does not say what it was trained on, or the records are not there.
    """
    try:
        config = json.loads((Path(run) / "config.json").read_text(encoding="utf-8"))
        parts = []
        for at, reference in enumerate(config["flags"]["records"]):
            records, split = records_reference(reference)
            parts.append((records, split or config["splits"][at]))
        prints = " ".join(f"{load_manifest(records).fingerprint()}:{on}" for records, on in parts)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"received --class-words {OWN}, which needs the captions that {run} was trained on "
            f"({' '.join(str(error).split())}); give a file with lines CLASS: word, word"
        ) from None

    def read() -> dict[str, np.ndarray]:
        return {"words": np.array(split_words(*parts).words, str)}

    kept = embeddings.arrays(f"caption words {prints}", read)
    return tuple(map(str, kept["words"]))


def find_synonyms(
    embeddings: RunEmbeddings, class_names: Sequence[str], words: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return, for classes that have any, the readable name and its synonyms among `words`.

    See `nearest_words`; the texts are those that the tagging loss is trained with.
    """
    readable = readable_names(class_names)
    named = {part for name in (*class_names, *readable) for part in words_of(name)}
    words = [word for word in words if word not in named]
    if not words:
        return {}
    classes, others = (
        class_embeddings_of(embeddings, [(PROMPT.format(text),) for text in texts])
        for texts in (readable, words)
    )
    found = nearest_words(classes, others)
    return {
        name: (shown, *(words[at] for at in places))
        for name, shown, places in zip(class_names, readable, found, strict=True)
        if len(places)
    }


def nearest_words(classes: np.ndarray, words: np.ndarray) -> list[np.ndarray]:
    """Return for each class the words that are nearer to it than to any other class.

    Args:
        classes: (C,D) of unit norm.
        words: (M,D) of unit norm.

    Returns:
        For each class at most `MOST_SYNONYMS` positions of words with a cosine of at least
        `LEAST_COSINE`, the nearest first.
    """
    cosines = words @ classes.T
    best = cosines.argmax(axis=1)
    found = []
    for column in range(len(classes)):
        near = np.flatnonzero((best == column) & (cosines[:, column] >= LEAST_COSINE))
        found.append(near[np.argsort(-cosines[near, column], kind="stable")][:MOST_SYNONYMS])
    return found
