"""Reads --labels of predict and export: texts, a file, or the name of a set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfclip.evaluation.embedding.prompts import templates_by_name
from tfclip.serving.classifier import check_labels, read_labels
from tfclip.sources.voc import CLASS_NAMES

FITTED, VOC, NONE = "fitted", "voc", "none"
CLASS_TEMPLATES = "single"
_FILE_ENDINGS = (".txt", ".csv", ".tsv", ".json", ".labels", ".names")


@dataclass(frozen=True)
class Labels:
    """Labels and their prompts.

    Attributes:
        names: the labels.
        templates: the name of the prompt templates; None if labels are scored as typed.
    """

    names: tuple[str, ...]
    templates: str | None

    def described(self) -> str:
        """Return a sentence about the prompts of the labels."""
        if self.templates is None:
            return "labels are scored as typed"
        first = templates_by_name(self.templates)[0]
        return f'labels are scored in the prompts "{self.templates}" ({first})'


def read_label_words(words: Sequence[str], templates: str | None = None) -> Labels:
    """Read the values of --labels other than `FITTED` or `NONE`.

    Args:
        words: texts, used as typed; or a single value, `VOC` or a file with one label per line, for
            class names with the prompt "a photo of a {}.".
        templates: the name of other prompts, for texts and class names.

    Raises:
        FileNotFoundError: a single value looks like a file name, but the file is missing.
        ValueError: no labels, an empty or repeated label, several labels in one value, or a file
            among several values.
    """
    if len(words) == 1:
        (word,) = words
        if word == VOC:
            return Labels(CLASS_NAMES, templates or CLASS_TEMPLATES)
        if is_file(word) or word.lower().endswith(_FILE_ENDINGS):
            return Labels(read_labels(Path(word)), templates or CLASS_TEMPLATES)
        if "," in word:
            parts = " ".join(f'"{part.strip()}"' for part in word.split(",") if part.strip())
            raise ValueError(
                f"received one label with commas, {word!r}; give several labels as separate "
                f"arguments, --labels {parts}, or a single text in a file, --labels FILE"
            )
    for word in words:
        if is_file(word):
            raise ValueError(
                f"received the file {word} among the labels; give only --labels {word} to read its "
                "labels, one per line, or only texts"
            )
        if word in (FITTED, NONE, VOC):
            raise ValueError(
                f"received {word} among the labels; it names a set of labels and cannot be "
                "combined with others"
            )
    return Labels(check_labels(words, "--labels"), templates)


def is_file(word: str) -> bool:
    """Return whether a value is the name of a file; a text may be longer than file names can be."""
    try:
        return Path(word).is_file()
    except (OSError, ValueError):
        return False
