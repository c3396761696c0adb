"""Finds the picture files that are meant, files, folders, globs and lists, and reads them."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfclip.records.check import MAX_BYTES
from tfclip.sources.image_folder import ENDINGS
from tfclip.text_lists import read_lines

_GLOB_SIGNS = "*?["
_URL_SCHEMES = ("http", "https", "ftp", "s3", "gs", "data")
DECODED = "JPEG, PNG, GIF, BMP, WebP"


@dataclass(frozen=True)
class PictureFiles:
    """The files that were meant.

    Attributes:
        paths: each once, in the order given; those of a folder or glob by name.
        passed_over: files of folders that are no pictures by their ending, counted by it.
        duplicates: how many were named more than once.
    """

    paths: tuple[str, ...]
    passed_over: Counter = field(default_factory=Counter)
    duplicates: int = 0


def find_pictures(words: Sequence[str], listed: Path | None = None) -> PictureFiles:
    """Resolve the words of a command line, and the lines of a list, to files.

    A folder stands for every picture below it, by the ending of its name; a word with * ? or [ that
    is no file for what it matches (** for folders within folders). What a list names is checked
    when it is read: one line that is wrong is one reject.

    Raises:
        FileNotFoundError: a word names nothing, or the list is not there.
        ValueError: a URL, a folder without pictures, no picture at all, or a list that is no text.
    """
    passed_over: Counter = Counter()
    found: list[str] = []
    for word in words:
        found += _meant(word, passed_over)
    if listed is not None:
        found += listed_pictures(listed)
    paths = tuple(dict.fromkeys(found))
    if not paths:
        raise ValueError(
            "no picture was given; run: python -m tfclip.predict RUN picture.jpg --labels "
            '"a dog" "a cat" (or a folder, a glob, or --list FILE)'
        )
    return PictureFiles(paths, passed_over, len(found) - len(paths))


def _meant(word: str, passed_over: Counter) -> list[str]:
    if is_url(word):
        raise ValueError(f"{word} is a URL; predict reads files: download it and give the file")
    path = Path(word)
    if path.is_file():
        return [word]
    if path.is_dir():
        pictures = _pictures_below([path], passed_over)
        if not pictures:
            raise ValueError(f"{word} is a folder without pictures; allowed: {DECODED} files")
        return pictures
    if any(sign in word for sign in _GLOB_SIGNS):
        matched = sorted(glob.glob(word, recursive=True))
        if not matched:
            raise FileNotFoundError(f"no file matches {word}")
        files = [name for name in matched if Path(name).is_file()]
        # With ** the folders of the files match as well.
        if not files:
            files = _pictures_below([Path(name) for name in matched], passed_over)
        if not files:
            raise ValueError(f"{word} matches folders without pictures")
        return files
    raise FileNotFoundError(f"no picture at {word}")


def _pictures_below(folders: Iterable[Path], passed_over: Counter) -> list[str]:
    pictures = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.name.startswith("."):
                continue
            if path.suffix.lower() in ENDINGS:
                pictures.append(str(path))
            else:
                passed_over[path.suffix.lower() or "no ending"] += 1
    return pictures


def listed_pictures(path: Path) -> list[str]:
    """Return the lines of a list of pictures that are not blank."""
    if not path.is_file():
        raise FileNotFoundError(f"no list at {path}; --list takes a text file, one picture a line")
    return [line for line in read_lines(path) if line]


def is_url(word: str) -> bool:
    """Return whether a word is a URL and not a file."""
    scheme, colon, _ = word.partition(":")
    return bool(colon) and scheme.lower() in _URL_SCHEMES and not Path(word).exists()


def read_picture(path: str) -> tuple[bytes, str | None]:
    """Read one file: its bytes and None, or nothing and why it is rejected."""
    if is_url(path):
        return b"", "is a URL; predict reads files: download it"
    try:
        file = Path(path)
        if file.is_dir():
            return b"", "is a folder; in a list each line is one file"
        size = file.stat().st_size
        if size > MAX_BYTES:
            return b"", f"has {size:,} bytes, more than {MAX_BYTES:,}"
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        return b"", f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return content, None if content else "is empty"
