"""An opened search index: where it is, what is in it, and the nearest of its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfclip.evaluation.search import single_file, store
from tfclip.evaluation.search.nearest import CHUNK, nearest_pictures
from tfclip.evaluation.search.sources import FOLDER, RECORDS, IndexSource, stored_source
from tfclip.inputs.tiles import tile_boxes
from tfclip.models.compute import FLOAT32
from tfclip.models.model_directory import holds_model, model_fingerprint
from tfclip.naming import nearest

INDEXES = "search"
"""The folder of a run that holds its indexes, each in a folder by its name."""
# While another process replaces an index, files may vanish between two looks.
_TRIES = 20


@dataclass(frozen=True)
class SearchIndex:
    """An opened index; it stays as it is while another process changes the index on disk.

    Attributes:
        place: the folder, or NAME.npy of earlier versions.
        embeddings: (N x T, D) float32, memory-mapped: the views of each picture.
        pictures: (N,) structured: `shard` and `offset`, and what else `store.PICTURE` has.
        names: the bytes of the names; empty in indexes of earlier versions.
        tiles: the layout of the views.
        run: the run directory of the model.
        model: the model's fingerprint.
        sources: what the pictures come from.
        description: the whole of index.json.
    """

    place: Path
    embeddings: np.ndarray
    pictures: np.ndarray
    names: np.ndarray
    tiles: str
    run: Path
    model: str
    sources: tuple[IndexSource, ...]
    description: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def views(self) -> int:
        """The number of views of each picture."""
        return len(tile_boxes(self.tiles))

    @property
    def compute(self) -> str:
        """The format in which the image tower computed, see `models.compute`."""
        return str(self.description.get("compute", FLOAT32))

    @property
    def collection(self) -> str:
        """The sources in words."""
        return " and ".join(map(str, self.sources))

    def nearest(
        self, query: np.ndarray, top: int, chunk: int = CHUNK
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the pictures nearest to a query (D,): rows, cosines and views.

        See `nearest.nearest_pictures`.
        """
        return nearest_pictures(self.embeddings, self.views, query, top, chunk)

    def name(self, row: int) -> str | None:
        """Return the path of a picture relative to its folder, its key, or None if not stored."""
        if "name_at" not in (self.pictures.dtype.names or ()):
            return None
        return self.names_of(np.array([row]))[0].decode()

    def shown_name(self, row: int) -> str:
        """Return the file of a picture, or the key of a record."""
        path = self.path(row)
        return str(path) if path else self.name(row) or f"picture {row}"

    def names_of(self, rows: np.ndarray) -> list[bytes]:
        """Return the names of pictures in UTF-8; not of an index of earlier versions."""
        if not len(rows):
            return []
        starts = self.pictures["name_at"][rows].astype(np.int64)
        stops = starts + self.pictures["name_bytes"][rows]
        first = int(starts.min())
        text = self.names[first : int(stops.max())].tobytes()
        places = zip((starts - first).tolist(), (stops - first).tolist(), strict=True)
        return [text[start:stop] for start, stop in places]

    def view_embeddings(self, rows: np.ndarray) -> np.ndarray:
        """Return the embeddings of pictures, view by view: (B,T,D)."""
        return self.embeddings.reshape(len(self), self.views, -1)[rows]

    def source(self, row: int) -> IndexSource:
        """Return what a picture comes from."""
        if "source" not in (self.pictures.dtype.names or ()):
            return self.sources[0]
        return self.sources[int(self.pictures[row]["source"])]

    def path(self, row: int) -> Path | None:
        """Return the file of a picture, or None for a record."""
        source = self.source(row)
        if source.kind == RECORDS:
            return None
        return source.path / str(self.name(row)) if source.kind == FOLDER else source.path

    def check_model(self) -> None:
        """Raise ValueError if the index was made with another model than its run holds now."""
        if model_fingerprint(self.run) != self.model:
            raise ValueError(
                f"{self.place} was made with another model than {self.run} holds now; make it "
                f"again with: {self.command('index')}"
            )

    def check_sources(self) -> None:
        """Raise when a collection is no longer where it was, or when records were packed again.

        Raises:
            FileNotFoundError: a folder or records are not there.
            ValueError: records were packed again, so that places in them are wrong.
        """
        for source in self.sources:
            if source.kind != RECORDS:
                if source.kind == FOLDER and not source.exists():
                    raise FileNotFoundError(f"no folder at {source}; {self.moved()}")
                continue
            if not source.exists():
                raise FileNotFoundError(f"no records at {source}; {self.moved()}")
            if source.manifest().fingerprint() != source.fingerprint:
                command = "sync" if self.place.is_dir() else "index"
                raise ValueError(
                    f"the records at {source.path} were packed again; bring the index up to date "
                    f"with: {self.command(command)}"
                )

    def moved(self) -> str:
        """Say what to run when the collection was moved."""
        return (
            "if it was moved, say where it is now: "
            f"python -m tfclip.search sync {self.place} --moved-to DIR"
        )

    def command(self, action: str) -> str:
        """Return the command that makes this index again, or brings it up to date."""
        if action == "index":
            return f"python -m tfclip.search index {self.run} {self.sources[0]}"
        return f"python -m tfclip.search {action} {self.place}"


def open_index(where: Path | str) -> SearchIndex:
    """Open an index by its folder, by its file of earlier versions, or by its name.

    Args:
        where: RUN/search/NAME; or NAME.npy, as earlier versions wrote it; or NAME of an index of
            one run in runs/.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or several runs have an index of this name.
    """
    place = find_index(where)
    if not place.is_dir():
        rows, content = single_file.read(place)
        return SearchIndex(
            place,
            rows["embedding"],
            rows,
            np.zeros(0, np.uint8),
            "1",
            Path(content["run"]),
            content["model"],
            (
                IndexSource(
                    RECORDS,
                    Path(content["records"]),
                    fingerprint=content["fingerprint"],
                    shards=tuple(content["shards"]),
                ),
            ),
            content,
        )
    for left in reversed(range(_TRIES)):
        description = store.read_description(place)
        try:
            embeddings, pictures, names = store.map_data(place, description)
            break
        except FileNotFoundError as error:
            if not left:
                raise ValueError(
                    f"{place} is no search index: {Path(error.filename or '').name} is missing"
                ) from None
        except (ValueError, KeyError, TypeError, EOFError) as error:
            raise ValueError(
                f"{place} is no search index: {' '.join(str(error).split())}"
            ) from None
    return SearchIndex(
        place,
        embeddings,
        pictures,
        names,
        description["tiles"],
        _run(description, place),
        description["model"],
        tuple(stored_source(each, place) for each in description["sources"]),
        description,
    )


def find_index(where: Path | str) -> Path:
    """Return the place of an index, see `open_index`."""
    path = Path(where)
    if path.is_dir() and (path / store.DESCRIPTION).is_file():
        return path
    if path.suffix == ".npy" and path.is_file():
        return path
    name = str(where)
    if "/" not in name and path.suffix != ".npy":
        named = sorted(Path("runs").glob(f"*/{INDEXES}/*/{store.DESCRIPTION}"))
        found = [index.parent for index in named if index.parent.name == name]
        if len(found) > 1:
            raise ValueError(
                f"{len(found)} indexes are named {name}; give one of: {', '.join(map(str, found))}"
            )
        if found:
            return found[0]
        known = nearest(name, {index.parent.name for index in named})
        listed = f"; indexes of runs/, nearest first: {', '.join(known)}" if known else ""
    else:
        listed = ""
    raise FileNotFoundError(
        f"no index at {where}; make one with: python -m tfclip.search index RUN DIR{listed}"
    )


def newest_index() -> Path:
    """Return the index of runs/ that was written last.

    Raises:
        FileNotFoundError: there is none.
    """
    runs = Path("runs")
    found = [*runs.glob(f"*/{INDEXES}/*/{store.DESCRIPTION}"), *runs.glob("*/search.npy")]
    if not found:
        raise FileNotFoundError(
            "no index in runs/; make one with: python -m tfclip.search index RUN DIR, or name one "
            "with --index"
        )
    newest = max(found, key=lambda path: path.stat().st_mtime)
    return newest.parent if newest.name == store.DESCRIPTION else newest


def index_folder(run: Path, name: str) -> Path:
    """Return the folder of an index of a run.

    Raises:
        ValueError: the name is not that of a folder.
    """
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise ValueError(f"received --name {name!r}; allowed: the name of a folder")
    return run / INDEXES / name


def _run(description: Mapping[str, Any], place: Path) -> Path:
    """Return the run of an index: the one that it is in, or the one that is stored."""
    run = place.resolve().parent.parent
    if place.resolve().parent.name == INDEXES and holds_model(run):
        return place.parent.parent if place.parent.name == INDEXES else run
    return Path(description["run"])
