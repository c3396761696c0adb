"""Flickr8k (Hodosh, Young, Hockenmaier 2013): pictures with five sentences each."""

import codecs
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from tfclip.sources.index import Index
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, count_lines, draw_splits, list_lines, stable_hash
from tfclip.sources.untrusted import find_file, is_there, keep_captions, missing, no_pictures

TREE = (
    "DIR/Flicker8k_Dataset/*.jpg (or Images/), DIR/Flickr8k.token.txt (or captions.txt) and "
    "DIR/Flickr_8k.{train,dev,test}Images.txt (optional)"
)
FOLDERS = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images")
SPLITS = ("train", "dev", "test")

_QUOTED = re.compile(rb'"(?:[^"]|"")*"')


def open_flickr8k(data: Path, options: SourceOptions) -> Source:
    """Open `data`, with the official token file or the comma-separated captions.txt.

    The splits are the official lists, as far as they are there. Without any list, pictures are
    drawn by seed: an eighth for dev, an eighth for test, the rest for train, about the official
    6,000 / 1,000 / 1,000.

    Raises:
        FileNotFoundError: no captions, or a split without any picture.
        ValueError: captions in another format, or an empty split.
    """
    folders = [data / name for name in FOLDERS if (data / name).is_dir()]
    captions = _find_captions(data)
    if not folders:
        raise missing(data / FOLDERS[0], TREE)
    lists = {split: captions.path.parent / f"Flickr_8k.{split}Images.txt" for split in SPLITS}
    lists = {split: path for split, path in lists.items() if path.is_file()}
    if lists:
        names = _Listed(lists)
        splits = choose_splits(lists, options.splits)
        counts = {split: count_lines(lists[split]) for split in splits}
    else:
        names = _Drawn(captions, options.seed)
        splits = choose_splits(names.positions, options.splits)
        counts = {split: len(names.positions[split]) for split in splits}
    for split in splits:
        if not any(is_there(data, folders, name) for name, _ in names.of(split)):
            raise no_pictures(lists.get(split, captions.path), folders, TREE)
    return Source("flickr8k", counts, partial(_read, data, folders, captions, names))


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


def _parse_token(line: bytes) -> tuple[bytes, bytes] | None:
    """Split `picture.jpg#0<tab>sentence`."""
    name, tab, caption = line.partition(b"\t")
    name, hash_sign, number = name.rpartition(b"#")
    return (name, caption) if tab and hash_sign and number.isdigit() else None


def _parse_comma(line: bytes) -> tuple[bytes, bytes] | None:
    """Split `picture.jpg,sentence`, whether or not a sentence with commas is in quotes."""
    name, comma, caption = line.partition(b",")
    if _QUOTED.fullmatch(caption):
        caption = caption[1:-1].replace(b'""', b'"')
    return (name, caption) if comma else None


class _Captions:
    """The file of captions, indexed by the hash of the picture's name."""

    def __init__(self, path: Path, parse: Callable[[bytes], tuple[bytes, bytes] | None]):
        self.path, self.parse, self.index = path, parse, Index()
        offset = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if (number > 1 or parse is _parse_token) and line.strip():
                    parsed = parse(_stripped(line))
                    if parsed is None:
                        raise ValueError(f"{path} line {number}: no picture and caption in it")
                    self.index.add(stable_hash(_text(parsed[0])), offset, len(line))
                elif number == 1 and _stripped(line).lower() != b"image,caption":
                    raise ValueError(f"{path} does not begin with the line image,caption")
                offset += len(line)
        if not len(self.index):
            raise ValueError(f"{path} holds no caption")

    def at(self, file: BinaryIO, position: int) -> tuple[str, bytes]:
        """Return the name and the caption of one line."""
        _, offset, length = self.index[position]
        file.seek(offset)
        name, caption = self.parse(_stripped(file.read(length)))
        return _text(name), caption

    def of(self, file: BinaryIO, name: str) -> list[bytes]:
        """Return the captions of one picture."""
        lines = (self.at(file, p) for p in self.index.positions(stable_hash(name)))
        return [caption for same, caption in lines if same == name]


def _stripped(line: bytes) -> bytes:
    return line.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


class _Listed:
    """The names in the official lists; `of` yields them with what is wrong about them."""

    def __init__(self, lists: dict[str, Path]):
        self.lists, self.paths, self.index = lists, list(lists.values()), Index()
        for which, path in enumerate(self.paths):
            for line, name in list_lines(path):
                self.index.add(stable_hash(name), which, line)

    def of(self, split: str) -> Iterator[tuple[str, str]]:
        path = self.lists[split]
        for line, name in list_lines(path):
            _, which, first = self.index[self.index.positions(stable_hash(name))[0]]
            same = self.paths[which] == path and first == line
            places = f"{self.paths[which].name} line {first} and {path.name} line {line}"
            yield name, "" if same else f"listed twice: {places}"


class _Drawn:
    """Splits by seed over the names in the captions."""

    def __init__(self, captions: _Captions, seed: int):
        self.captions = captions
        firsts = captions.index.first_positions()
        eighth = len(firsts) // 8
        sizes = {"train": len(firsts) - 2 * eighth, "dev": eighth, "test": eighth}
        drawn = draw_splits((captions.index[p][0] for p in firsts), sizes, seed)
        self.positions = {split: firsts[chosen] for split, chosen in drawn.items()}

    def of(self, split: str) -> Iterator[tuple[str, str]]:
        with self.captions.path.open("rb") as file:
            for position in self.positions[split].tolist():
                yield self.captions.at(file, position)[0], ""


def _read(
    data: Path, folders: list[Path], captions: _Captions, names: _Listed | _Drawn, split: str
) -> Iterator[Sample | Rejected]:
    with captions.path.open("rb") as file:
        for name, problem in names.of(split):
            key = f"flickr8k/{name.removesuffix('.jpg')}"
            try:
                if problem:
                    raise ValueError(problem)
                image = find_file(data, folders, name)
                kept, dropped = keep_captions(captions.of(file, name))
                if not kept:
                    raise ValueError(f"no caption{': ' if dropped else ''}{'; '.join(dropped)}")
            except ValueError as reason:
                yield Rejected(key, str(reason), split)
                continue
            yield Sample(key, image, kept, split=split, dropped=dropped)
