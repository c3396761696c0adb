"""Open Images (Kuznetsova et al. 2020): multi-label pictures with human-verified labels."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfclip.console import say
from tfclip.sources.index import Index
from tfclip.sources.safe_paths import (
    cache_blobs,
    find_file,
    first_problem,
    is_class_name,
    missing,
    no_pictures,
)
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, split_in, stable_hash
from tfclip.sources.tables.delimited import Table

TREE = (
    "DIR/<split>-annotations-human-imagelabels.csv (or -annotations-bbox.csv), "
    "DIR/class-descriptions.csv (optional) and DIR/<split>/<ImageID>.jpg"
)
COLUMNS = ("ImageID", "LabelName")
MOST_CLASSES = 50_000

_DESCRIPTIONS = re.compile(r"class-descriptions.*\.csv")


def open_open_images(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a folder with tables of ImageID and LabelName, one or more for each split.

    A label of Confidence 0 is verified as absent. In tables of boxes, a class of which all boxes of
    a picture are IsGroupOf is difficult. Class names come from class-descriptions*.csv; without
    that file the codes are the names. A class that was not verified for a picture counts as absent,
    which is reported.

    Raises:
        FileNotFoundError: no table with these columns, or a split none of whose pictures exist.
        ValueError: a malformed table, or more than 50,000 classes.
    """
    tables: dict[str, list[Table]] = {}
    for path in sorted(data.glob("*.csv")):
        if not _DESCRIPTIONS.search(path.name):
            table = Table(path)
            if set(COLUMNS) <= set(table.columns):
                tables.setdefault(split_in(path.stem) or "train", []).append(table)
    if not tables:
        raise missing(data / "<split>-annotations-human-imagelabels.csv", TREE)
    names = _descriptions(data)
    stores = cache_blobs(data) if options.follow_links else ()
    splits = {
        split: _Split(data, split, tables[split], names, stores)
        for split in choose_splits(tables, options.splits)
    }
    used = dict.fromkeys(code for split in splits.values() for code in split.codes)
    classes = options.class_names or tuple(sorted({names.get(code, code) for code in used}))
    say(f"{data}: a class that was not verified for a picture counts as absent")
    if unnamed := [code for code in used if code not in names]:
        say(
            f"{data}: {len(unnamed):,} classes have no name in class-descriptions*.csv and keep "
            "their codes"
        )
    counts = {name: len(split.firsts) for name, split in splits.items()}
    return Source("open_images", counts, lambda split: splits[split].read(classes), classes)


def _descriptions(data: Path) -> dict[str, str]:
    """Return the class names by code. Some of these files begin with a header line."""
    names: dict[str, str] = {}
    for path in sorted(path for path in data.glob("*.csv") if _DESCRIPTIONS.search(path.name)):
        with path.open(encoding="utf-8-sig", errors="replace") as lines:
            for line in lines:
                code, comma, name = line.strip().partition(",")
                if comma and code.startswith("/") and len(names) < MOST_CLASSES:
                    names.setdefault(code, name.strip().strip('"'))
    return names


class _Split:
    """The rows of one split; the rows of one picture need not be adjacent."""

    def __init__(
        self,
        data: Path,
        split: str,
        tables: list[Table],
        names: dict[str, str],
        stores: tuple[Path, ...],
    ):
        self.data, self.split, self.tables, self.names = data, split, tables, names
        self.folders, self.stores = [data / split, data / "images" / split, data], stores
        self.index, self.starts = Index(), [0]
        self.codes: dict[str, None] = {}
        for table in tables:
            end = self.starts[-1]
            for offset, length, row in table.rows():
                number = stable_hash(row["ImageID"]) if isinstance(row, dict) else -1
                self.index.add(number, self.starts[-1] + offset, length)
                if isinstance(row, dict) and row["LabelName"]:
                    self.codes[row["LabelName"]] = None
                    if len(self.codes) > MOST_CLASSES:
                        raise ValueError(f"{table.path} has more than {MOST_CLASSES:,} classes")
                end = self.starts[-1] + offset + length
            self.starts.append(end)
        self.firsts = self.index.first_positions(each=-1)
        ids = (row["ImageID"] for row in self._rows(self.firsts) if isinstance(row, dict))
        pictures = (f"{number}.jpg" for number in ids)
        if problem := first_problem(data, self.folders, pictures, stores):
            raise no_pictures(tables[0].path, self.folders, TREE, problem)

    def read(self, classes: tuple[str, ...]) -> Iterator[Sample | Rejected]:
        """Yield a sample for every picture, in the order of its first row."""
        place = {name: at for at, name in enumerate(classes)}
        for position, row in zip(self.firsts, self._rows(self.firsts), strict=True):
            key = f"open_images/row at byte {self.index[position][1]}"
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                number = row["ImageID"]
                key = f"open_images/{number}"
                image = find_file(self.data, self.folders, f"{number}.jpg", self.stores)
                present, groups = self._labels(number, self.index.positions(stable_hash(number)))
                for name in present | groups:
                    if not is_class_name(name):
                        raise ValueError(f"invalid class name: {name!a:.100}")
                if unknown := (present | groups) - set(place):
                    raise ValueError(f"the class {min(unknown)!a:.100} is not in --class-names")
            except ValueError as reason:
                yield Rejected(key, str(reason), self.split)
                continue
            yield Sample(
                key,
                image,
                labels=tuple(sorted(present, key=place.__getitem__)),
                difficult=tuple(sorted(groups - present, key=place.__getitem__)),
                split=self.split,
            )

    def _labels(self, number: str, positions: list[int]) -> tuple[set[str], set[str]]:
        present: set[str] = set()
        groups: set[str] = set()
        for row in self._rows(positions):
            if not isinstance(row, dict) or row["ImageID"] != number or not row["LabelName"]:
                continue
            if row.get("Confidence", "1").strip() in ("0", "0.0"):
                continue
            name = self.names.get(row["LabelName"], row["LabelName"])
            (groups if row.get("IsGroupOf", "0").strip() == "1" else present).add(name)
        return present, groups

    def _rows(self, positions: Iterable[int]) -> Iterator[dict | str]:
        files = [table.open() for table in self.tables]
        try:
            for position in positions:
                _, offset, length = self.index[position]
                which = max(n for n, start in enumerate(self.starts[:-1]) if start <= offset)
                yield self.tables[which].at(files[which], offset - self.starts[which], length)
        finally:
            for file in files:
                file.close()
