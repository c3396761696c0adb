"""A list of ids of pictures to leave out, in all the forms in which an id is written."""

import re
from collections.abc import Iterator
from pathlib import Path

from tfclip.console import say
from tfclip.sources.image_folder import ENDINGS
from tfclip.sources.registry import SOURCES
from tfclip.sources.sample import Rejected, Sample
from tfclip.sources.splits import list_lines

Name = tuple[str, str]
"""How a picture is called (see `_names`), and the name."""

SHOWN = 5
_COCO_FILE = re.compile(r"COCO_[a-z]+\d{4}_(\d{1,18})(?:\.\w+)?")


class ListedIds:
    """A file of ids, one per line: keys of any source, what follows the source's name in them, or
    names of files.

    `391895`, `000000391895` and `000000391895.jpg` are the id 391895 of the source that is packed;
    `coco/391895` and `COCO_val2014_000000391895.jpg` are COCO's, also in a source that says which
    of COCO's pictures its own are. A bare number is never another data set's id.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no id in it.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise FileNotFoundError(f"no list of ids at {path}; --exclude-ids takes a text file")
        self.path = path
        self._lines = list(dict.fromkeys(line for _, line in list_lines(path)))
        if not self._lines:
            raise ValueError(f"{path} lists no id; it takes one on each line")
        self._of: dict[Name, list[int]] = {}
        for at, line in enumerate(self._lines):
            for name in _listed_names(line):
                self._of.setdefault(name, []).append(at)
        self._hit = bytearray(len(self._lines))
        self._example = ""

    def have(self, item: Sample | Rejected) -> bool:
        """Return whether a picture is listed, and note which ids were."""
        self._example = self._example or item.key
        hits = [at for name in _item_names(item) for at in self._of.get(name, ())]
        for at in hits:
            self._hit[at] = 1
        return bool(hits)

    def check(self, source: str) -> None:
        """Say how many ids were of no picture, when all pictures were asked for.

        Raises:
            ValueError: none of them was.
        """
        lost = [line for line, hit in zip(self._lines, self._hit, strict=True) if not hit]
        examples = f"{', '.join(lost[:SHOWN])}{', ...' if len(lost) > SHOWN else ''}"
        if len(lost) == len(self._lines):
            raise ValueError(
                f"none of the {len(self._lines):,} ids in {self.path} is one of {source}, whose "
                f"pictures are called {self._example}; other sets' ids need image_data.json"
            )
        if lost:
            say(
                f"{self.path}: {len(lost):,} of {len(self._lines):,} ids are of no picture of "
                f"these splits: {examples}"
            )


def _item_names(item: Sample | Rejected) -> Iterator[Name]:
    source, _, number = item.key.partition("/")
    yield from _names(source, number)
    for other in getattr(item, "other_keys", ()):
        source, _, number = other.partition("/")
        yield from (name for name in _names(source, number) if name[0].startswith("key "))


def _names(source: str, number: str) -> Iterator[Name]:
    """Yield the names of one id. A name with a picture's ending is called by it or by what stands
    before; an id without one is called by itself, with any ending, and with zeros in front."""
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
        yield from _asked("key " + source, rest)
        if source in SOURCES or source.startswith("tfds:"):
            return
    if found := _COCO_FILE.fullmatch(line.rpartition("/")[2]):
        yield from _asked("key coco", found[1])
    yield from _asked("", line)
    if not slash:
        yield from _asked("last", line)
    elif _stem(line.rpartition("/")[2]).isdecimal():  # val2017/000000391895.jpg
        yield ":plain", _number(_stem(line.rpartition("/")[2]))


def _asked(prefix: str, text: str) -> Iterator[Name]:
    yield prefix + ":exact", text
    if _stem(text) == text:
        yield prefix + ":stem", text
    yield prefix + ":plain", _number(_stem(text))


def _stem(text: str) -> str:
    stem, dot, ending = text.rpartition(".")
    return stem if dot and f".{ending.lower()}" in ENDINGS else text


def _number(text: str) -> str:
    return str(int(text)) if text.isdecimal() and text.isascii() and len(text) < 40 else text
