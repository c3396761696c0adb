"""The vocabulary of packed records: given or learnt when packing, read when training."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tfclip.console import say
from tfclip.inputs.text import (
    LearntPieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    learn_vocabulary,
    tokenizer_from_file,
)
from tfclip.inputs.tokenizers.learn_pieces import learn_pieces
from tfclip.records import schema
from tfclip.records.manifest import (
    LEARNT_VOCABULARY,
    MANIFEST,
    VOCABULARY,
    load_manifest,
    vocabulary_file,
)
from tfclip.records.reader import read_shards

# A tokenizer needs a context length; the run's is set later, once it is known.
SHORTEST = 3
# The least size for several sets: a small set may have a small vocabulary.
USUAL_SIZE = 8000
FEATURES = (schema.CAPTION, schema.PHRASE)


def check_given(path: Path) -> Tokenizer:
    """Read a vocabulary that is to be stored with records.

    Raises:
        ValueError: it is damaged, or of a kind that records cannot have.
    """
    tokenizer = tokenizer_from_file(path, SHORTEST)
    if not isinstance(tokenizer, WordPieceTokenizer | LearntPieceTokenizer):
        raise ValueError(
            f"received --vocab {path}, a list of byte pairs; allowed: a vocab.txt or a "
            "vocab.model. Give byte pairs to fit, with --vocabulary"
        )
    return tokenizer


def add_vocabulary(
    directory: Path, files: Sequence[str], given: Path | None, size: int, lowercase: bool
) -> dict:
    """Write the vocabulary of a set that is being packed.

    Args:
        directory: the directory of the set.
        files: the shards of its training splits, to learn from; without texts nothing is written.
        given: a vocabulary to copy instead of learning one.
        size: the largest size of a learnt vocabulary.
        lowercase: False to learn a cased vocabulary.

    Returns:
        The entries for the manifest: `vocabulary`, the tokenizer's description, if one is written.
    """
    if given is not None:
        tokenizer = check_given(given)
        learnt = isinstance(tokenizer, LearntPieceTokenizer)
        shutil.copyfile(given, directory / (LEARNT_VOCABULARY if learnt else VOCABULARY))
        if not tokenizer.lowercase:
            say(f"{given} is cased: texts keep their case and accents")
        return {"vocabulary": tokenizer.describe()}
    if not files or next(texts_of(files), None) is None:
        return {}
    tokenizer = LearntPieceTokenizer(
        learn_pieces(texts_of(files), size, lowercase=lowercase), SHORTEST
    )
    tokenizer.save(directory)
    return {"vocabulary": tokenizer.describe()}


def tokenizer_of(directories: Sequence[Path], files: Sequence[str]) -> Tokenizer:
    """Return the tokenizer of one or more sets, with an arbitrary context length.

    If their vocabularies differ, one of the largest of their sizes is learnt from all sets:
    WordPiece if all of them are, as in earlier versions.

    Args:
        directories: the directories of the sets.
        files: their training shards.

    Raises:
        FileNotFoundError: a set has no vocabulary.
    """
    paths = [vocabulary_file(directory) for directory in directories]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f"no vocabulary at {path}; give one with --vocabulary PATH, or pack the records "
                "again"
            )
    if len({path.read_bytes() for path in paths}) == 1:
        return _stored(paths[0])
    tokenizers = [_stored(path) for path in paths]
    size = max(tokenizer.vocabulary_size for tokenizer in tokenizers)
    size = size if all(path.name == VOCABULARY for path in paths) else max(size, USUAL_SIZE)
    prefix = "the records have different vocabularies: learnt a new one of"
    if all(path.name == VOCABULARY for path in paths):
        words = learn_vocabulary(texts_of(files), size)
        say(f"{prefix} {len(words):,} tokens from all of them")
        return WordPieceTokenizer(words, SHORTEST)
    lowercase = any(getattr(tokenizer, "lowercase", True) for tokenizer in tokenizers)
    learnt = LearntPieceTokenizer(
        learn_pieces(texts_of(files), size, lowercase=lowercase), SHORTEST
    )
    say(f"{prefix} {learnt.vocabulary_size:,} tokens from all of them")
    return learnt


def texts_of(files: Iterable[str]) -> Iterator[str]:
    """Yield the captions and phrases in shards."""
    for record in read_shards(list(files), features=FEATURES).as_numpy_iterator():
        for name in FEATURES:
            yield from (text.decode() for text in record[name])


def _stored(path: Path) -> Tokenizer:
    """Return the tokenizer of a set's vocabulary file.

    Manifests that do not describe it are from versions in which every vocab.txt was lower-cased.
    """
    described = {}
    if (path.parent / MANIFEST).is_file():
        described = load_manifest(path.parent).packing.get("vocabulary", {})
    if path.name == VOCABULARY and "lowercase" not in described:
        return tokenizer_from_file(path, SHORTEST, lowercase=True)
    return tokenizer_from_file(path, SHORTEST)
