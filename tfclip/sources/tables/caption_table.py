"""Tables of captions or labels with a column of picture paths: csv, tsv, jsonl, json or parquet."""

from array import array
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from tfclip.console import say
from tfclip.sources.image_folder import ENDINGS
from tfclip.sources.index import Index
from tfclip.sources.safe_paths import (
    cache_blobs,
    find_below,
    keep_captions,
    missing,
    no_pictures,
    plain_name,
)
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, split_in, stable_hash
from tfclip.sources.tables.absolute_paths import AbsolutePaths, is_absolute
from tfclip.sources.tables.arrow_files import text_rows
from tfclip.sources.tables.cells import LabelReader, label_reader, listed_cell
from tfclip.sources.tables.columns import Columns, table_columns
from tfclip.sources.tables.delimited import Table
from tfclip.sources.tables.json_rows import json_rows

TREE = (
    "a .csv, .tsv, .jsonl, .json or .parquet file, or DIR/<split>.csv and the like; paths are "
    "relative to its folder"
)
METADATA = "metadata"
"""The name of the table of a Hugging Face imagefolder; it does not name a split."""
MOST_SPLITS = 100


def open_caption_table(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a table, or a folder of tables, each of which is the split that its name says.

    The columns are `options.image_field` and `options.caption_fields`, or those with a usual name.
    A cell may hold a list of captions: a JSON array in jsonl, a list written as JSON or Python, or
    texts separated by `options.caption_separator`. `options.labels_field` is a column of lists of
    classes; `options.label_fields` are columns of 0 and 1, one per class; with either, captions are
    optional. All rows with the same path, adjacent or not, make one sample.

    The split of a single table is named by its file name, and is train otherwise; or
    `options.split_field` is a column of splits, whose blank cells are rejected. In a Hugging Face
    imagefolder (metadata.csv or metadata.jsonl beside the pictures, or in one folder per split) the
    folder names the split, and it is train without such folders. Paths are relative to
    `options.images` or the folder of the table, and must not lead out of it.

    Raises:
        FileNotFoundError: no table, or a split none of whose pictures exist.
        ValueError: a missing column, a table without rows, or a line that is too long.
    """
    tables = _tables_by_split(data)
    if not options.split_field:
        tables = {split: tables[split] for split in choose_splits(tables, options.splits)}
    elif len(tables) > 1:
        raise ValueError(f"--split-column needs a single table; {data} holds {len(tables)}")
    splits: dict[str, _Rows] = {}
    labels = label_reader(options)
    for split, path in tables.items():
        splits |= _rows_by_split(path, split, options, labels)
    splits = {split: splits[split] for split in choose_splits(splits, options.splits)}
    for rows in splits.values():
        rows.check()
    if labels and (doubts := labels.doubts()):
        say(f"{data}: {doubts}")
    counts = {split: len(rows) for split, rows in splits.items()}
    classes = labels.class_names() if labels else ()
    return Source("caption_table", counts, lambda split: splits[split].read(split), classes)


def _tables_by_split(data: Path) -> dict[str, Path]:
    if data.is_file():
        split = "train" if data.stem == METADATA else split_in(data.stem) or "train"
        return {split: data}
    kinds = ("csv", "tsv", "jsonl", "parquet")
    paths = [path for kind in kinds for path in sorted(data.glob(f"*.{kind}"))]
    if not paths:
        paths = [path for kind in kinds for path in sorted(data.glob(f"*/{METADATA}.{kind}"))]
    if not paths:
        paths = sorted(data.glob("*.json"))
    if not paths:
        raise missing(data / "<split>.csv" if data.is_dir() else data, TREE)
    tables: dict[str, Path] = {}
    for path in paths:
        split = plain_name(path.stem)
        if path.stem == METADATA:
            split = "train" if path.parent == data else plain_name(path.parent.name)
            say(f"{path}: read as the split {split} of an image folder")
        if split in tables:
            raise ValueError(f"{tables[split]} and {path} would both be the split {split}")
        tables[split] = path
    return tables


def _open_table(path: Path, options: SourceOptions) -> Table:
    ending = path.suffix.lower()
    lines = json_rows(path) if ending == ".json" else None
    if ending in (".parquet", ".arrow"):
        lines = text_rows(path)
    if lines is None:
        return Table(path, options.separator)
    say(f"{path}: read from a temporary copy as JSON lines")
    return Table(path, lines=lines)


def _rows_by_split(
    path: Path, split: str, options: SourceOptions, labels: LabelReader | None
) -> dict[str, "_Rows"]:
    table = _open_table(path, options)
    columns = table_columns(table, options, labels)
    index, lists, cells = Index(), 0, 0
    places: dict[str, array] = {} if columns.split else {split: array("q")}
    without_split = array("q")
    for offset, length, row in table.rows():
        name = _plain_path(row.get(columns.image)) if isinstance(row, dict) else None
        number = stable_hash(name) if isinstance(name, str) and name else -1
        if isinstance(row, dict):
            for column in columns.captions:
                cell = row.get(column)
                cells += 1
                lists += isinstance(cell, str) and len(listed_cell(cell, None)) != 1
            if labels:
                labels.note(row)
        if columns.split and not _split_of(row, columns.split):
            without_split.append(len(index))
        elif columns.split:
            split = _split_of(row, columns.split)
            if split not in places and len(places) >= MOST_SPLITS:
                raise ValueError(
                    f"{path}: the column {columns.split!r} has more than {MOST_SPLITS} splits"
                )
            places.setdefault(split, array("q")).append(len(index))
        else:
            places[split].append(len(index))
        index.add(number, offset, length)
    if not len(index):
        raise ValueError(f"{path} has no rows")
    if not places:
        raise ValueError(f"{path}: the column of splits {columns.split!r} is blank in all rows")
    if lists:
        say(f"{path}: {lists:,} of {cells:,} caption cells are lists of captions")
    roots = (options.images or path.parent, options.follow_links)
    rows = {s: _Rows(table, roots, columns, index, at) for s, at in places.items()}
    # Rows without a split are yielded, as rejected, with the training split.
    rows["train" if "train" in rows else next(iter(rows))].without_split = without_split
    _report_leaks(path, rows)
    return rows


def _plain_path(name: Any) -> Any:
    """Return a path without "." and empty parts, so that ./a.jpg and a.jpg are one picture."""
    if not isinstance(name, str) or ("./" not in name and "//" not in name):
        return name
    parts = name.split("/")
    return "/".join(part for at, part in enumerate(parts) if part != "." and (part or not at))


def _split_of(row: object, column: str) -> str:
    value = row.get(column) if isinstance(row, dict) else None
    return value.strip() if isinstance(value, str) else ""


def _report_leaks(path: Path, rows: dict[str, "_Rows"]) -> None:
    """Report paths that are in several splits: the evaluation would use training pictures."""
    seen: dict[int, str] = {}
    if len(rows) < 2:
        return
    shared, example = 0, ""
    for split, part in rows.items():
        for first in part.firsts.tolist():
            number = part.index[first][0]
            other = seen.setdefault(number, split)
            if other != split and number >= 0:
                shared += 1
                example = example or f"{part.name_at(first)!a:.100} in {other} and {split}"
    if shared:
        say(f"{path}: {shared:,} paths are in two splits, for example {example}")


class _Rows:
    """The rows of one split; all rows with the same path make one sample."""

    def __init__(
        self,
        table: Table,
        roots: tuple[Path, bool],
        columns: Columns,
        index: Index,
        positions: array,
    ):
        """Take the rows at `positions` of `index`, whose numbers are the hashes of the paths.

        `roots` is the folder of the pictures, and whether links into a cache are followed.
        """
        self.table, self.columns = table, columns
        self.completed = False
        self.absolute = AbsolutePaths(table.path)
        self.root = roots[0]
        self.stores = cache_blobs(self.root) if roots[1] else ()
        self.all, self.without_split = index, array("q")
        self.index = Index()  # of this split alone
        for position in positions:
            self.index.add(*index[position])
        self.firsts = self.index.first_positions(each=-1)

    def __len__(self) -> int:
        return len(self.firsts) + len(self.without_split)

    def name_at(self, position: int) -> str:
        """Return the path of the picture in a row, "" without."""
        with self.table.open() as file:
            return str(self._row(file, self.index, position).get(self.columns.image) or "")

    def check(self) -> None:
        """Raise FileNotFoundError when none of the pictures of the split exists."""
        problem, name = None, None
        with self.table.open() as file:
            for first in self.firsts:
                try:
                    row = self._row(file, self.index, first)
                    name = name or row.get(self.columns.image)
                    self._find(row.get(self.columns.image))
                    return
                except ValueError as reason:
                    problem = problem or reason
        elsewhere = self._elsewhere(name)
        hint = f"; it is in {elsewhere}: add --images {elsewhere}" if elsewhere else ""
        raise no_pictures(self.table.path, [self.root], TREE, f"{problem}{hint}")

    def _find(self, name: object) -> Path:
        """Return the picture of a path, which may lack its extension, as in Kaggle's tables."""
        if isinstance(name, str) and is_absolute(name):
            below = partial(find_below, self.root, stores=self.stores)
            return self.absolute.find(name, below)
        try:
            return find_below(self.root, name, self.stores)
        except ValueError:
            if not isinstance(name, str) or name.lower().endswith(ENDINGS):
                raise
            for ending in ENDINGS:
                try:
                    found = find_below(self.root, name + ending, self.stores)
                except ValueError:
                    continue
                if not self.completed:
                    self.completed = True
                    say(f"{self.table.path}: paths lack their extension: {name!a:.100} is {ending}")
                return found
            raise

    def _elsewhere(self, name: object) -> Path | None:
        """Return a folder beside the table from which the path `name` leads to a file."""
        for folder in sorted(path for path in self.root.glob("*") if path.is_dir()):
            try:
                find_below(folder, name, self.stores)
            except ValueError:
                continue
            return folder
        return None

    def read(self, split: str) -> Iterator[Sample | Rejected]:
        """Yield a sample for every path, in the order of its first row."""
        columns = self.columns
        with self.table.open() as file:
            for first in self.firsts:
                number, offset, _ = self.index[first]
                key = f"caption_table/{self.table.path.name}, byte {offset}"
                try:
                    row = self._row(file, self.index, first)
                    if number < 0:
                        cell = f"{row.get(columns.image)!a:.100}"
                        raise ValueError(f"no path in the column {columns.image!a}: {cell}")
                    name = _plain_path(row[columns.image])
                    key = f"caption_table/{name}"
                    image = self._find(name)
                    rows = [self._row(file, self.index, p) for p in self.index.positions(number)]
                    rows = [row for row in rows if _plain_path(row[columns.image]) == name]
                    labels = columns.labels.of(rows) if columns.labels else ((), ())
                    texts = [text for row in rows for text in columns.captions_of(row)]
                    captions: tuple[str, ...] = ()
                    dropped: tuple[str, ...] = ()
                    if columns.labels is None or any(texts):
                        captions, dropped = keep_captions(texts)
                    group = next(filter(None, map(columns.group_of, rows)), "")
                except ValueError as reason:
                    yield Rejected(key, str(reason), split)
                    continue
                yield Sample(
                    key,
                    image,
                    captions,
                    labels=labels[0],
                    difficult=labels[1],
                    split=split,
                    dropped=dropped,
                    group=group,
                )
            for position in self.without_split:
                yield self._rejected(file, position, split)

    def _rejected(self, file: BinaryIO, position: int, split: str) -> Rejected:
        key = f"caption_table/{self.table.path.name}, byte {self.all[position][1]}"
        try:
            row = self._row(file, self.all, position)
            key = f"caption_table/{row.get(self.columns.image)}"
            cell = row.get(self.columns.split or "")
            reason = f"no split in the column {self.columns.split!a}: {cell!a:.100}"
            return Rejected(key, reason, split)
        except ValueError as reason:
            return Rejected(key, str(reason), split)

    def _row(self, file: BinaryIO, index: Index, position: int) -> dict[str, Any]:
        _, offset, length = index[position]
        row = self.table.at(file, offset, length)
        if isinstance(row, str):
            raise ValueError(row)
        return row
