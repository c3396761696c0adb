"""Flickr8k and Flickr30k (Hodosh, Young, Hockenmaier): pictures with five sentences each."""

import itertools
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tfclip.console import say
from tfclip.sources.annotations.karpathy import karpathy_file, open_karpathy
from tfclip.sources.index import Index
from tfclip.sources.safe_paths import (
    cache_blobs,
    find_file,
    first_problem,
    keep_captions,
    missing,
    no_pictures,
)
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import (
    SplitLists,
    choose_splits,
    count_lines,
    sample_splits,
    stable_hash,
)

TREE = (
    "DIR/Flicker8k_Dataset/*.jpg (or Images/, flickr30k_images/), DIR/Flickr8k.token.txt (or "
    "captions.txt, results_20130124.token, results.csv, dataset_flickr8k.json) and "
    "DIR/Flickr_8k.{train,dev,test}Images.txt (optional)"
)
FOLDERS = (
    *("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images"),
    *("flickr30k_images", "flickr30k-images"),
)
SPLITS = ("train", "dev", "test")
MOST_LINES = 20
"""The longest quoted sentence."""
MOST_DAMAGED = 10
"""More damaged lines in results.csv than these are an error."""

_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def open_flickr8k(data: Path, options: SourceOptions, name: str = "flickr8k") -> Source:
    """Open `data`: a folder with a file of captions, or the file itself.

    The captions are in the official token file, Kaggle's comma-separated captions.txt, Flickr30k's
    results.csv or Karpathy's JSON. The splits are Karpathy's or those of the official lists.
    Without lists the pictures are split at random by seed: an eighth each for dev and test and the
    rest for train, close to Flickr8k's official 6,000 / 1,000 / 1,000.

    Args:
        data: the folder or file.
        options: `splits`, `seed` and `follow_links` are used.
        name: flickr8k or flickr30k; the prefix of the keys.

    Raises:
        FileNotFoundError: no captions, or a split none of whose pictures exist.
        ValueError: captions in another format, or an empty split.
    """
    karpathy = karpathy_file(data)
    root = data if data.is_dir() else data.parent
    folders = [*(root / folder for folder in FOLDERS), root]
    stores = cache_blobs(root) if options.follow_links else ()
    if karpathy:
        return open_karpathy(karpathy, name, root, folders, stores, options)
    captions = _find_captions(data)
    lists = {split: captions.path.parent / f"Flickr_8k.{split}Images.txt" for split in SPLITS}
    lists = {split: path for split, path in lists.items() if path.is_file()}
    if lists:
        names_of = SplitLists(lists).of
        splits = choose_splits(lists, options.splits)
        counts = {split: count_lines(lists[split]) for split in splits}
    else:
        sampled = _sample(captions.index, options.seed)
        names_of = partial(_sampled_names, captions, sampled)
        splits = choose_splits(sampled, options.splits)
        counts = {split: len(sampled[split]) for split in splits}
        say(f"{captions.path}: no split lists found; splitting at random by --seed {options.seed}")
    for split in splits:
        files = (file for file, _ in names_of(split))
        if problem := first_problem(root, folders, files, stores):
            raise no_pictures(lists.get(split, captions.path), folders[:-1], TREE, problem)
    return Source(name, counts, partial(_read, name, root, folders, stores, captions, names_of))


def _find_captions(data: Path) -> "_Captions":
    formats = {
        "Flickr8k.token.txt": _parse_token,
        "Flickr8k_text/Flickr8k.token.txt": _parse_token,
        "results_20130124.token": _parse_token,
        "captions.txt": _parse_comma,
        "results.csv": _parse_bars,
    }
    if data.is_file():
        parse = formats.get(data.name, _parse_token)
        return _Captions(data, parse)
    for name, parse in formats.items():
        if (data / name).is_file():
            return _Captions(data / name, parse)
    raise missing(data / "Flickr8k.token.txt" if data.is_dir() else data, TREE)


def _parse_token(line: str) -> tuple[str, str]:
    """Split `picture.jpg#0<tab>sentence`."""
    name, tab, caption = line.partition("\t")
    name, _, number = name.rpartition("#")
    if not (tab and number.isdecimal()):
        raise ValueError(f"not picture.jpg#0<tab>caption: {line!a:.100}")
    return name, caption


def _parse_comma(line: str) -> tuple[str, str]:
    """Split `picture.jpg,sentence`. A sentence with commas may be in quotes or not."""
    name, comma, caption = line.partition(",")
    if not comma:
        raise ValueError(f"not picture.jpg,caption: {line!a:.100}")
    if _QUOTED.fullmatch(caption):
        caption = caption[1:-1].replace('""', '"')
    return name, caption


def _parse_bars(line: str) -> tuple[str, str]:
    """Split `picture.jpg| 0| sentence`."""
    name, *between, caption = line.split("|", 2)
    if not (between and between[0].strip().isdecimal()):
        raise ValueError(f"not picture.jpg|number|caption: {line!a:.100}")
    return name.strip(), caption.strip()


def _opens_quote(line: bytes) -> bool:
    """Return whether a line of captions.txt ends within quotes, so that the next line belongs to
    it."""
    caption = line.partition(b",")[2]
    return caption.startswith(b'"') and caption.count(b'"') % 2 == 1


class _Captions:
    """A file of captions, indexed by the hash of the name of the picture."""

    def __init__(self, path: Path, parse: Callable[[str], tuple[str, str]]):
        self.path, self.parse, self.index = path, parse, Index()
        offset, damaged = 0, 0
        with path.open("rb") as file:
            if parse in HEADERS:
                offset = len(header := file.readline())
                if _text(header).lower().replace(" ", "") != HEADERS[parse]:
                    raise ValueError(f"{path} does not begin with the line {HEADERS[parse]}")
            for line in iter(file.readline, b""):
                if parse is _parse_comma and _opens_quote(line):
                    line += _rest_of_quote(file)
                if line.strip():
                    try:
                        name, _ = parse(_text(line))
                    except ValueError as error:
                        # The official file of Flickr30k has one line without its second bar.
                        damaged += 1
                        if parse is not _parse_bars or damaged > MOST_DAMAGED:
                            raise ValueError(f"{path}, byte {offset:,}: {error}") from None
                        say(f"{path}, byte {offset:,}: line ignored: {error}")
                        offset += len(line)
                        continue
                    self.index.add(stable_hash(name), offset, len(line))
                offset += len(line)
        if not len(self.index):
            raise ValueError(f"{path} holds no caption")

    def at(self, file: BinaryIO, position: int) -> tuple[str, str]:
        """Return the picture name and the caption of one line."""
        _, offset, length = self.index[position]
        file.seek(offset)
        return self.parse(_text(file.read(length)))

    def of(self, file: BinaryIO, name: str) -> list[str]:
        """Return the captions of one picture."""
        lines = (self.at(file, p) for p in self.index.positions(stable_hash(name)))
        return [caption for line_name, caption in lines if line_name == name]


HEADERS = {_parse_comma: "image,caption", _parse_bars: "image_name|comment_number|comment"}


def _rest_of_quote(file: BinaryIO) -> bytes:
    """Return the lines up to the end of a quoted sentence; b"" when it does not end within
    `MOST_LINES`, where the quote is taken for a character of the sentence."""
    start, rest = file.tell(), b""
    for line in itertools.islice(iter(file.readline, b""), MOST_LINES):
        rest += line
        if line.count(b'"') % 2:
            return rest
    file.seek(start)
    return b""


def _text(line: bytes) -> str:
    # Invalid UTF-8 becomes lone surrogates, which `check_text` refuses.
    return line.decode("utf-8-sig", errors="surrogateescape").rstrip("\r\n")


def _sample(captions: Index, seed: int) -> dict[str, np.ndarray]:
    """Return for every split the position of the first caption of each of its pictures, int32."""
    firsts = captions.first_positions()
    eighth = len(firsts) // 8
    sizes = {"train": len(firsts) - 2 * eighth, "dev": eighth, "test": eighth}
    sampled = sample_splits((captions[p][0] for p in firsts), sizes, seed)
    return {split: firsts[chosen] for split, chosen in sampled.items()}


def _sampled_names(
    captions: _Captions, sampled: dict[str, np.ndarray], split: str
) -> Iterator[tuple[str, str]]:
    with captions.path.open("rb") as file:
        for position in sampled[split].tolist():
            yield captions.at(file, position)[0], ""


def _read(
    source: str,
    data: Path,
    folders: list[Path],
    stores: tuple[Path, ...],
    captions: _Captions,
    names_of: Callable[[str], Iterator[tuple[str, str]]],
    split: str,
) -> Iterator[Sample | Rejected]:
    with captions.path.open("rb") as file:
        for name, problem in names_of(split):
            key = f"{source}/{name.removesuffix('.jpg')}"
            try:
                if problem:
                    raise ValueError(problem)
                image = find_file(data, folders, name, stores)
                kept, dropped = keep_captions(captions.of(file, name))
            except ValueError as reason:
                yield Rejected(key, str(reason), split)
                continue
            yield Sample(key, image, kept, split=split, dropped=dropped)
