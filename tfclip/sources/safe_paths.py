"""Checks on untrusted annotations: file names, links, texts and XML."""

import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeGuard
from xml.etree import ElementTree

MAX_CHARACTERS = 10_000
"""The longest caption or phrase; longer text is not a sentence."""
NO_TEXT = ("nan", "NaN", "<NA>", "None", "null", "NULL")
"""What pandas and databases write in the place of a missing text."""
MAX_CLASS_NAME = 200
MAX_XML_BYTES = 1_000_000
MAX_PICTURE_BYTES = 100_000_000
"""The largest picture within an archive or table. A picture file is limited in `records.check`."""

_LONGEST_LINK = 1000
_LINK_TEXT = re.compile(rb"\.{0,2}/[^\0-\x1f,;|{}\[\]\"]+")
_REFUSED = ("Cc", "Cs")
"""Unicode categories not allowed in a name: control characters, and surrogates (invalid UTF-8)."""


def missing(path: Path, tree: str) -> FileNotFoundError:
    """Return (not raise) the error for a missing `path`; `tree` describes the expected layout."""
    return FileNotFoundError(f"missing: {path}; expected: {tree}")


def no_pictures(
    annotations: Path, folders: Sequence[Path], tree: str, reason: object = None
) -> FileNotFoundError:
    """Return (not raise) the error for annotations none of whose pictures exist.

    Args:
        annotations: the file that names the pictures.
        folders: the folders that were searched.
        tree: the expected layout.
        reason: why the first picture could not be used.
    """
    places = " or ".join(map(str, folders))
    first = "" if reason is None else f" (the first: {reason})"
    return FileNotFoundError(
        f"none of the pictures that {annotations} lists is in {places}{first}; expected: {tree}"
    )


def stand_in(content: bytes) -> str:
    """Return what a file is that stands in the place of the real one, or "".

    >>> stand_in(b"../../blobs/3faf"), stand_in(b"path,caption")
    ('the text of a link; copy the data so that links are kept or followed', '')
    """
    if content.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer; fetch the file itself with: git lfs pull"
    if content[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page; the download failed"
    if len(content) < _LONGEST_LINK and _LINK_TEXT.fullmatch(content):
        return "the text of a link; copy the data so that links are kept or followed"
    return ""


def cache_blobs(data: Path) -> tuple[Path, ...]:
    """Return the `blobs/` folder of the Hugging Face cache that `data` is a snapshot in.

    The files in `snapshots/` of such a cache are links to `blobs/` beside it. Returns () when
    `data` is not part of a cache.
    """
    data = Path(os.path.abspath(data))
    for folder in (data, *data.parents):
        if folder.name == "snapshots" and (folder.parent / "blobs").is_dir():
            return (folder.parent / "blobs",)
    return ()


def is_name(name: object) -> TypeGuard[str]:
    """Return whether `name` is allowed as a file name or path: text without control characters.

    Invisible Unicode characters are allowed, because real names contain them: joiners in Persian,
    Hindi and emoji, narrow spaces in the names of screenshots.

    >>> is_name("Bildschirmfoto 12.30\\u202fUhr.png"), is_name("a\\nb.jpg"), is_name(7)
    (True, False, False)
    """
    return (
        isinstance(name, str)
        and name != ""
        and (name.isprintable() or not any(unicodedata.category(c) in _REFUSED for c in name))
    )


def is_class_name(name: str) -> bool:
    """Return whether a text is allowed as the name of a class: one printable line, not too long."""
    return name.isprintable() and name.strip() != "" and len(name) <= MAX_CLASS_NAME


def plain_name(name: object) -> str:
    """Return `name` when it is the name of a file or folder without any path.

    Raises ValueError for a path (../x, /etc/passwd) or anything that `is_name` refuses.
    """
    if not is_name(name) or "/" in name or name in (".", ".."):
        raise ValueError(f"not a plain file name: {name!a:.100}")
    return name


def find_file(
    data: Path, folders: Sequence[Path], name: object, stores: Sequence[Path] = ()
) -> Path:
    """Return the file `name` in the first of the `folders` that has it.

    A link inside these folders may point into them, into `data` or into one of the `stores` (see
    `cache_blobs`), and nowhere else. The folders themselves may be links: the user named them.

    Raises ValueError with the reason: not a plain file name, a link out of these folders, no such
    file.
    """
    name = plain_name(name)
    for folder in folders:
        for spelled in _spellings(name):
            if "/" in spelled:  # a folder below could be a link
                continue
            path = folder / spelled
            try:
                status = os.lstat(path)
                if stat.S_ISLNK(status.st_mode):
                    status = os.stat(_linked(path, (data, *folders), stores, name))
            except OSError:
                continue
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"not a file: {name!a:.100}")
            return path
    raise ValueError(f"no such file: {name!a:.100}")


def find_below(root: Path, name: object, stores: Sequence[Path] = ()) -> Path:
    """Return the file at the relative path `name` ("/" between folders) below `root`.

    A link may point into `root` or into one of the `stores` (see `cache_blobs`), and nowhere else;
    `root` itself may be a link.

    Raises ValueError with the reason: not a plain relative path, a link out of these folders,
    no such file.
    """
    if isinstance(name, str) and name and not is_name(name):
        raise ValueError(f"a name with a control character or invalid UTF-8: {name!a:.100}")
    if not is_name(name) or name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"not a relative path within the data folder: {name!a:.100}")
    for spelled in _spellings(name):
        path = root / spelled
        try:
            status = os.stat(_linked(path, (root,), stores, name))
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"not a file: {name!a:.100}")
        return path
    raise ValueError(f"no such file: {name!a:.100}")


def _linked(path: Path, roots: Sequence[Path], stores: Sequence[Path], name: str) -> str:
    """Resolve the links in `path`; ValueError for a target outside, OSError when there is none."""
    real = os.path.realpath(path, strict=True)
    allowed = (os.path.realpath(folder) for folder in (*roots, *stores))
    if not any(Path(real).is_relative_to(folder) for folder in allowed):
        cache = any(parent.name == "blobs" for parent in Path(real).parents)
        hint = "; add --follow-links for a Hugging Face cache" if cache else ""
        raise ValueError(f"a link out of the data folder: {name!a:.100}{hint}")
    return real


def _spellings(name: str) -> Iterable[str]:
    """Yield the name as given, then what other systems and programs make of it: accented letters
    decomposed (macOS) or composed, backslashes between folders (Windows), blanks around a cell."""
    yield name
    if not name.isascii():
        yield from {unicodedata.normalize(form, name) for form in ("NFC", "NFD")} - {name}
    other = name.replace("\\", "/").strip()
    if other != name and other and not other.startswith("/") and ".." not in other.split("/"):
        yield other


def first_problem(
    data: Path, folders: Sequence[Path], names: Iterable[object], stores: Sequence[Path] = ()
) -> ValueError | None:
    """Return why the first of the names cannot be read, or None when `find_file` finds any."""
    problem = None
    for name in names:
        try:
            find_file(data, folders, name, stores)
            return None
        except ValueError as reason:
            problem = problem or reason
    return problem or ValueError("it lists no file")


def check_text(text: object) -> str:
    """Return a caption or phrase unchanged.

    Raises ValueError with the reason: not a string, empty, too long, invalid Unicode.
    """
    if not isinstance(text, str):
        raise ValueError(f"not a string: {text!a:.100}")
    if not text.strip():
        raise ValueError("empty")
    if text.strip() in NO_TEXT:
        raise ValueError(f"{text.strip()}, which stands for a missing text")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text):,} characters, more than {MAX_CHARACTERS:,}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(
            "invalid Unicode: bytes that are not UTF-8, or half of a surrogate pair"
        ) from None
    return text


def keep_captions(captions: Iterable[object]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the valid captions, and the reason for each caption that is dropped.

    Raises ValueError with the reasons when no caption is valid.

    >>> keep_captions(["a dog", "", 7])
    (('a dog',), ('caption 2: empty', 'caption 3: not a string: 7'))
    """
    kept, dropped = [], []
    for number, caption in enumerate(captions, 1):
        try:
            kept.append(check_text(caption))
        except ValueError as reason:
            dropped.append(f"caption {number}: {reason}")
    if not kept:
        raise ValueError("; ".join(["no caption", *dropped]))
    return tuple(kept), tuple(dropped)


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a document type: it can define entities that expand exponentially or read files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("XML with a document type (entities) is refused")


def parse_xml(path: Path) -> ElementTree.Element:
    """Return the root element of an XML file.

    Raises ValueError with the reason: malformed, too large, or with a document type.
    """
    with path.open("rb") as file:
        text = file.read(MAX_XML_BYTES + 1)
    if len(text) > MAX_XML_BYTES:
        raise ValueError(f"XML of more than {MAX_XML_BYTES:,} bytes")
    try:
        return ElementTree.fromstring(text, ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(f"malformed XML: {error}") from None
