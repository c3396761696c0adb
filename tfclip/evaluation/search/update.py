"""Makes an index and brings it up to date: only what is new or changed is embedded.

A picture whose bytes the index knows, under another name or time, is not embedded again. The whole
index is written anew beside the one that stands, which takes seconds for millions of pictures.
"""

from __future__ import annotations

import json
import operator
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np

from tfclip.console import progress
from tfclip.evaluation.search import store
from tfclip.evaluation.search.index import SearchIndex
from tfclip.evaluation.search.picture_bytes import digest_of, read_file, why_not
from tfclip.evaluation.search.plan import Part, Plan, Problem, matcher, plan
from tfclip.evaluation.search.sources import FILE
from tfclip.inputs.tiles import tile_boxes
from tfclip.models.compute import FLOAT32
from tfclip.models.model_directory import CONFIG_FILE, model_directory, model_fingerprint
from tfclip.records.check import BadPicture

_AT_ONCE = 4096


# What a picture and what was read have in common if nothing changed.
_STATE = {"bytes": "size", "modified": "modified", "shard": "shard", "offset": "offset"}


@dataclass
class Change:
    """What a change of an index did, in numbers of pictures.

    Attributes:
        pictures: in the index now.
        embedded: new or changed.
        recognised: under another name or time than before, with the same bytes: not embedded again.
        kept: unchanged.
        removed: no longer in the index under their name.
        problems: names and reasons of files that could not be indexed.
        other_files: files that are no pictures by their ending, counted by it.
        seconds: how long it took.
    """

    pictures: int = 0
    embedded: int = 0
    recognised: int = 0
    kept: int = 0
    removed: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    other_files: Counter = field(default_factory=Counter)
    seconds: float = 0.0


@dataclass(frozen=True)
class _Read:
    """A picture that was read, and its place."""

    source: int
    name: str
    size: int
    modified: int
    data: bytes
    digest: tuple[int, int]
    shard: int = -1
    offset: int = -1


def write_index(
    folder: Path,
    run: Path,
    parts: Sequence[Part],
    tiles: str,
    *,
    compute: str = FLOAT32,
    former: SearchIndex | None = None,
    excluded: Sequence[str] = (),
) -> Change:
    """Write an index, or its next state; until the last moment the former one stands.

    The caller holds `store.writing`. Nothing is written when nothing changed.

    Args:
        folder: of the index.
        run: with the model that embeds.
        parts: its sources.
        tiles: the layout of the views.
        compute: the format of the image tower, see `models.compute`.
        former: the index as it is, made by the same model with the same tiles in the same format;
            None embeds all.
        excluded: names and patterns of pictures that are left out.

    Raises:
        ValueError: no picture could be indexed.
        OSError: something cannot be read or written.
    """
    started = time.monotonic()
    update = _Update(run, tiles, compute, plan(parts, former, excluded), former, excluded)
    update.write(folder, [part.former for part in parts])
    update.change.seconds = time.monotonic() - started
    return update.change


class _Update:
    def __init__(
        self,
        run: Path,
        tiles: str,
        compute: str,
        planned: Plan,
        former: SearchIndex | None,
        excluded: Sequence[str],
    ):
        self._synced = time.time_ns()
        self._run, self._tiles, self._plan, self._former = run, tiles, planned, former
        self._excluded, self._compute = tuple(excluded), compute
        self._problems = list(planned.problems)
        self._recognised: list[tuple[_Read, int]] = []
        self._confirmed: list[list[int]] = [[] for _ in planned.sources]
        self._replaced = 0
        self._digests: tuple[np.ndarray, np.ndarray] | None = None
        self.change = Change(
            kept=planned.kept_count,
            problems=[*planned.unindexable, *((one.name, one.reason) for one in self._problems)],
            other_files=planned.other_files,
        )

    def write(self, folder: Path, numbers: Sequence[int | None]) -> None:
        """Write the next state to the folder; `numbers` are those of the sources as they are."""
        planned, former, change = self._plan, self._former, self.change
        waiting = self._to_embed()
        first = next(waiting, None)
        if former is not None and first is None and self._is_same(numbers):
            change.pictures = len(former)
            if any(self._confirmed):  # The next time they need not be read.
                store.renew(folder, {"synced": self._synced})
            return
        batches: Iterable = ()
        if first is not None:
            from tfclip.evaluation.search.contents import embed_items

            items = chain([first], waiting)
            read_bytes = operator.attrgetter("data")
            batches = embed_items(self._run, items, read_bytes, self._tiles, self._compute)
        width = embed_dim(self._run) if former is None else former.embeddings.shape[1]
        with store.new_data(folder, width, len(tile_boxes(self._tiles))) as writer:
            for number, rows in enumerate(planned.kept):
                self._copy(writer, rows, number)
            for group, embeddings, valid in batches:
                self._add(writer, group, embeddings, valid)
            self._add_recognised(writer)
            for number, confirmed in enumerate(self._confirmed):
                self._copy(writer, np.array(confirmed, np.int64), number)
            change.pictures = writer.count
            before = 0 if former is None else len(former)
            change.removed = before - change.kept - self._replaced
            if not writer.count:
                raise ValueError(self._nothing())
            writer.finish(
                {
                    "run": str(self._run.resolve()),
                    "model": model_fingerprint(self._run),
                    "tiles": self._tiles,
                    **({} if self._compute == FLOAT32 else {"compute": self._compute}),
                    "synced": self._synced,
                    "sources": [each.described(folder) for each in planned.sources],
                    "excluded": list(self._excluded),
                    "problems": [astuple(each) for each in self._problems],
                }
            )

    def _is_same(self, numbers: Sequence[int | None]) -> bool:
        """Return whether the index on disk already is what it shall be."""
        former = self._former
        if former is None or self._recognised or self.change.kept != len(former):
            return False
        same_problems = [list(astuple(one)) for one in self._problems] == list(
            former.description["problems"]
        )
        moved = any(
            one.stored and Path(one.stored) != one.path.resolve() for one in self._plan.sources
        )
        return (
            same_problems
            and not moved
            and list(numbers) == list(range(len(former.sources)))
            and list(self._excluded) == list(former.description["excluded"])
        )

    def _to_embed(self) -> Iterator[_Read]:
        """Read the candidates; yield those whose bytes the index does not know."""
        reads = chain(self._read_files(), self._read_records())
        total = len(self._plan.candidates) if not self._plan.records else None
        for read in progress(reads, total=total, what="indexing pictures"):
            if read is None:
                continue
            row = self._known(read)
            if row is None:
                yield read
            elif self._is_unchanged(read, row):
                self._confirmed[read.source].append(row)
                self.change.kept += 1
            else:
                self._recognised.append((replace(read, data=b""), row))

    def _read_files(self) -> Iterator[_Read | None]:
        for number, name, size, modified in self._plan.candidates:
            source = self._plan.sources[number]
            path = source.path if source.kind == FILE else source.path / name
            try:
                data, digest = read_file(path, size)
            except BadPicture as error:
                self._problem(number, name, size, modified, str(error))
                yield None
                continue
            except OSError as error:  # It may be readable next time, with the same size and time.
                self._problem(number, name, -1, 0, f"cannot be read: {error.strerror}")
                yield None
                continue
            yield _Read(number, name, size, modified, data, digest)

    def _read_records(self) -> Iterator[_Read | None]:
        if not self._plan.records:
            return
        from tfclip.evaluation.search.contents import read_records

        is_excluded = matcher(self._excluded)
        for number in self._plan.records:
            for shard, offset, key, data in read_records(self._plan.sources[number]):
                if is_excluded(key):
                    yield None
                else:
                    yield _Read(number, key, len(data), 0, data, digest_of(data), shard, offset)

    def _known(self, read: _Read) -> int | None:
        """Return a row of the former index with these bytes, that of the same name if it has."""
        if self._former is None:
            return None
        row = self._plan.names[read.source].get(read.name)
        if row is not None and tuple(self._former.pictures[row]["digest"].tolist()) == read.digest:
            return row
        if self._digests is None:
            digests = np.ascontiguousarray(self._former.pictures["digest"])
            order = np.argsort(digests[:, 0], kind="stable")
            self._digests = digests[order], order
        digests, order = self._digests
        at = int(np.searchsorted(digests[:, 0], np.uint64(read.digest[0])))
        while at < len(order) and int(digests[at, 0]) == read.digest[0]:
            if int(digests[at, 1]) == read.digest[1]:
                return int(order[at])
            at += 1
        return None

    def _is_unchanged(self, read: _Read, row: int) -> bool:
        """Return whether a row of the former index is this picture, at the same place."""
        if self._former is None or self._plan.names[read.source].get(read.name) != row:
            return False
        known = self._former.pictures[row]
        return all(known[part] == getattr(read, at) for part, at in _STATE.items())

    def _copy(self, writer: store.IndexWriter, rows: np.ndarray, source: int) -> None:
        """Copy pictures of the former index."""
        former = self._former
        for start in range(0, len(rows), _AT_ONCE):
            chosen = rows[start : start + _AT_ONCE]
            if former is not None:
                pictures = former.pictures[chosen]
                pictures["source"] = source
                writer.add(former.view_embeddings(chosen), pictures, former.names_of(chosen))

    def _add(
        self,
        writer: store.IndexWriter,
        group: Sequence[_Read],
        embeddings: np.ndarray,
        valid: np.ndarray,
    ) -> None:
        """Add pictures that were embedded."""
        for read, is_valid in zip(group, valid, strict=True):
            if not is_valid:
                reason = why_not(read.data)
                self._problem(read.source, read.name, read.size, read.modified, reason)
        good = [read for read, is_valid in zip(group, valid, strict=True) if is_valid]
        self.change.embedded += len(good)
        self._append(writer, good, embeddings[valid])

    def _add_recognised(self, writer: store.IndexWriter) -> None:
        self.change.recognised = len(self._recognised)
        for start in range(0, len(self._recognised), _AT_ONCE):
            part = self._recognised[start : start + _AT_ONCE]
            if self._former is not None:
                embeddings = self._former.view_embeddings(np.array([row for _, row in part]))
                self._append(writer, [read for read, _ in part], embeddings)

    def _append(
        self, writer: store.IndexWriter, reads: Sequence[_Read], embeddings: np.ndarray
    ) -> None:
        rows = np.zeros(len(reads), store.PICTURE)
        for row, read in zip(rows, reads, strict=True):
            row["source"], row["shard"], row["offset"] = read.source, read.shard, read.offset
            row["bytes"], row["modified"], row["digest"] = read.size, read.modified, read.digest
            self._replaced += read.name in self._plan.names[read.source]
        writer.add(embeddings, rows, [read.name.encode() for read in reads])

    def _problem(self, source: int, name: str, size: int, modified: int, reason: str) -> None:
        self._problems.append(Problem(source, name, size, modified, reason))
        self.change.problems.append((name, reason))

    def _nothing(self) -> str:
        places = " and ".join(map(str, self._plan.sources))
        if self.change.problems:
            name, reason = self.change.problems[0]
            count = len(self.change.problems)
            return f"none of the {count:,} pictures of {places} can be indexed: {name}: {reason}"
        if others := self.change.other_files.total():
            return f"no picture in {places}, and {others:,} files that are none by their ending"
        return f"no picture in {places}"


def embed_dim(run: Path) -> int:
    """Return the width of the embeddings of a run's model, without loading it."""
    content = json.loads((model_directory(run) / CONFIG_FILE).read_text(encoding="utf-8"))
    return int(content["config"]["embed_dim"])
