"""Annotations come from anywhere: what may be taken from them, and what is refused."""

import os
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

MAX_CHARACTERS = 10_000
"""Of one caption or phrase; what is longer is no sentence."""
MAX_XML_BYTES = 1_000_000
MAX_PICTURE_BYTES = 100_000_000
"""Of a picture inside a larger file; a file of its own is measured when it is checked."""

_REFUSED = ("Cc", "Cs")
"""Unicode's categories that no name may hold: control characters, and bytes that are no UTF-8."""


def missing(path: Path, tree: str) -> FileNotFoundError:
    """Return (not raise) the error for a missing `path`, with the `tree` that was expected."""
    return FileNotFoundError(f"missing: {path}; expected: {tree}")


def no_pictures(
    annotations: Path, folders: Sequence[Path], tree: str, reason: object = None
) -> FileNotFoundError:
    """Return (not raise) the error for annotations none of whose pictures exists.

    Args:
        annotations: the file that names the pictures.
        folders: where they were looked for.
        tree: what was expected.
        reason: why the first of them could not be used.
    """
    places = " or ".join(map(str, folders))
    why = "none that it names" if reason is None else f"the first that it names: {reason}; none"
    return FileNotFoundError(
        f"{annotations} comes without pictures: {why} is in {places}; expected: {tree}"
    )


def own_store(data: Path) -> tuple[Path, ...]:
    """Return the folder that a Hugging Face cache keeps its files in, for `data` within a snapshot
    of it: the links of `snapshots/` lead to `blobs/` beside it. Nothing for any other folder."""
    data = Path(os.path.abspath(data))
    for folder in (data, *data.parents):
        if folder.name == "snapshots" and (folder.parent / "blobs").is_dir():
            return (folder.parent / "blobs",)
    return ()


def is_name(name: object) -> bool:
    """Return whether a file may have this name or path: text without control characters. Unicode's
    invisible signs belong to names: joiners in Persian, Hindi and emoji, narrow spaces in the
    names of screenshots."""
    return (
        isinstance(name, str)
        and name != ""
        and (name.isprintable() or not any(unicodedata.category(c) in _REFUSED for c in name))
    )


def plain_name(name: object) -> str:
    """Return the name of a file or folder.

    Raises ValueError when it could lead elsewhere (../x, /etc/passwd) or is no readable text.
    """
    if not is_name(name) or "/" in name or name in (".", ".."):
        raise ValueError(f"not a plain file name: {name!a:.100}")
    return name


def find_file(
    data: Path, folders: Sequence[Path], name: object, stores: Sequence[Path] = ()
) -> Path:
    """Return the file `name` in the first of the `folders` that has it.

    A link inside these folders may lead anywhere in them, in `data` or in one of the `stores` (see
    `own_store`), and nowhere else. The folders themselves are the user's own and may be links.

    Raises ValueError with the reason: not a plain file name, a link out, no such file.
    """
    name = plain_name(name)
    for folder in folders:
        for spelled in _spellings(name):
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
    """Return the file that the relative path `name`, with "/" between folders, has in `root`.

    A link may lead anywhere in `root` or in one of the `stores` (see `own_store`), and nowhere
    else; `root` itself may be one.

    Raises ValueError with the reason: not a plain relative path, a link out, no such file.
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
    """Return where the path leads; ValueError when that is outside, OSError when nothing is."""
    real = os.path.realpath(path, strict=True)
    allowed = (os.path.realpath(folder) for folder in (*roots, *stores))
    if not any(Path(real).is_relative_to(folder) for folder in allowed):
        cache = any(parent.name == "blobs" for parent in Path(real).parents)
        hint = "; --follow-links follows those of a Hugging Face cache" if cache else ""
        raise ValueError(f"a link out of the data folder: {name!a:.100}{hint}")
    return real


def _spellings(name: str) -> Iterable[str]:
    """The name as it is, then composed and decomposed: macOS writes an accent as a second sign."""
    yield name
    if not name.isascii():
        yield from {unicodedata.normalize(form, name) for form in ("NFC", "NFD")} - {name}


def first_problem(
    data: Path, folders: Sequence[Path], names: Iterable[object], stores: Sequence[Path] = ()
) -> ValueError | None:
    """Return why the first of the names is no file, or None when `find_file` finds one of them."""
    problem = None
    for name in names:
        try:
            find_file(data, folders, name, stores)
            return None
        except ValueError as reason:
            problem = problem or reason
    return problem or ValueError("it names none")


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
