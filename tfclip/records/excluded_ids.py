"""The list of picture ids to exclude, in all common spellings of an id."""

import re
from collections.abc import Iterator
from pathlib import Path

from tfclip.console import say
from tfclip.sources.image_folder import ENDINGS
from tfclip.sources.registry import SOURCES
from tfclip.sources.sample import Rejected, Sample
from tfclip.sources.splits import list_lines

Name = tuple[str, str]
"""A kind of name (see `_names`) and the name."""

SHOWN = 5
"""The number of ids shown as examples in a message."""
_COCO_FILE = re.compile(r"COCO_[a-z]+\d{4}_(\d{1,18})(?:\.\w+)?")


class ExcludedIds:
    """A text file of ids, one per line: keys, keys without the name of the source, or file names.

    `391895`, `000000391895` and `000000391895.jpg` are the id 391895 of the source that is packed.
    `coco/391895` and `COCO_val2014_000000391895.jpg` are ids of COCO, which also match pictures of
    a source that records their COCO ids (visual_genome). A bare number never matches the id of
    another data set.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is empty.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise FileNotFoundError(f"no list of ids at {path}; --exclude-ids takes a text file")
        self.path = path
        self._lines = list(dict.fromkeys(line for _, line in list_lines(path)))
        if not self._lines:
            raise ValueError(f"{path} lists no id; expected: one id on each line")
        self._of: dict[Name, list[int]] = {}
        for at, line in enumerate(self._lines):
            for name in _listed_names(line):
                self._of.setdefault(name, []).append(at)
        self._hit = bytearray(len(self._lines))
        self._example = ""

    def matches(self, item: Sample | Rejected) -> bool:
        """Return whether a picture is listed, and record the ids that matched."""
        self._example = self._example or item.key
        hits = [at for name in _item_names(item) for at in self._of.get(name, ())]
        for at in hits:
            self._hit[at] = 1
        return bool(hits)

    def check(self, source: str) -> None:
        """Report the ids that matched no picture; call it after `matches` for all pictures.

        Raises:
            ValueError: no id matched.
        """
        unmatched = [line for line, hit in zip(self._lines, self._hit, strict=True) if not hit]
        examples = f"{', '.join(unmatched[:SHOWN])}{', ...' if len(unmatched) > SHOWN else ''}"
        if len(unmatched) == len(self._lines):
            raise ValueError(
                f"none of the {len(self._lines):,} ids in {self.path} matches a picture of "
                f"{source}, whose keys are like {self._example}; ids of COCO need image_data.json"
            )
        if unmatched:
            say(
                f"{self.path}: {len(unmatched):,} of {len(self._lines):,} ids match no picture of "
                f"these splits: {examples}"
            )


def _item_names(item: Sample | Rejected) -> Iterator[Name]:
    source, _, number = item.key.partition("/")
    yield from _names(source, number)
    for other in getattr(item, "other_keys", ()):
        source, _, number = other.partition("/")
        yield from (name for name in _names(source, number) if name[0].startswith("key "))


def _names(source: str, number: str) -> Iterator[Name]:
    """Yield the names that match one id. A file name matches with or without its extension; an id
    without extension matches with any extension and with leading zeros."""
    last = number.rpartition("/")[2]
    for prefix, text in (("key " + source, number), ("", number), ("last", last)):
        stem = _stem(text)
        if stem != text:
            yield prefix + ":exact", text
            yield prefix + ":stem", stem
        else:
            yield prefix + ":plain", _number(text)


def _listed_names(line: str) -> Iterator[Name]:
    source, slash, rest = line.partition("/")
    if slash:
        yield from _spellings("key " + source, rest)
        if source in SOURCES or source.startswith("tfds:"):
            return
    if match := _COCO_FILE.fullmatch(line.rpartition("/")[2]):
        yield from _spellings("key coco", match[1])
    yield from _spellings("", line)
    if not slash:
        yield from _spellings("last", line)
    elif _stem(line.rpartition("/")[2]).isdecimal():  # val2017/000000391895.jpg
        yield ":plain", _number(_stem(line.rpartition("/")[2]))


def _spellings(prefix: str, text: str) -> Iterator[Name]:
    yield prefix + ":exact", text
    if _stem(text) == text:
        yield prefix + ":stem", text
    yield prefix + ":plain", _number(_stem(text))


def _stem(text: str) -> str:
    stem, dot, ending = text.rpartition(".")
    return stem if dot and f".{ending.lower()}" in ENDINGS else text


def _number(text: str) -> str:
    return str(int(text)) if text.isdecimal() and text.isascii() and len(text) < 40 else text
