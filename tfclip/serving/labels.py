"""What --labels takes, in predict and export alike: texts, a file, or a set by name."""

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
    """Labels and the prompts they are put into.

    Attributes:
        names: the labels.
        templates: of the prompts, by name; None: the labels are the prompts.
    """

    names: tuple[str, ...]
    templates: str | None

    def described(self) -> str:
        """Return what the labels are put into, for people."""
        if self.templates is None:
            return "labels are scored as typed"
        first = templates_by_name(self.templates)[0]
        return f'labels are put into the prompts "{self.templates}" ({first})'


def read_label_words(words: Sequence[str], templates: str | None = None) -> Labels:
    """Read the words after --labels, which are not `FITTED` or `NONE`.

    Args:
        words: texts, used as they are typed; or one word, the name of a file with a label a line
            or `VOC`: these are names of classes, and become "a photo of a {}.".
        templates: other prompts, by name, for whichever it is.

    Raises:
        FileNotFoundError: one word that reads as the name of a file that is not there.
        ValueError: no labels, an empty one or one twice, several in one word, or a file among them.
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
                f"received one label with commas, {word!r}; give several as separate words, "
                f"--labels {parts}, or, if it is one text, put it in a file and give --labels FILE"
            )
    for word in words:
        if is_file(word):
            raise ValueError(
                f"received the file {word} among the labels; give --labels {word} alone to read "
                "its labels, one a line, or texts alone"
            )
        if word in (FITTED, NONE, VOC):
            raise ValueError(
                f"received {word} among the labels; it names a set, and stands alone where it is "
                "allowed"
            )
    return Labels(check_labels(words, "--labels"), templates)


def is_file(word: str) -> bool:
    """Return whether a word is the name of a file; a text may be longer than any name."""
    try:
        return Path(word).is_file()
    except (OSError, ValueError):
        return False
