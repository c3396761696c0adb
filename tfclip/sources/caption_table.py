"""Tables of captions: csv, tsv or jsonl, with a column of paths and one or more of captions."""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from tfclip.naming import nearest
from tfclip.sources.index import Index
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, split_in, stable_hash
from tfclip.sources.tables import Table
from tfclip.sources.untrusted import find_below, keep_captions, missing, no_pictures, plain_name

TREE = "a .csv, .tsv or .jsonl file, or DIR/<split>.csv and the like; paths start from its folder"
PATHS = "image image_path path file file_name filename filepath image_file image_name img".split()
CAPTIONS = "caption captions text sentence sentences description title comment".split()
MOST_SPLITS = 100

_NUMBERED = re.compile(r"(caption|text|sentence)[_ ]?\d+", re.IGNORECASE)


def open_caption_table(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a table, or a folder in which each table is a split of its name.

    The columns are `options.image_field` and `options.caption_fields`, or what is named like one.
    A caption may be a list of strings in jsonl. All rows of a path, in any places of the table,
    make one sample. The split is the table's name as far as it speaks of one (train otherwise), or
    what `options.split_field` says for each row. Paths are relative to `options.images`, or to the
    folder of the table, and must not lead out of there.

    Raises:
        FileNotFoundError: no table, or none of the pictures of a split.
        ValueError: a column that is not there, a table without rows, lines that are too long.
    """
    paths = _tables(data)
    tables: dict[str, Path] = {}
    for path in paths:
        split = (split_in(path.stem) or "train") if data.is_file() else plain_name(path.stem)
        if split in tables:
            raise ValueError(f"{tables[split]} and {path} would both be the split {split}")
        tables[split] = path
    if not options.split_field:
        tables = {split: tables[split] for split in choose_splits(tables, options.splits)}
    elif len(tables) > 1:
        raise ValueError(f"--split-column is for one table; {data} holds {len(tables)}")
    splits: dict[str, _Rows] = {}
    for split, path in tables.items():
        splits |= _rows_by_split(path, split, options)
    splits = {split: splits[split] for split in choose_splits(splits, options.splits)}
    for rows in splits.values():
        rows.check()
    counts = {split: len(rows.firsts) for split, rows in splits.items()}
    return Source("caption_table", counts, lambda split: splits[split].read(split))


def _tables(data: Path) -> list[Path]:
    if data.is_file():
        return [data]
    found = [path for kind in ("csv", "tsv", "jsonl") for path in sorted(data.glob(f"*.{kind}"))]
    if not found:
        raise missing(data / "<split>.csv" if data.is_dir() else data, TREE)
    return found


def _column(table: Table, given: str | None, usual: Iterable[str], flag: str) -> str:
    names = {column.strip().lower(): column for column in reversed(table.columns)}
    if given is not None:
        if given in table.columns:
            return given
        known = _told(nearest(given, table.columns))
        raise ValueError(f"{table.path} has no column {given!r}; it has, nearest first: {known}")
    for name in usual:
        if name in names:
            return names[name]
    known = _told(table.columns) or "none"
    raise ValueError(f"{table.path}: name a column with {flag}; its columns are: {known}")


def _told(columns: Sequence[str]) -> str:
    return ", ".join(f"{column!a:.40}" for column in columns[:20])


def _rows_by_split(path: Path, split: str, options: SourceOptions) -> dict[str, "_Rows"]:
    table = Table(path)
    image = _column(table, options.image_field, PATHS, "--path-column")
    captions = [_column(table, name, (), "") for name in options.caption_fields]
    if not captions:
        captions = [column for column in table.columns if _NUMBERED.fullmatch(column.strip())]
    captions = captions or [_column(table, None, CAPTIONS, "--caption-columns")]
    named = options.split_field and _column(table, options.split_field, (), "")
    index, places = Index(), {} if named else {split: array("q")}
    for offset, length, row in table.rows():
        good = isinstance(row, dict)
        name = row.get(image) if good else None
        number = stable_hash(name) if isinstance(name, str) and name else -1
        if named:
            split = row.get(named) if good else None
            # A row without a split stands in the first one, where it will be rejected.
            split = split if isinstance(split, str) and split else next(iter(places), "train")
            if split not in places and len(places) >= MOST_SPLITS:
                raise ValueError(f"{path}: {named} names more than {MOST_SPLITS} splits")
        places.setdefault(split, array("q")).append(len(index))
        index.add(number, offset, length)
    if not len(index):
        raise ValueError(f"{path} holds no row")
    root = options.images or path.parent
    return {s: _Rows(table, root, image, captions, index, at) for s, at in places.items()}


class _Rows:
    """The rows of one split; those of one path make one sample."""

    def __init__(
        self,
        table: Table,
        root: Path,
        image: str,
        captions: list[str],
        index: Index,
        positions: array,
    ):
        """Take the rows at `positions` of `index`, which holds the hashes of the paths."""
        self.table, self.root, self.image, self.captions = table, root, image, captions
        self.index = Index()
        for position in positions:
            self.index.add(*index[position])
        self.firsts = self.index.first_positions(each=-1)

    def check(self) -> None:
        """Refuse a split none of whose pictures exists."""
        with self.table.path.open("rb") as file:
            for first in self.firsts:
                try:
                    find_below(self.root, self._row(file, first).get(self.image))
                    return
                except ValueError:
                    continue
        raise no_pictures(self.table.path, [self.root], TREE)

    def read(self, split: str) -> Iterator[Sample | Rejected]:
        """Yield a sample for every path, in the order of its first row."""
        with self.table.path.open("rb") as file:
            for first in self.firsts:
                number, offset, _ = self.index[first]
                key = f"caption_table/{self.table.path.name}, byte {offset}"
                try:
                    row = self._row(file, first)
                    if number < 0:
                        raise ValueError(f"no path in {self.image!a}: {row.get(self.image)!a:.100}")
                    name = row[self.image]
                    key = f"caption_table/{name}"
                    image = find_below(self.root, name)
                    rows = (self._row(file, at) for at in self.index.positions(number))
                    said = [
                        caption
                        for row in rows
                        if row[self.image] == name
                        for column in self.captions
                        for caption in _listed(row.get(column))
                    ]
                    captions, dropped = keep_captions(said)
                except ValueError as reason:
                    yield Rejected(key, str(reason), split)
                    continue
                yield Sample(key, image, captions, split=split, dropped=dropped)

    def _row(self, file: BinaryIO, position: int) -> dict[str, Any]:
        _, offset, length = self.index[position]
        row = self.table.at(file, offset, length)
        if isinstance(row, str):
            raise ValueError(row)
        return row


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [value]
