"""python -m tfclip.search index|query: find pictures by a text or by a picture, exactly."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from tfclip.console import Command, run, say
from tfclip.evaluation.search.index import CHUNK, INDEX_FILE, open_index
from tfclip.evaluation.tasks.multilabel_flags import check_run
from tfclip.models.model_directory import model_directory, model_fingerprint
from tfclip.records.manifest import load_manifest, records_reference

PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")


@dataclass(frozen=True)
class IndexFlags:
    """Embed every picture of packed records into one file, to be searched."""

    run: Positional[Path]
    """A run directory, or a model folder."""
    records: Positional[str]
    """Packed records, DIR or DIR:SPLIT; all splits when none is named."""
    out: Path | None = None
    """The index, NAME.npy; RUN/search.npy when not given. It is replaced."""

    def __post_init__(self):
        check_run(self.run)
        model_directory(self.run)
        directory, split = records_reference(self.records)
        manifest = load_manifest(directory)
        if split is not None:
            manifest.shards_of(split)
        if self.out is not None and self.out.suffix != ".npy":
            raise ValueError(f"received --out {self.out}; allowed: NAME.npy")


@dataclass(frozen=True)
class QueryFlags:
    """Print and draw the pictures of an index that are nearest to a text or to a picture."""

    query: Positional[str]
    """A text as a caption would have it, or a picture file."""
    index: Path | None = None
    """The index; the newest runs/*/search.npy when not given."""
    top: int = 8
    """How many pictures."""
    out: Path = Path("search.png")
    """Where the pictures are drawn, with their captions; it is replaced."""
    chunk: int = CHUNK
    """Rows of the index in memory at a time."""

    def __post_init__(self):
        if not self.query.strip():
            raise ValueError("the query is empty; give a text, or a picture file")
        for flag in ("top", "chunk"):
            if getattr(self, flag) < 1:
                raise ValueError(f"received --{flag} {getattr(self, flag)}; allowed: 1 or more")
        if self.is_missing_picture():
            raise FileNotFoundError(f"no picture at {self.query}")
        open_index(self.index_path())

    def is_missing_picture(self) -> bool:
        """Whether the query reads as the name of a picture file that is not there."""
        return self.query.lower().endswith(PICTURES) and not os.path.isfile(self.query)

    def index_path(self) -> Path:
        """Return the index to search.

        Raises:
            FileNotFoundError: none was given, and none is in runs/.
        """
        if self.index is not None:
            return self.index
        found = sorted(Path("runs").glob(f"*/{INDEX_FILE}"), key=lambda path: path.stat().st_mtime)
        if not found:
            raise FileNotFoundError(
                f"no runs/*/{INDEX_FILE}; make one with: python -m tfclip.search index RUN "
                "RECORDS, or name one with --index"
            )
        return found[-1]


def index(flags: IndexFlags) -> dict:
    """Embed and write the index, and say where it lies."""
    from tfclip.evaluation.search.search import index_records

    out = flags.out or flags.run / INDEX_FILE
    pictures = index_records(flags.run, flags.records, out)
    size = out.stat().st_size
    say(f"{out}: {pictures} pictures, {size / 1e6:.1f} MB")
    say(f'search it with: python -m tfclip.search query "two dogs on the beach" --index {out}')
    return {"index": str(out), "pictures": pictures, "bytes": size}


def query(flags: QueryFlags) -> dict:
    """Search, print the hits, and draw them."""
    from tfclip.evaluation.search.search import draw_hits, search

    path = flags.index_path()
    opened = open_index(path)
    if model_fingerprint(opened.run) != opened.model:
        raise ValueError(
            f"{path} was made with another model than {opened.run} holds now; make it again with: "
            f"python -m tfclip.search index {opened.run} {opened.records}"
        )
    hits = search(opened, flags.query, top=flags.top, chunk=flags.chunk)
    for hit in hits:
        told = hit["captions"][0] if hit["captions"] else ", ".join(hit["labels"])
        print(f"{hit['cosine']:.3f}  {hit['key']:40}  {told}")
    draw_hits(opened, hits, flags.out)
    say(f"{flags.out}: {len(hits)} of {len(opened.rows)} pictures of {opened.records}, from {path}")
    kept = ("key", "cosine", "captions", "labels")
    return {
        "query": flags.query,
        "index": str(path),
        "drawn": str(flags.out),
        "hits": [{name: hit[name] for name in kept} for hit in hits],
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    commands = {"index": Command(IndexFlags, index), "query": Command(QueryFlags, query)}
    return run("tfclip.search", commands, argv, kind="action")


if __name__ == "__main__":
    sys.exit(main())
