"""Checks and reads --class-words of predict and export: words of labels that are class names."""

from __future__ import annotations

from pathlib import Path

from tfclip.console import say
from tfclip.evaluation.embedding.class_words import OTHERS, OWN, ClassWords, read_class_words
from tfclip.models.model_directory import holds_model
from tfclip.serving.labels import Labels


def check_class_words(word: str | None, labels: Labels | None, model: Path) -> None:
    """Check the value of --class-words.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the labels are fitted classes or typed texts, the file is invalid or names
            another class, or words are to be found without a run.
    """
    if word is None:
        return
    if labels is None:
        raise ValueError(
            f"received --class-words {word}, which needs --labels: fitted classes have the words "
            f"that they were fitted with, by: python -m tfclip.evaluate RUN multilabel "
            f"--class-words {word}"
        )
    if labels.templates is None:
        raise ValueError(
            f"received --class-words {word} and texts; allowed: class names, as --labels FILE or "
            "--labels voc, or --templates with them"
        )
    if word == OTHERS:
        return
    if word != OWN:
        read_class_words(Path(word)).check(labels.names)
    elif not holds_model(model):
        raise ValueError(
            f"received --class-words {OWN}, which needs a run with its training captions; give a "
            "file with lines CLASS: word, word"
        )


def label_class_words(word: str | None, labels: Labels | None, run: Path) -> ClassWords:
    """Return the words of labels, and print them; no words without --class-words."""
    if word is None or labels is None:
        return ClassWords()
    from tfclip.evaluation.embedding.own_words import class_words

    words = class_words(run, word, labels.names)
    say(words.described())
    return words
