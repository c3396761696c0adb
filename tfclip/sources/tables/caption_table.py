"""Tables of captions or labels: csv, tsv or jsonl, with a column of paths."""

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tfclip.console import say
from tfclip.sources.index import Index
from tfclip.sources.safe_paths import (
    find_below,
    keep_captions,
    missing,
    no_pictures,
    own_store,
    plain_name,
)
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, split_in, stable_hash
from tfclip.sources.tables.arrow_files import text_rows
from tfclip.sources.tables.cells import LabelReader, label_reader, listed_cell
from tfclip.sources.tables.columns import Columns, table_columns
from tfclip.sources.tables.delimited import Table

TREE = (
    "a .csv, .tsv, .jsonl or .parquet file, or DIR/<split>.csv and the like; paths start from its "
    "folder"
)
METADATA = "metadata"
"""The name of the table in a Hugging Face imagefolder, which is no split."""
MOST_SPLITS = 100


def open_caption_table(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a table, or a folder in which each table is a split of its name.

    The columns are `options.image_field` and `options.caption_fields`, or what is named like one.
    A caption may be a list of strings: in jsonl, as JSON or Python in a cell, or with
    `options.caption_separator` between them. `options.labels_field` holds the classes of a picture,
    `options.label_fields` are columns of 0 and 1, one for each class; with either, captions are
    optional. All rows of a path, in any places of the table, make one sample.

    The split is the table's name as far as it speaks of one (train otherwise), or what
    `options.split_field` says for each row; a row that says none is rejected. In a Hugging Face
    imagefolder (metadata.csv or metadata.jsonl beside the pictures or in folders of splits) it is
    the name of the folder, train without any. Paths are relative to `options.images`, or to the
    folder of the table, and must not lead out of there.

    Raises:
        FileNotFoundError: no table, or none of the pictures of a split.
        ValueError: a column that is not there, a table without rows, lines that are too long.
    """
    tables = _tables_by_split(data)
    if not options.split_field:
        tables = {split: tables[split] for split in choose_splits(tables, options.splits)}
    elif len(tables) > 1:
        raise ValueError(f"--split-column is for one table; {data} holds {len(tables)}")
    splits: dict[str, _Rows] = {}
    labels = label_reader(options)
    for split, path in tables.items():
        splits |= _rows_by_split(path, split, options, labels)
    splits = {split: splits[split] for split in choose_splits(splits, options.splits)}
    for rows in splits.values():
        rows.check()
    counts = {split: len(rows) for split, rows in splits.items()}
    classes = labels.class_names() if labels else ()
    return Source("caption_table", counts, lambda split: splits[split].read(split), classes)


def _tables_by_split(data: Path) -> dict[str, Path]:
    if data.is_file():
        split = "train" if data.stem == METADATA else split_in(data.stem) or "train"
        return {split: data}
    kinds = ("csv", "tsv", "jsonl", "parquet")
    found = [path for kind in kinds for path in sorted(data.glob(f"*.{kind}"))]
    if not found:
        found = [path for kind in kinds for path in sorted(data.glob(f"*/{METADATA}.{kind}"))]
    if not found:
        raise missing(data / "<split>.csv" if data.is_dir() else data, TREE)
    tables: dict[str, Path] = {}
    for path in found:
        split = plain_name(path.stem)
        if path.stem == METADATA:
            split = "train" if path.parent == data else plain_name(path.parent.name)
            say(f"{path}: read as the split {split} of an image folder")
        if split in tables:
            raise ValueError(f"{tables[split]} and {path} would both be the split {split}")
        tables[split] = path
    return tables


def _open_table(path: Path, options: SourceOptions) -> Table:
    if path.suffix.lower() not in (".parquet", ".arrow"):
        return Table(path, options.separator)
    lines = text_rows(path)
    say(f"{path}: its texts are read from a temporary copy")
    return Table(path, lines=lines)


def _rows_by_split(
    path: Path, split: str, options: SourceOptions, labels: LabelReader | None
) -> dict[str, "_Rows"]:
    table = _open_table(path, options)
    columns = table_columns(table, options, labels)
    index, lists, cells = Index(), 0, 0
    places: dict[str, array] = {} if columns.split else {split: array("q")}
    homeless = array("q")
    for offset, length, row in table.rows():
        good = isinstance(row, dict)
        name = row.get(columns.image) if good else None
        number = stable_hash(name) if isinstance(name, str) and name else -1
        for column in columns.captions if good else ():
            cells += 1
            lists += isinstance(row.get(column), str) and len(listed_cell(row[column], None)) != 1
        if labels and good:
            labels.note(row)
        if columns.split and not _split_of(row, columns.split):
            homeless.append(len(index))
        elif columns.split:
            split = _split_of(row, columns.split)
            if split not in places and len(places) >= MOST_SPLITS:
                raise ValueError(f"{path}: {columns.split} names more than {MOST_SPLITS} splits")
            places.setdefault(split, array("q")).append(len(index))
        else:
            places[split].append(len(index))
        index.add(number, offset, length)
    if not len(index):
        raise ValueError(f"{path} holds no row")
    if not places:
        raise ValueError(f"{path}: no row names a split in the column {columns.split!r}")
    if lists:
        say(f"{path}: {lists:,} of {cells:,} caption cells are lists of captions")
    roots = (options.images or path.parent, options.follow_links)
    rows = {s: _Rows(table, roots, columns, index, at) for s, at in places.items()}
    # They have no split of their own, and stand with the training pictures to be rejected.
    rows["train" if "train" in rows else next(iter(rows))].without_split = homeless
    _tell_shared(path, rows)
    return rows


def _split_of(row: object, column: str) -> str:
    value = row.get(column) if isinstance(row, dict) else None
    return value.strip() if isinstance(value, str) else ""


def _tell_shared(path: Path, rows: dict[str, "_Rows"]) -> None:
    """Say which paths stand in several splits: measured on what was trained on."""
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
        say(f"{path}: {shared:,} paths stand in two splits: {example}")


class _Rows:
    """The rows of one split; those of one path make one sample."""

    def __init__(
        self,
        table: Table,
        roots: tuple[Path, bool],
        columns: Columns,
        index: Index,
        positions: array,
    ):
        """Take the rows at `positions` of `index`, which holds the hashes of the paths."""
        self.table, self.columns = table, columns
        self.root = roots[0]
        self.stores = own_store(self.root) if roots[1] else ()
        self.all, self.without_split = index, array("q")
        self.index = Index()
        for position in positions:
            self.index.add(*index[position])
        self.firsts = self.index.first_positions(each=-1)

    def __len__(self) -> int:
        return len(self.firsts) + len(self.without_split)

    def name_at(self, position: int) -> str:
        """Return the path of a row."""
        with self.table.open() as file:
            return self._row(file, self.index, position).get(self.columns.image)

    def check(self) -> None:
        """Refuse a split none of whose pictures exists."""
        problem, name = None, None
        with self.table.open() as file:
            for first in self.firsts:
                try:
                    row = self._row(file, self.index, first)
                    name = name or row.get(self.columns.image)
                    find_below(self.root, row.get(self.columns.image), self.stores)
                    return
                except ValueError as reason:
                    problem = problem or reason
        elsewhere = self._elsewhere(name)
        hint = f" (it is in {elsewhere}: give --images {elsewhere})" if elsewhere else ""
        raise no_pictures(self.table.path, [self.root], TREE, f"{problem}{hint}")

    def _elsewhere(self, name: object) -> Path | None:
        """Return a folder below or beside the table that holds the first picture."""
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
                        told = f"{columns.image!a}: {row.get(columns.image)!a:.100}"
                        raise ValueError(f"no path in {told}")
                    name = row[columns.image]
                    key = f"caption_table/{name}"
                    image = find_below(self.root, name, self.stores)
                    rows = [self._row(file, self.index, p) for p in self.index.positions(number)]
                    rows = [row for row in rows if row[columns.image] == name]
                    labels = columns.labels.of(rows) if columns.labels else ((), ())
                    said = [text for row in rows for text in columns.captions_of(row)]
                    captions, dropped = (), ()
                    if columns.labels is None or any(said):
                        captions, dropped = keep_captions(said)
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
            said = row.get(self.columns.split)
            return Rejected(key, f"no split in {self.columns.split!a}: {said!a:.100}", split)
        except ValueError as reason:
            return Rejected(key, str(reason), split)

    def _row(self, file: BinaryIO, index: Index, position: int) -> dict[str, Any]:
        _, offset, length = index[position]
        row = self.table.at(file, offset, length)
        if isinstance(row, str):
            raise ValueError(row)
        return row
