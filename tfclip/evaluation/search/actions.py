"""What the commands of search do to an index: make it, bring it up to date, add and remove."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tfclip.evaluation.search import store
from tfclip.evaluation.search.index import SearchIndex, open_index
from tfclip.evaluation.search.plan import Part, matcher
from tfclip.evaluation.search.sources import FILE, FOLDER, IndexSource, list_folder, open_source
from tfclip.evaluation.search.update import Change, write_index
from tfclip.inputs.tiles import DENSE
from tfclip.models.compute import AUTO, FLOAT32, run_compute
from tfclip.models.model_directory import model_fingerprint


def make_index(
    folder: Path, run: Path, source: IndexSource, tiles: str, compute: str = FLOAT32
) -> Change:
    """Index a collection; an index of the same collection is brought up to date.

    Everything is embedded anew if the model, the tiles or the format in which the image tower
    computes are others than before.

    Raises:
        ValueError: the folder holds the index of another collection, or other files; or the
            collection has no picture.
        OSError: something cannot be read or written.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; an index is a folder")
    if tiles == DENSE and compute == AUTO:  # The engine does not compute windows.
        compute = FLOAT32
    compute = run_compute(run, compute)
    made = not folder.exists()
    try:
        with store.writing(folder):
            existing = _existing(folder)
            if existing is None:
                return write_index(folder, run, [Part(source)], tiles, compute=compute)
            parts = _parts_with(existing, source)
            excluded = tuple(existing.description["excluded"])
            former: SearchIndex | None = existing
            before = existing.model, existing.tiles, existing.compute
            if before != (model_fingerprint(run), tiles, compute):
                former, parts = None, [Part(part.source) for part in parts]
            return write_index(
                folder, run, parts, tiles, compute=compute, former=former, excluded=excluded
            )
    except BaseException:
        if made:
            _remove_empty(folder)
        raise


def sync_index(index: SearchIndex, moved_to: str | None = None) -> Change:
    """Embed what is new or changed in the sources of an index, and drop what is gone.

    Args:
        index: an opened index.
        moved_to: where a collection is now that is no longer where it was.

    Raises:
        ValueError: the model is another one, or nothing of the index is at `moved_to`.
        OSError: a collection is not there, or something cannot be read or written.
    """
    check_writable(index)
    sources = list(index.sources)
    if moved_to is not None:
        number = _moved(index)
        sources[number] = _moved_source(index, number, moved_to)
    for source in sources:
        if source.kind != FILE and not source.exists():
            raise FileNotFoundError(f"nothing at {source}; {index.moved()}")
    return _rewrite(index, [Part(source, number) for number, source in enumerate(sources)])


def add_pictures(index: SearchIndex, references: Sequence[str]) -> Change:
    """Add folders, records or files to an index; what was removed before is taken again.

    Raises:
        ValueError: the model is another one, or a folder overlaps with one of the index.
        OSError: something is not there, or cannot be read or written.
    """
    check_writable(index)
    parts = [Part(source, number, look=False) for number, source in enumerate(index.sources)]
    excluded = list(index.description["excluded"])
    for reference in references:
        source = open_source(reference, single_files=True)
        number, name = _within(parts, source)
        if number is None:
            parts.append(Part(source))
        else:
            parts[number] = replace(parts[number], look=True)
            excluded = [one for one in excluded if name and not matcher([one])(name)]
    return _rewrite(index, parts, excluded)


def remove_pictures(index: SearchIndex, words: Sequence[str]) -> Change:
    """Remove pictures from an index; `sync_index` does not bring them back.

    Args:
        index: an opened index.
        words: names of pictures in the index, patterns of names, folders, or paths of files.

    Raises:
        ValueError: the model is another one, a word is no picture of the index, or all would go.
        OSError: something cannot be read or written.
    """
    check_writable(index)
    parts = [Part(source, number, look=False) for number, source in enumerate(index.sources)]
    names = [name.decode() for name in index.names_of(np.arange(len(index)))]
    sources = index.pictures["source"].tolist()
    patterns, gone = [], set()
    for word in words:
        number, name = _within(parts, IndexSource("", Path(word)))
        if number is not None and not name:
            gone.add(number)
            continue
        pattern = name or word.rstrip("/")
        is_meant = matcher([pattern])
        found = [row for row, one in enumerate(names) if is_meant(one)]
        if not found:
            raise ValueError(f"no picture of {index.place} is, is in or matches {word!r}")
        single = {sources[row] for row in found if index.sources[sources[row]].kind == FILE}
        gone |= single
        if any(sources[row] not in single for row in found):
            patterns.append(pattern)
    kept = [part for number, part in enumerate(parts) if number not in gone]
    excluded = list(dict.fromkeys([*index.description["excluded"], *patterns]))
    stays = matcher(excluded)
    if all(source in gone or stays(name) for source, name in zip(sources, names, strict=True)):
        raise ValueError(
            f"that would remove all {len(index):,} pictures; to remove the index, remove the "
            f"folder {index.place}"
        )
    return _rewrite(index, kept, excluded)


def check_writable(index: SearchIndex) -> None:
    """Raise ValueError for an index of earlier versions, and for another model than the run's."""
    if not index.place.is_dir():
        raise ValueError(
            f"{index.place} was made by an earlier version and can only be searched; make an index "
            f"that can be changed with: {index.command('index')}"
        )
    index.check_model()


def _rewrite(
    index: SearchIndex, parts: Sequence[Part], excluded: Sequence[str] | None = None
) -> Change:
    if excluded is None:
        excluded = index.description["excluded"]
    with store.writing(index.place):
        # Another process may have changed it since it was opened.
        if store.read_description(index.place)["token"] != index.description["token"]:
            raise ValueError(f"another process has just changed {index.place}; run this again")
        return write_index(
            index.place,
            index.run,
            parts,
            index.tiles,
            compute=index.compute,
            former=index,
            excluded=excluded,
        )


def _existing(folder: Path) -> SearchIndex | None:
    """Return the index in a folder; None if the folder has none.

    Raises:
        ValueError: it holds other files, or a damaged index.
    """
    if (folder / store.DESCRIPTION).is_file():
        try:
            return open_index(folder)
        except ValueError as error:
            raise ValueError(f"{error}; remove the folder to make it anew") from None
    if any(not store.is_own(path.name) for path in folder.iterdir()):
        raise ValueError(f"{folder} holds other files; choose another place for the index")
    return None


def _parts_with(existing: SearchIndex, source: IndexSource) -> list[Part]:
    """Return the sources of an index of the same collection.

    Raises:
        ValueError: it is the index of another collection.
    """
    parts = [Part(one, number) for number, one in enumerate(existing.sources)]
    first = existing.sources[0]
    if first.is_same(source):
        return parts
    moved = not first.exists() and first.path.name == source.path.resolve().name
    if moved and (first.kind, first.split) == (source.kind, source.split):
        number = 0
        parts[0] = Part(_moved_source(existing, number, str(source)), number)
        return parts
    raise ValueError(
        f"{existing.place} is the index of {existing.collection}; name this one with --name, or "
        f"add it to that one with: python -m tfclip.search add {existing.place} {source}"
    )


def _moved(index: SearchIndex) -> int:
    """Return the number of the source that was moved."""
    missing = [number for number, one in enumerate(index.sources) if not one.exists()]
    if len(missing) == 1 or len(index.sources) == 1:
        return (missing or [0])[0]
    raise ValueError(
        f"received --moved-to, but {len(missing)} of the {len(index.sources)} collections of "
        f"{index.place} are missing; allowed: 1. Index the moved ones again with --name"
    )


def _moved_source(index: SearchIndex, number: int, reference: str) -> IndexSource:
    """Return a source at its new place; its fingerprint stays that of the index."""
    former = index.sources[number]
    if former.split and ":" not in reference:
        reference = f"{reference}:{former.split}"
    source = open_source(reference, single_files=True)
    if (source.kind, source.split) != (former.kind, former.split):
        raise ValueError(f"{reference} is not {former.kind} as {former} was")
    if source.kind == FOLDER:
        rows = (index.pictures["source"] == number).nonzero()[0]
        known = {name.decode() for name in index.names_of(rows)}
        if not known & set(list_folder(source.path).names):
            raise ValueError(
                f"{source.path} has none of the pictures that were at {former.path}; make an index "
                f"of it with: python -m tfclip.search index {index.run} {source.path}"
            )
    return replace(former, path=source.path)


def _within(parts: Sequence[Part], source: IndexSource) -> tuple[int | None, str]:
    """Return the number of the folder that a file or folder is in, and its name there.

    Raises:
        ValueError: a folder of the index is within it.
    """
    path = os.path.realpath(source.path)
    for number, part in enumerate(parts):
        known = os.path.realpath(part.source.path)
        if part.source.kind not in (FOLDER, FILE):
            if source.kind and part.source.is_same(source):
                return number, ""
            continue
        if path == known:
            return number, ""
        if part.source.kind == FOLDER and path.startswith(known.rstrip("/") + "/"):
            return number, os.path.relpath(path, known)
        if source.kind == FOLDER and known.startswith(path.rstrip("/") + "/"):
            raise ValueError(f"{source.path} contains {part.source.path}, which is in the index")
    return None, ""


def _remove_empty(folder: Path) -> None:
    """Remove the folder of an index that was not made."""
    for name in glob.glob(str(folder / ".*")):
        Path(name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
