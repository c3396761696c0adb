"""What the pictures of an index come from: a folder, packed records, or single files."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tfclip.records.manifest import MANIFEST, Manifest, load_manifest, records_reference
from tfclip.sources.image_folder import ENDINGS
from tfclip.sources.safe_paths import is_name

FOLDER, RECORDS, FILE = "folder", "records", "file"


@dataclass(frozen=True)
class IndexSource:
    """A source of an index.

    Attributes:
        kind: "folder", "records" or "file".
        path: a folder of pictures, a directory of packed records, or a picture file.
        split: of records; None for all their splits.
        fingerprint: of the records' manifest when they were indexed; "" for other kinds.
        shards: file names of the records by shard number; () for other kinds.
        stored: where it was when it was indexed; another path means that it was moved.
    """

    kind: str
    path: Path
    split: str | None = None
    fingerprint: str = ""
    shards: tuple[str, ...] = ()
    stored: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.split}" if self.split else str(self.path)

    def described(self, folder: Path) -> dict[str, Any]:
        """Return what index.json holds; the path also relative to the index in `folder`."""
        described: dict[str, Any] = {
            "kind": self.kind,
            "path": str(self.path.resolve()),
            "relative": os.path.relpath(self.path.resolve(), folder.resolve()),
        }
        if self.kind == RECORDS:
            described |= {"fingerprint": self.fingerprint, "shards": list(self.shards)}
            described |= {"split": self.split} if self.split else {}
        return described

    def default_name(self) -> str:
        """Return the name of an index of this source, when none is given."""
        name = self.path.resolve().name or "root"
        return f"{name}-{self.split}" if self.split else name

    def exists(self) -> bool:
        """Return whether it is where it should be."""
        return self.path.is_file() if self.kind == FILE else self.path.is_dir()

    def is_same(self, other: IndexSource) -> bool:
        """Return whether both are the same collection."""
        same = self.path.resolve() == other.path.resolve()
        return self.kind == other.kind and self.split == other.split and same

    def manifest(self) -> Manifest:
        """Return the manifest of records."""
        return load_manifest(self.path)

    def splits(self) -> list[str]:
        """Return the splits of records that are indexed."""
        return [self.split] if self.split else list(self.manifest().splits)


def open_source(reference: str, *, single_files: bool = False) -> IndexSource:
    """Return the source that a word on the command line names.

    Args:
        reference: packed records DIR or DIR:SPLIT, a folder of pictures, or a picture file.
        single_files: whether a file is allowed.

    Raises:
        FileNotFoundError: it names nothing.
        ValueError: a file where none is allowed, an unknown split, or damaged records.
    """
    path = Path(reference)
    if path.is_file():
        if not single_files:
            raise ValueError(
                f"{path} is a file; an index is made of a folder of pictures or of packed records, "
                "and files are added with: python -m tfclip.search add INDEX FILE"
            )
        return IndexSource(FILE, path)
    if path.is_dir() and not (path / MANIFEST).is_file():
        return IndexSource(FOLDER, path)
    directory, split = records_reference(reference)
    if not directory.is_dir():
        raise FileNotFoundError(
            f"nothing at {reference}; allowed: a folder of pictures, or packed records DIR or "
            "DIR:SPLIT"
        )
    manifest = load_manifest(directory)
    if split is not None:
        manifest.shards_of(split)
    return IndexSource(RECORDS, directory, split)


def stored_source(described: Mapping[str, Any], folder: Path) -> IndexSource:
    """Return a source of index.json, where it is now.

    A collection that was moved or copied together with the index is found by its relative path,
    another one by its absolute path.
    """
    stored = Path(described["path"])
    relative = Path(os.path.normpath(folder.resolve() / described["relative"]))
    source = IndexSource(
        described["kind"],
        stored,
        described.get("split"),
        described.get("fingerprint", ""),
        tuple(described.get("shards", ())),
        str(stored),
    )
    beside = replace(source, path=relative)
    return beside if beside.exists() else source


@dataclass(frozen=True)
class Listing:
    """The picture files of a folder.

    Attributes:
        names: paths relative to the folder, in order.
        sizes: in bytes.
        modified: times of the last change, in nanoseconds.
        problems: what cannot be indexed, with the reason.
        unreadable: folders whose content is unknown, as a name that ends in "/".
        other_files: the endings of files that are not pictures by it.
    """

    names: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    modified: list[int] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    other_files: list[str] = field(default_factory=list)


def list_folder(root: Path) -> Listing:
    """List the pictures below a folder, by the ending of their names.

    Hidden files and folders are left out, and folders that are links are not entered, because they
    may lead into a circle. A file that is a link is a picture of the folder, wherever it points.
    """
    listing = Listing()
    _list_into(listing, root, "")
    return listing


def _list_into(listing: Listing, root: Path, below: str) -> None:
    try:
        with os.scandir(root / below) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if not below:
            raise
        listing.problems.append((_shown(below), f"cannot be read: {error.strerror}"))
        listing.unreadable.append(below)
        return
    for entry in found:
        if entry.name.startswith("."):
            continue
        name = below + entry.name
        is_picture = os.path.splitext(entry.name)[1].lower() in ENDINGS
        if entry.is_dir(follow_symlinks=False):
            _list_into(listing, root, f"{name}/")
        elif entry.is_symlink() and os.path.isdir(entry.path):
            listing.problems.append((_shown(name), "is a link to a folder, which is not followed"))
        elif not is_picture:
            listing.other_files.append(os.path.splitext(entry.name)[1].lower())
        elif not is_name(name):
            reason = "has a name with a control character or invalid UTF-8"
            listing.problems.append((_shown(name), reason))
        else:
            _add_file(listing, entry, name)


def _add_file(listing: Listing, entry: os.DirEntry, name: str) -> None:
    try:
        status = entry.stat()
    except OSError as error:
        listing.problems.append((name, f"cannot be read: {error.strerror}"))
        return
    if not stat.S_ISREG(status.st_mode):
        listing.problems.append((name, "is not a file"))
        return
    listing.names.append(name)
    listing.sizes.append(status.st_size)
    listing.modified.append(status.st_mtime_ns)


def _shown(name: str) -> str:
    """Return a name that can be printed."""
    return name if is_name(name) else ascii(name)
