"""python -m benchmarks.kill_search RUN: a search index survives SIGKILL at random moments.

A collection of photographs changes (pictures are added, removed and overwritten), `search sync` is
started, and killed: every second time at a moment drawn over its whole time, else within a few
milliseconds after the embeddings of the next index are complete. Meanwhile and afterwards the index
is opened and searched: it must be the whole old or the whole new one. In the end one sync is let
through, and every embedding is compared with those of a new index of the same pictures.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from tyro.conf import Positional

from benchmarks.search_sync import Collection, forked, prepare_forks, start_fork
from tfclip.console import Command, CommandFailed, progress, run, say
from tfclip.evaluation.search.index import open_index
from tfclip.evaluation.search.nearest import nearest_pictures

_ADDED, _REMOVED, _OVERWRITTEN = 20, 10, 5
# What remains then: flushing three files, and replacing index.json.
_LAST_SECONDS = 0.02


@dataclass(frozen=True)
class KillFlags:
    """Kill search sync at random moments, and look at what stands."""

    run: Positional[Path]
    """A trained run."""
    pictures: Path = Path(os.environ.get("TFCLIP_DATA", "../shared/data")) / "flickr8k"
    """Photographs that the collection is made from."""
    kills: int = 20
    """How many times."""
    count: int = 500
    """Pictures of the collection at first."""
    seed: int = 0
    """Decides the moments."""

    def __post_init__(self):
        for name in ("kills", "count"):
            if getattr(self, name) < 1:
                raise ValueError(f"received --{name} {getattr(self, name)}; allowed: 1 or more")


class Reader:
    """Opens and searches the index, and sees that it is one of the states that are allowed."""

    def __init__(self, place: Path):
        self._place, self.looks = place, 0
        self.seen: set[str] = set()

    def look(self, allowed: dict[str, dict[str, int]]) -> str:
        """Return the name of the state that the index has: its names and sizes of files."""
        index = open_index(self._place)
        rows = np.arange(len(index))
        names = [name.decode() for name in index.names_of(rows)]
        state = dict(zip(names, index.pictures["bytes"].tolist(), strict=True))
        fitting = [name for name, each in allowed.items() if each == state]
        if not fitting:
            raise CommandFailed(f"the index is neither {' nor '.join(allowed)}: {len(state)} rows")
        query = np.asarray(index.embeddings[-1], np.float64)
        pictures, cosines, _ = nearest_pictures(index.embeddings, index.views, query, 5)
        if abs(cosines[0] - 1) > 1e-5 or len(set(pictures.tolist())) != min(5, len(index)):
            raise CommandFailed(f"a query found {pictures} with {cosines}")
        self.looks += 1
        self.seen.add(fitting[0])
        return fitting[0]


def measure(flags: KillFlags) -> dict:
    """Run the benchmark; return the counts."""
    rng = random.Random(flags.seed)
    with tempfile.TemporaryDirectory() as folder:
        prepare_forks()
        work = Path(folder)
        made = Collection(work / "pictures", flags.pictures, flags.seed)
        made.add(flags.count)
        place, log = work / "index", work / "log"
        make = ["index", str(flags.run), str(made.folder), "--out"]
        forked([*make, str(place)], log)
        sync, old = ["sync", str(place)], _state(made.folder)
        _change(made, rng)
        seconds, _ = forked(sync, log)
        old, reader = _state(made.folder), Reader(place)
        counts = {"old": 0, "new": 0}
        kills = finished = 0
        for _ in progress(range(flags.kills), total=flags.kills, what="killing"):
            while True:  # until a moment lies within the sync
                _change(made, rng)
                allowed = {"old": old, "new": _state(made.folder)}
                process = start_fork(sync, log)
                at_end = kills % 2 == 0
                at = rng.uniform(0, _LAST_SECONDS if at_end else seconds)
                killed = _kill(process, place, at, at_end, reader, allowed)
                left = reader.look(allowed)
                old = allowed[left]
                if killed:
                    kills += 1
                    counts[left] += 1
                    break
                finished += 1
        _, told = forked(sync, log)
        reader.look({"new": _state(made.folder)})
        forked([*make, str(work / "again")], log)
        furthest = _furthest(place, work / "again")
    say(
        f"{kills} kills: {counts['old']} times the old index stood, {counts['new']} times the new "
        f"one; {finished} syncs were done before; the index was opened and searched {reader.looks} "
        f"times; in the end {told['pictures']} pictures, at most {furthest:.1e} from a new index"
    )
    if furthest > 1e-5:
        raise CommandFailed("the embeddings are not those of a new index")
    return {"kills": kills, **counts, "looks": reader.looks, "furthest": furthest}


def _change(made: Collection, rng: random.Random) -> None:
    """Add, remove and overwrite pictures."""
    names = sorted(path for path in made.folder.rglob("*.jpg"))
    chosen = rng.sample(names, _REMOVED + _OVERWRITTEN)
    contents = [path.read_bytes() for path in chosen[:_REMOVED]]
    for path in chosen[:_REMOVED]:
        path.unlink()
    for path, content in zip(chosen[_REMOVED:], contents, strict=False):
        path.write_bytes(content + bytes(1 + rng.randrange(1000)))
    made.add(_ADDED)


def _state(folder: Path) -> dict[str, int]:
    """Return the sizes of the files of a collection by name."""
    paths = folder.rglob("*.jpg")
    return {str(path.relative_to(folder)): path.stat().st_size for path in paths}


def _kill(
    process: BaseProcess,
    place: Path,
    at: float,
    at_end: bool,
    reader: Reader,
    allowed: dict[str, dict[str, int]],
) -> bool:
    """Kill a sync after so many seconds, of its start or of its last step; look meanwhile."""
    moment = None if at_end else time.monotonic() + at
    before = set(place.glob("embeddings-*"))
    whole = len(allowed["new"]) * next(iter(before)).stat().st_size / len(allowed["old"])
    looked = 0.0
    while process.is_alive():
        if moment is None and _largest(set(place.glob("embeddings-*")) - before) > 0.99 * whole:
            moment = time.monotonic() + at
        if moment is not None and time.monotonic() >= moment:
            process.kill()
            break
        if time.monotonic() - looked > 0.05:
            reader.look(allowed)
            looked = time.monotonic()
    process.join()
    return process.exitcode == -9


def _largest(paths: set[Path]) -> int:
    """Return the size of the largest file; 0 if there is none, or it was just removed."""
    try:
        return max((path.stat().st_size for path in paths), default=0)
    except FileNotFoundError:
        return 0


def _furthest(one: Path, other: Path) -> float:
    """Return the largest difference of the embeddings of equal names."""
    embeddings = []
    for place in (one, other):
        index = open_index(place)
        names = index.names_of(np.arange(len(index)))
        embeddings.append(dict(zip(names, np.array(index.embeddings), strict=True)))
    if embeddings[0].keys() != embeddings[1].keys():
        raise CommandFailed("the pictures are not those of a new index")
    return max(
        float(np.abs(row - embeddings[1][name]).max()) for name, row in embeddings[0].items()
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("benchmarks.kill_search", Command(KillFlags, measure), argv)


if __name__ == "__main__":
    sys.exit(main())
