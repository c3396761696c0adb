"""Finds picture files by names, folders, globs and lists, and reads them."""

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
    """The picture files of a command line.

    Attributes:
        paths: the distinct files in the given order; those of a folder or glob by name.
        skipped: the numbers of skipped files in folders, by their extension.
        duplicates: the number of repeated files.
    """

    paths: tuple[str, ...]
    skipped: Counter = field(default_factory=Counter)
    duplicates: int = 0


def find_pictures(words: Sequence[str], listed: Path | None = None) -> PictureFiles:
    """Resolve arguments of a command line, and the lines of a list, to files.

    A folder means all pictures below it, by extension. An argument with * ? or [ that is not a file
    is a glob (** for nested folders). The files in a list are checked when they are read, so that
    an invalid line is a reject.

    Raises:
        FileNotFoundError: an argument matches nothing, or the list is missing.
        ValueError: a URL, a folder without pictures, no picture at all, or a list that is not text.
    """
    skipped: Counter = Counter()
    names: list[str] = []
    for word in words:
        names += _resolved(word, skipped)
    if listed is not None:
        names += listed_pictures(listed)
    paths = tuple(dict.fromkeys(names))
    if not paths:
        raise ValueError(
            "received no picture; run: python -m tfclip.predict RUN picture.jpg --labels "
            '"a dog" "a cat" (or a folder, a glob, or --list FILE)'
        )
    return PictureFiles(paths, skipped, len(names) - len(paths))


def _resolved(word: str, skipped: Counter) -> list[str]:
    if is_url(word):
        raise ValueError(f"{word} is a URL; download it and give the file")
    path = Path(word)
    if path.is_file():
        return [word]
    if path.is_dir():
        pictures = _pictures_below([path], skipped)
        if not pictures:
            raise ValueError(f"{word} is a folder without pictures; allowed: {DECODED} files")
        return pictures
    if any(sign in word for sign in _GLOB_SIGNS):
        matched = sorted(glob.glob(word, recursive=True))
        if not matched:
            raise FileNotFoundError(f"no file matches {word}")
        files = [name for name in matched if Path(name).is_file()]
        # With ** folders match as well as the files in them.
        if not files:
            files = _pictures_below([Path(name) for name in matched], skipped)
        if not files:
            raise ValueError(f"{word} matches folders without pictures")
        return files
    raise FileNotFoundError(f"no picture at {word}")


def _pictures_below(folders: Iterable[Path], skipped: Counter) -> list[str]:
    pictures = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.name.startswith("."):
                continue
            if path.suffix.lower() in ENDINGS:
                pictures.append(str(path))
            else:
                skipped[path.suffix.lower() or "no extension"] += 1
    return pictures


def listed_pictures(path: Path) -> list[str]:
    """Return the non-blank lines of a list of pictures."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no list at {path}; --list takes a text file, one picture per line"
        )
    return [line for line in read_lines(path) if line]


def is_url(word: str) -> bool:
    """Return whether an argument is a URL and not an existing file."""
    scheme, colon, _ = word.partition(":")
    return bool(colon) and scheme.lower() in _URL_SCHEMES and not Path(word).exists()


def read_picture(path: str) -> tuple[bytes, str | None]:
    """Return the bytes of a file and None, or b"" and the reason why it is rejected."""
    if is_url(path):
        return b"", "is a URL; download it and give the file"
    try:
        file = Path(path)
        if file.is_dir():
            return b"", "is a folder; each line of a list must be a file"
        size = file.stat().st_size
        if size > MAX_BYTES:
            return b"", f"has {size:,} bytes, more than {MAX_BYTES:,}"
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        return b"", f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return content, None if content else "is empty"
