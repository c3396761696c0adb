"""Visual Genome (Krishna et al. 2017): pictures with phrases for their regions."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tfclip.console import say
from tfclip.sources.index import Index
from tfclip.sources.json_arrays import id_of, read_value, walk_arrays
from tfclip.sources.safe_paths import (
    check_text,
    find_file,
    first_problem,
    missing,
    no_pictures,
    own_store,
)
from tfclip.sources.sample import Region, Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import Listed, choose_splits, count_lines, draw_splits

TREE = (
    "DIR/region_descriptions.json, DIR/VG_100K/<id>.jpg and DIR/VG_100K_2/<id>.jpg, and "
    "DIR/image_data.json (optional)"
)
FOLDERS = ("VG_100K", "VG_100K_2")
TRAIN, VAL = 80_000, 8_000
LARGEST = 1_000_000
"""Pixels: no side and no coordinate is larger."""

_ID = re.compile(r"0|[1-9][0-9]{0,17}")


def open_visual_genome(data: Path, options: SourceOptions) -> Source:
    """Open `data`: region_descriptions.json and the pictures.

    Every region with a phrase and an area is kept with its box; the captions are empty, or the
    phrases when `options.phrases_as_captions`. With image_data.json the samples know which size
    the boxes are for, and which of COCO's pictures they are.

    The splits are those of `options.id_lists`. Without, 80,000 images for train and 8,000 for val
    are drawn by seed, and the rest (about 20,000) is not used; of fewer than 88,000 images an
    eleventh is val and the rest train.

    Raises:
        FileNotFoundError: no descriptions, or not one of the pictures they are about.
        ValueError: damaged descriptions, or an empty split.
    """
    pictures = _Pictures(data, own_store(data) if options.follow_links else ())
    images = pictures.images
    if options.id_lists:
        listed = Listed(options.id_lists)
        splits = choose_splits(options.id_lists, options.splits)
        counts = {split: count_lines(options.id_lists[split]) for split in splits}
        entries = {split: partial(_listed_entries, images, listed, split) for split in splits}
    else:
        drawn = _draw(images, options.seed)
        splits = choose_splits(drawn, options.splits)
        counts = {split: len(drawn[split]) for split in splits}
        entries = {split: partial(_drawn_entries, images, drawn[split]) for split in splits}

    def read(split: str) -> Iterator[Sample | Rejected]:
        return pictures.read(entries[split](), split, options.phrases_as_captions)

    return Source("visual_genome", counts, read)


def _draw(images: Index, seed: int) -> dict[str, np.ndarray]:
    total = len(images)
    val = VAL if total >= TRAIN + VAL else round(total * VAL / (TRAIN + VAL))
    sizes = {"train": min(TRAIN, total - val), "val": val}
    return draw_splits((images[position][0] for position in range(total)), sizes, seed)


def _drawn_entries(images: Index, positions: np.ndarray) -> Iterator[tuple[str, int, str]]:
    """Yield the id and the position of every entry, and what is wrong with it."""
    for position in positions.tolist():
        number = images[position][0]
        first = images.positions(number)[0]
        problem = "" if first == position else f"duplicate id: entries {first} and {position}"
        yield str(number), position, problem if number >= 0 else f"entry {position} has no id"


def _listed_entries(images: Index, listed: Listed, split: str) -> Iterator[tuple[str, int, str]]:
    for name, problem in listed.of(split):
        known = images.positions(int(name)) if _ID.fullmatch(name) else []
        position = known[0] if known else -1
        yield name, position, problem or ("" if known else "no such id in the descriptions")


class _Pictures:
    """The entries of region_descriptions.json, read again one by one."""

    def __init__(self, data: Path, stores: tuple[Path, ...]):
        self.data, self.folders = data, [data / name for name in FOLDERS]
        self.stores = stores
        self.path = data / "region_descriptions.json"
        if not self.path.is_file():
            raise missing(self.path if data.is_dir() else data, TREE)
        self.images = Index()
        for _, offset, length, entry in walk_arrays(self.path):
            self.images.add(id_of(entry, "id", "image_id"), offset, length)
        if not len(self.images):
            raise ValueError(f"{self.path} lists no image")
        names = (f"{self.images[position][0]}.jpg" for position in range(len(self.images)))
        if problem := first_problem(data, self.folders, names, stores):
            raise no_pictures(self.path, self.folders, TREE, problem)
        self.sizes, self.coco, path = Index(), Index(), data / "image_data.json"
        if path.is_file():
            self._read_image_data(path)

    def _read_image_data(self, path: Path) -> None:
        """Note the sizes and the COCO ids; version 1.0 says id where 1.2 says image_id."""
        entries = known = strange = 0
        for _, _, _, entry in walk_arrays(path):
            number = id_of(entry, "image_id", "id")
            entries, known = entries + 1, known + bool(self.images.positions(number))
            width, height = id_of(entry, "width"), id_of(entry, "height")
            if 0 < width < LARGEST and 0 < height < LARGEST:
                self.sizes.add(number, width, height)
            coco = entry.get("coco_id") if isinstance(entry, dict) else None
            if (coco_number := id_of(entry, "coco_id")) >= 0:
                self.coco.add(number, coco_number, 0)
            elif coco is not None and coco == coco and coco != "":  # pandas writes NaN for none
                strange += 1
        if known < len(self.images):
            say(
                f"{path}: {known:,} of its {entries:,} entries are of a picture in "
                f"{self.path.name}, which lists {len(self.images):,}; the boxes of the others are "
                "taken in the size of their file"
            )
        if strange:
            say(f"{path}: {strange:,} values of coco_id are no whole numbers, and are not used")

    def read(
        self, entries: Iterator[tuple[str, int, str]], split: str, phrases_as_captions: bool
    ) -> Iterator[Sample | Rejected]:
        """Yield a sample for every (id, position, problem) of `entries`."""
        with self.path.open("rb") as file:
            for name, position, problem in entries:
                key = f"visual_genome/{name}"
                try:
                    if problem:
                        raise ValueError(problem)
                    image = find_file(self.data, self.folders, f"{name}.jpg", self.stores)
                    number, offset, length = self.images[position]
                    regions, dropped = _regions(read_value(file, offset, length))
                except ValueError as reason:
                    yield Rejected(key, str(reason), split)
                    continue
                phrases = dict.fromkeys(region.phrase for region in regions)
                size, coco = self.sizes.positions(number), self.coco.positions(number)
                yield Sample(
                    key,
                    image,
                    captions=tuple(phrases) if phrases_as_captions else (),
                    regions=regions,
                    split=split,
                    coordinates_size=self.sizes[size[0]][1:] if size else None,
                    dropped=dropped,
                    other_keys=tuple(f"coco/{self.coco[at][1]}" for at in coco),
                )


def _regions(entry: dict) -> tuple[tuple[Region, ...], tuple[str, ...]]:
    """Return the usable regions, and for each of the others why it is dropped."""
    listed = entry.get("regions")
    if not isinstance(listed, list):
        raise ValueError("no list of regions")
    kept, dropped = [], []
    for number, region in enumerate(listed, 1):
        try:
            kept.append(_region(region))
        except ValueError as reason:
            dropped.append(f"region {number}: {reason}")
    if not kept:
        raise ValueError("; ".join(["no region", *dropped]))
    return tuple(kept), tuple(dropped)


def _region(region: object) -> Region:
    if not isinstance(region, dict):
        raise ValueError("not an object")
    phrase = check_text(region.get("phrase"))
    x, y, width, height = box = [region.get(name) for name in ("x", "y", "width", "height")]
    # Comparing refuses NaN too.
    if not all(type(side) in (int, float) and -LARGEST < side < LARGEST for side in box):
        raise ValueError(f"box {box!a:.100}")
    if width <= 0 or height <= 0:
        raise ValueError(f"no area: {width} x {height}")
    return Region(phrase, float(x), float(y), float(width), float(height))
