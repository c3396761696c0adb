"""Flickr8k (Hodosh, Young, Hockenmaier 2013): pictures with five sentences each."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tfclip.sources.index import Index
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import Listed, choose_splits, count_lines, draw_splits, stable_hash
from tfclip.sources.untrusted import find_file, is_there, keep_captions, missing, no_pictures

TREE = (
    "DIR/Flicker8k_Dataset/*.jpg (or Images/), DIR/Flickr8k.token.txt (or captions.txt) and "
    "DIR/Flickr_8k.{train,dev,test}Images.txt (optional)"
)
FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images")
SPLITS = ("train", "dev", "test")
HEADER = "image,caption"

_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def open_flickr8k(data: Path, options: SourceOptions) -> Source:
    """Open `data`, with the official token file or the comma-separated captions.txt.

    The splits are the official lists, as far as they are there. Without any list, pictures are
    drawn by seed: an eighth for dev, an eighth for test, the rest for train, about the official
    6,000 / 1,000 / 1,000.

    Raises:
        FileNotFoundError: no captions, or a split without any picture.
        ValueError: captions in another format, or an empty split.
    """
    folders = [data / name for name in FOLDERS]
    captions = _find_captions(data)
    lists = {split: captions.path.parent / f"Flickr_8k.{split}Images.txt" for split in SPLITS}
    lists = {split: path for split, path in lists.items() if path.is_file()}
    if lists:
        names_of = Listed(lists).of
        splits = choose_splits(lists, options.splits)
        counts = {split: count_lines(lists[split]) for split in splits}
    else:
        drawn = _draw(captions.index, options.seed)
        names_of = partial(_drawn_names, captions, drawn)
        splits = choose_splits(drawn, options.splits)
        counts = {split: len(drawn[split]) for split in splits}
    for split in splits:
        if not any(is_there(data, folders, name) for name, _ in names_of(split)):
            raise no_pictures(lists.get(split, captions.path), folders, TREE)
    return Source("flickr8k", counts, partial(_read, data, folders, captions, names_of))


def _find_captions(data: Path) -> "_Captions":
    formats = {
        "Flickr8k.token.txt": _parse_token,
        "Flickr8k_text/Flickr8k.token.txt": _parse_token,
        "captions.txt": _parse_comma,
    }
    for name, parse in formats.items():
        if (data / name).is_file():
            return _Captions(data / name, parse)
    raise missing(data / "Flickr8k.token.txt" if data.is_dir() else data, TREE)


def _parse_token(line: str) -> tuple[str, str]:
    """Split `picture.jpg#0<tab>sentence`."""
    name, tab, caption = line.partition("\t")
    name, _, number = name.rpartition("#")
    if not (tab and number.isdecimal()):
        raise ValueError(f"no picture.jpg#0, tab, caption: {line!a:.100}")
    return name, caption


def _parse_comma(line: str) -> tuple[str, str]:
    """Split `picture.jpg,sentence`, whether or not a sentence with commas is in quotes."""
    name, comma, caption = line.partition(",")
    if not comma:
        raise ValueError(f"no picture.jpg, comma, caption: {line!a:.100}")
    if _QUOTED.fullmatch(caption):
        caption = caption[1:-1].replace('""', '"')
    return name, caption


class _Captions:
    """The file of captions, indexed by the hash of the picture's name."""

    def __init__(self, path: Path, parse: Callable[[str], tuple[str, str]]):
        self.path, self.parse, self.index = path, parse, Index()
        offset = 0
        with path.open("rb") as file:
            if parse is _parse_comma:
                offset = len(header := file.readline())
                if _text(header).lower() != HEADER:
                    raise ValueError(f"{path} does not begin with the line {HEADER}")
            for line in file:
                if line.strip():
                    try:
                        name, _ = parse(_text(line))
                    except ValueError as error:
                        raise ValueError(f"{path}, byte {offset:,}: {error}") from None
                    self.index.add(stable_hash(name), offset, len(line))
                offset += len(line)
        if not len(self.index):
            raise ValueError(f"{path} holds no caption")

    def at(self, file: BinaryIO, position: int) -> tuple[str, str]:
        """Return the name and the caption of one line."""
        _, offset, length = self.index[position]
        file.seek(offset)
        return self.parse(_text(file.read(length)))

    def of(self, file: BinaryIO, name: str) -> list[str]:
        """Return the captions of one picture."""
        lines = (self.at(file, p) for p in self.index.positions(stable_hash(name)))
        return [caption for same, caption in lines if same == name]


def _text(line: bytes) -> str:
    # What is not UTF-8 becomes lone surrogates, which no caption may hold.
    return line.decode("utf-8-sig", errors="surrogateescape").rstrip("\r\n")


def _draw(captions: Index, seed: int) -> dict[str, np.ndarray]:
    """Return for every split the position of the first caption of each of its pictures."""
    firsts = captions.first_positions()
    eighth = len(firsts) // 8
    sizes = {"train": len(firsts) - 2 * eighth, "dev": eighth, "test": eighth}
    drawn = draw_splits((captions[p][0] for p in firsts), sizes, seed)
    return {split: firsts[chosen] for split, chosen in drawn.items()}


def _drawn_names(
    captions: _Captions, drawn: dict[str, np.ndarray], split: str
) -> Iterator[tuple[str, str]]:
    with captions.path.open("rb") as file:
        for position in drawn[split].tolist():
            yield captions.at(file, position)[0], ""


def _read(
    data: Path,
    folders: list[Path],
    captions: _Captions,
    names_of: Callable[[str], Iterator[tuple[str, str]]],
    split: str,
) -> Iterator[Sample | Rejected]:
    with captions.path.open("rb") as file:
        for name, problem in names_of(split):
            key = f"flickr8k/{name.removesuffix('.jpg')}"
            try:
                if problem:
                    raise ValueError(problem)
                image = find_file(data, folders, name)
                kept, dropped = keep_captions(captions.of(file, name))
            except ValueError as reason:
                yield Rejected(key, str(reason), split)
                continue
            yield Sample(key, image, kept, split=split, dropped=dropped)
