"""python -m tfclip.search index|query: find pictures by a text or a picture (exact search)."""

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
    """Embed every picture of packed records and write a search index."""

    run: Positional[Path]
    """A run directory, or a model folder."""
    records: Positional[str]
    """Packed records, DIR or DIR:SPLIT; by default all splits."""
    out: Path | None = None
    """The index, NAME.npy; by default RUN/search.npy. An existing file is replaced."""

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
    """A text phrased like a caption, or a picture file."""
    index: Path | None = None
    """The index; by default the newest runs/*/search.npy."""
    top: int = 8
    """The number of pictures."""
    out: Path = Path("search.png")
    """Where the pictures are drawn with their captions; an existing file is replaced."""
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
        """Return whether the query looks like the name of a picture file that does not exist."""
        return self.query.lower().endswith(PICTURES) and not os.path.isfile(self.query)

    def index_path(self) -> Path:
        """Return the index to search.

        Raises:
            FileNotFoundError: none was given, and none is in runs/.
        """
        if self.index is not None:
            return self.index
        indexes = sorted(
            Path("runs").glob(f"*/{INDEX_FILE}"), key=lambda path: path.stat().st_mtime
        )
        if not indexes:
            raise FileNotFoundError(
                f"no runs/*/{INDEX_FILE}; make one with: python -m tfclip.search index RUN "
                "RECORDS, or name one with --index"
            )
        return indexes[-1]


def index(flags: IndexFlags) -> dict:
    """Embed the pictures, write the index, and print its path."""
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
            f"{path} was made with another model than {opened.run} holds now; make it again "
            f"with: python -m tfclip.search index {opened.run} {opened.records}"
        )
    hits = search(opened, flags.query, top=flags.top, chunk=flags.chunk)
    for hit in hits:
        description = hit["captions"][0] if hit["captions"] else ", ".join(hit["labels"])
        print(f"{hit['cosine']:.3f}  {hit['key']:40}  {description}")
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
