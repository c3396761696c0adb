"""Annotations come from anywhere: what may be taken from them, and what is refused."""

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

MAX_CHARACTERS = 10_000
"""Of one caption or phrase; what is longer is no sentence."""
MAX_XML_BYTES = 1_000_000
MAX_PICTURE_BYTES = 100_000_000
"""Of a picture inside a larger file; a file of its own is measured when it is checked."""


def missing(path: Path, tree: str) -> FileNotFoundError:
    """Return (not raise) the error for a missing `path`, with the `tree` that was expected."""
    return FileNotFoundError(f"missing: {path}; expected: {tree}")


def no_pictures(annotations: Path, folders: Sequence[Path], tree: str) -> FileNotFoundError:
    """Return (not raise) the error for annotations none of whose pictures exists."""
    places = " or ".join(map(str, folders))
    return FileNotFoundError(
        f"{annotations} comes without pictures: none that it names is in {places}; expected: {tree}"
    )


def plain_name(name: object) -> str:
    """Return the name of a file or folder.

    Raises ValueError when it could lead elsewhere (../x, /etc/passwd) or is no readable text.
    """
    plain = isinstance(name, str) and name.isprintable() and not set(name) & set("/\\")
    if not plain or name in ("", ".", ".."):
        raise ValueError(f"not a plain file name: {name!a:.100}")
    return name


def find_file(data: Path, folders: Sequence[Path], name: object) -> Path:
    """Return the file `name` in the first of the `folders` that has it.

    A link inside these folders may lead anywhere in them or in `data`, and nowhere else. The
    folders themselves are the user's own and may be links.

    Raises ValueError with the reason: not a plain file name, a link out, no such file.
    """
    name = plain_name(name)
    for folder in folders:
        path = folder / name
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                target = Path(os.path.realpath(path))
                if not any(target.is_relative_to(p.resolve()) for p in (data, *folders)):
                    raise ValueError(f"a link out of the data folder: {name!a:.100}")
                status = os.stat(target)
        except OSError:
            continue
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"not a file: {name!a:.100}")
        return path
    raise ValueError(f"no such file: {name!a:.100}")


def find_below(root: Path, name: object) -> Path:
    """Return the file that the relative path `name`, with "/" between folders, has in `root`.

    A link may lead anywhere in `root`, and nowhere else; `root` itself may be one.

    Raises ValueError with the reason: not a plain relative path, a link out, no such file.
    """
    plain = isinstance(name, str) and name.isprintable() and not set(name) & {"\\"}
    if not plain or not name or name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"not a relative path within the data folder: {name!a:.100}")
    path = root / name
    try:
        real = os.path.realpath(path, strict=True)
        status = os.stat(real)
    except OSError:
        raise ValueError(f"no such file: {name!a:.100}") from None
    if not Path(real).is_relative_to(os.path.realpath(root)):
        raise ValueError(f"a link out of the data folder: {name!a:.100}")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"not a file: {name!a:.100}")
    return path


def is_there(data: Path, folders: Sequence[Path], name: object) -> bool:
    """Return whether `find_file` finds it."""
    try:
        find_file(data, folders, name)
    except ValueError:
        return False
    return True


def check_text(text: object) -> str:
    """Return a caption or phrase exactly as it is.

    Raises ValueError with the reason: not text, empty, too long, not Unicode.
    """
    if not isinstance(text, str):
        raise ValueError(f"no text but {text!a:.100}")
    if not text.strip():
        raise ValueError("empty")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"{len(text):,} characters, more than {MAX_CHARACTERS:,}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not Unicode: invalid UTF-8, or half of a surrogate pair") from None
    return text


def keep_captions(captions: Iterable[object]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the usable captions, and for each of the others why it is dropped.

    Raises ValueError with the reasons when none is left.
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
    """A document type can define entities that expand without end, or name other files."""

    def doctype(self, name, public, system):
        raise ValueError("XML with a document type (entities) is refused")


def parse_xml(path: Path) -> ElementTree.Element:
    """Return the root element.

    Raises ValueError with the reason: damaged, too large, or with a document type.
    """
    with path.open("rb") as file:
        text = file.read(MAX_XML_BYTES + 1)
    if len(text) > MAX_XML_BYTES:
        raise ValueError(f"XML of more than {MAX_XML_BYTES:,} bytes")
    try:
        return ElementTree.fromstring(text, ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, LookupError) as error:
        raise ValueError(f"damaged XML: {error}") from None
