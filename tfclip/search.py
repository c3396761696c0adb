"""python -m tfclip.search index|query|...: find pictures by texts and pictures (exact search)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from tfclip.console import Command, run, say
from tfclip.evaluation.search.actions import (
    add_pictures,
    make_index,
    remove_pictures,
    sync_index,
)
from tfclip.evaluation.search.index import index_folder, newest_index, open_index
from tfclip.evaluation.search.near_duplicates import confirmed_pairs, groups_of, near_pairs
from tfclip.evaluation.search.nearest import CHUNK
from tfclip.evaluation.search.queries import MINUS_WEIGHT, Query, check_term, is_picture
from tfclip.evaluation.search.sources import open_source
from tfclip.evaluation.search.update import Change
from tfclip.evaluation.tasks.multilabel_flags import check_run
from tfclip.inputs.tiles import tile_groups
from tfclip.models.compute import AUTO, check_compute
from tfclip.models.model_directory import model_directory
from tfclip.serve_index import ServeFlags, serve
from tfclip.text_repair import repair_note

_SHOWN = 5


@dataclass(frozen=True)
class IndexFlags:
    """Make an index of a folder of pictures, or of packed records; or bring it up to date."""

    run: Positional[Path]
    """A run directory, or a model folder."""
    collection: Positional[str]
    """A folder of pictures, with folders in it or without; or packed records, DIR or DIR:SPLIT."""
    name: str | None = None
    """The name of the index, which is RUN/search/NAME; by default that of the collection."""
    out: Path | None = None
    """Another folder for the index."""
    tiles: str = "1"
    """The views of a picture that are indexed: 1, 1+4, 1+9, 1+4+9 or dense (the same 14 parts in
    one pass). With parts, a small thing in a picture is found by its part; the index grows by their
    number."""

    compute: str = AUTO
    """Number format in which the image tower computes: float32 (TensorFlow), bfloat16 or
    float32-openvino (OpenVINO, the extra [openvino]), or auto: by OpenVINO where it is measured to
    be faster and as accurate. With another than that of an existing index, everything is embedded
    anew."""

    def __post_init__(self):
        check_run(self.run)
        check_compute(self.compute)
        model_directory(self.run)
        open_source(self.collection)
        tile_groups(self.tiles)
        if self.name is not None and self.out is not None:
            raise ValueError("received --name and --out; allowed: one of them")
        if self.out is not None and self.out.suffix == ".npy":
            raise ValueError(f"received --out {self.out}; allowed: a folder (an index is one now)")
        self.folder()

    def folder(self) -> Path:
        """Return the folder of the index."""
        if self.out is not None:
            return self.out
        name = self.name
        return index_folder(
            self.run, open_source(self.collection).default_name() if name is None else name
        )


@dataclass(frozen=True)
class SyncFlags:
    """Bring an index up to date: only new and changed pictures are embedded."""

    index: Positional[str]
    """The index: its folder, or its name in runs/."""
    moved_to: str | None = None
    """Where a collection is now that was moved; nothing is embedded again for that."""


@dataclass(frozen=True)
class AddFlags:
    """Add folders, packed records or picture files to an index."""

    index: Positional[str]
    """The index: its folder, or its name in runs/."""
    pictures: Positional[tuple[str, ...]]
    """Folders of pictures, packed records (DIR or DIR:SPLIT), or picture files."""

    def __post_init__(self):
        if not self.pictures:
            raise ValueError("nothing to add was given; give a folder, records or picture files")


@dataclass(frozen=True)
class RemoveFlags:
    """Remove pictures from an index; search sync does not bring them back, search add does."""

    index: Positional[str]
    """The index: its folder, or its name in runs/."""
    pictures: Positional[tuple[str, ...]]
    """Names as query prints them, folders, patterns such as "drafts/*", or paths of files."""

    def __post_init__(self):
        if not self.pictures:
            raise ValueError("nothing to remove was given; give names, folders or patterns")


@dataclass(frozen=True)
class QueryFlags:
    """Print and draw the pictures of an index that are nearest to texts or to pictures."""

    queries: Positional[tuple[str, ...]]
    """Texts phrased like a caption, or picture files; each has an answer of its own."""
    plus: tuple[str, ...] = ()
    """Texts or picture files that are added to each query."""
    minus: tuple[str, ...] = ()
    """Texts or picture files that are taken away from each query."""
    minus_weight: float = MINUS_WEIGHT
    """The weight of each of them; that of the query is 1."""
    index: str | None = None
    """The index: its folder, or its name in runs/; by default the newest in runs/."""
    top: int = 8
    """The number of pictures."""
    out: Path = Path("search.png")
    """Where the pictures are drawn with their captions; an existing file is replaced."""
    cut_off: float | None = None
    """The cosine below which nothing looks like a text; by default it is learnt from the index."""
    fix_text: bool = False
    """Repair wrongly decoded texts (ftfy) and HTML entities, as the tokenizers of OpenAI's CLIP and
    open_clip do."""
    chunk: int = CHUNK
    """Rows of the index in memory at a time."""

    def __post_init__(self):
        if not self.queries:
            raise ValueError(
                "no query was given; give a text or a picture file, for example: python -m "
                'tfclip.search query "a dog" --minus "snow"'
            )
        for flag in ("top", "chunk"):
            if getattr(self, flag) < 1:
                raise ValueError(f"received --{flag} {getattr(self, flag)}; allowed: 1 or more")
        if not 0 < self.minus_weight < 100:
            raise ValueError(f"received --minus-weight {self.minus_weight}; allowed: above 0")
        for term in (*self.queries, *self.plus, *self.minus):
            check_term(term)


@dataclass(frozen=True)
class DuplicatesFlags:
    """List and draw groups of near-duplicates of an index."""

    index: Positional[str]
    """The index: its folder, or its name in runs/."""
    at_least: float | None = None
    """List pictures with this cosine or more, whether copies or not. By default near-duplicates are
    listed: nearer than altered copies are to pictures of this index, and alike by perceptual
    hash."""
    out: Path = Path("duplicates.png")
    """Where the largest groups are drawn; an existing file is replaced."""
    groups: int = 20
    """The number of groups that are drawn."""

    def __post_init__(self):
        if self.at_least is not None and not 0 < self.at_least <= 1:
            raise ValueError(f"received --at-least {self.at_least}; allowed: above 0, at most 1")
        if self.groups < 1:
            raise ValueError(f"received --groups {self.groups}; allowed: 1 or more")


def index(flags: IndexFlags) -> dict:
    """Make or update an index, and print where it is."""
    folder = flags.folder()
    source = open_source(flags.collection)
    change = make_index(folder, flags.run, source, flags.tiles, flags.compute)
    result = _report(folder, change)
    say(f'search it with: python -m tfclip.search query "two dogs on the beach" --index {folder}')
    return result


def sync(flags: SyncFlags) -> dict:
    """Bring an index up to date."""
    opened = open_index(flags.index)
    return _report(opened.place, sync_index(opened, flags.moved_to))


def add(flags: AddFlags) -> dict:
    """Add pictures to an index."""
    opened = open_index(flags.index)
    return _report(opened.place, add_pictures(opened, flags.pictures))


def remove(flags: RemoveFlags) -> dict:
    """Remove pictures from an index."""
    opened = open_index(flags.index)
    return _report(opened.place, remove_pictures(opened, flags.pictures))


def query(flags: QueryFlags) -> dict:
    """Search, print the hits, and draw them."""
    opened = open_index(newest_index() if flags.index is None else flags.index)
    opened.check_model()
    from tfclip.evaluation.embedding.embed import FEW_TEXTS
    from tfclip.evaluation.embedding.run_model import RunModel
    from tfclip.evaluation.search.contents import open_model
    from tfclip.evaluation.search.search import answer, draw_answers

    queries = [Query(first, flags.plus, flags.minus, flags.minus_weight) for first in flags.queries]
    if flags.fix_text:
        given, queries = queries, [one.repaired() for one in queries]
        terms = ([term for one in some for term in one.terms] for some in (given, queries))
        pairs = zip(*terms, strict=True)
        say(repair_note(pair for pair in pairs if not is_picture(pair[0])))
    pictures = any(is_picture(term) for one in queries for term in one.terms)
    count = len({term for one in queries for term in one.terms})
    if pictures or count > FEW_TEXTS:
        model = open_model(opened.run, opened.compute, ("image", "text") if pictures else ("text",))
    else:
        model = RunModel(opened.run).for_few("text")
    answers = answer(
        opened, model, queries, top=flags.top, chunk=flags.chunk, cut_off=flags.cut_off
    )
    listed = []
    for one in answers:
        if len(answers) > 1:
            print(f"{one.query}:")
        if one.is_nothing:
            say(
                f"nothing here looks like {one.query!s}: the best cosine, {one.hits[0].score:.3f}, "
                f"is below {one.cut_off:.3f}, the cut-off of this index"
            )
        hits = []
        for hit in one.hits:
            picture = hit.picture
            description = picture.captions[0] if picture.captions else ", ".join(picture.labels)
            place = picture.key if picture.path.is_dir() else str(picture.path)
            print(f"{hit.score:.3f}  {place:40}  {description or picture.problem}".rstrip())
            hits.append(
                {
                    "key": picture.key,
                    "path": str(picture.path),
                    "cosine": hit.cosines[0],
                    "score": hit.score,
                    "view": hit.view,
                    "captions": list(picture.captions),
                    "labels": list(picture.labels),
                }
            )
        listed.append(
            {
                "query": str(one.query),
                "nothing": one.is_nothing,
                "cut_off": one.cut_off,
                "hits": hits,
            }
        )
    draw_answers(opened, answers, flags.out)
    say(_scores_note(queries))
    count = sum(len(one.hits) for one in answers)
    of_each = "" if len(answers) == 1 else f" for {len(answers)} queries"
    say(
        f"{flags.out}: {count} hits{of_each} among {len(opened):,} pictures of "
        f"{opened.collection}, from {opened.place}"
    )
    result = {"index": str(opened.place), "drawn": str(flags.out), "answers": listed}
    return result | (listed[0] if len(listed) == 1 else {})


def _scores_note(queries: Sequence[Query]) -> str:
    """Say what the scores of hits are: those of single terms, or of several together."""
    if len(queries[0].terms) == 1:
        return "score: cosine of the picture and the query"
    return (
        "score: for each term, how many standard deviations the cosine of the picture is above the "
        "mean of the index; summed by the weights of the terms"
    )


def duplicates(flags: DuplicatesFlags) -> dict:
    """List groups of near-duplicates, and draw the largest."""
    opened = open_index(flags.index)
    opened.check_sources()
    from tfclip.evaluation.search.contents import open_model
    from tfclip.evaluation.search.pictures import read_picture
    from tfclip.evaluation.search.search import copies_limit, draw_groups

    limit, whole = flags.at_least, opened.embeddings[:: opened.views]
    if limit is None:
        opened.check_model()
        limit = copies_limit(opened, open_model(opened.run, opened.compute))
        near = near_pairs(whole, limit)
        groups = groups_of(confirmed_pairs(near, lambda row: read_picture(opened, row).jpeg))
    else:
        groups = groups_of(near_pairs(whole, limit))
    names = [[opened.shown_name(row) for row in group] for group in groups]
    for group in names:
        print("  ".join(group))
    count = sum(map(len, groups))
    if groups:
        groups_are = "1 group" if len(groups) == 1 else f"{len(groups):,} groups"
        say(f"{groups_are} of {count:,} pictures with cosines of {limit:.4f} or more")
    else:
        say(f"no near-duplicates: no two pictures have a cosine of {limit:.4f} or more")
    result = {"index": str(opened.place), "at_least": limit, "groups": names}
    if groups:
        draw_groups(opened, groups[: flags.groups], flags.out)
        drawn = min(len(groups), flags.groups)
        say(
            f"{flags.out}: "
            + ("the largest group" if drawn == 1 else f"the {drawn} largest groups")
        )
        result["drawn"] = str(flags.out)
    return result


def _report(folder: Path, change: Change) -> dict:
    """Print what a command did to an index, and return it."""
    numbers = {
        "embedded": change.embedded,
        "recognised by their bytes": change.recognised,
        "unchanged": change.kept,
        "removed": change.removed,
    }
    counts = ", ".join(f"{count:,} {what}" for what, count in numbers.items() if count)
    size = sum(path.stat().st_size for path in folder.iterdir())
    say(
        f"{folder}: {change.pictures:,} pictures ({counts}), {size / 1e6:.1f} MB, "
        f"{change.seconds:.1f} s"
    )
    if change.problems:
        shown = "; ".join(f"{name}: {reason}" for name, reason in change.problems[:_SHOWN])
        more = len(change.problems) - _SHOWN
        rest = f"; and {more:,} more" if more > 0 else ""
        say(f"{len(change.problems):,} could not be indexed: {shown}{rest}")
    if change.other_files:
        kinds = ", ".join(
            f"{count:,} {ending or 'without an ending'}"
            for ending, count in change.other_files.most_common(8)
        )
        total = change.other_files.total()
        say(f"{total:,} files are no pictures by their ending: {kinds}")
    return {
        "index": str(folder),
        "pictures": change.pictures,
        "embedded": change.embedded,
        "recognised": change.recognised,
        "unchanged": change.kept,
        "removed": change.removed,
        "problems": [{"picture": name, "reason": reason} for name, reason in change.problems],
        "bytes": size,
        "seconds": change.seconds,
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    commands = {
        "index": Command(IndexFlags, index),
        "sync": Command(SyncFlags, sync),
        "add": Command(AddFlags, add),
        "remove": Command(RemoveFlags, remove),
        "query": Command(QueryFlags, query),
        "duplicates": Command(DuplicatesFlags, duplicates),
        "serve": Command(ServeFlags, serve),
    }
    return run("tfclip.search", commands, argv, kind="action")


if __name__ == "__main__":
    sys.exit(main())
