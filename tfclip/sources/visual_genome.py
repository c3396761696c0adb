"""Visual Genome (Krishna et al. 2017): pictures with region descriptions."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tfclip.console import say
from tfclip.sources.index import Index
from tfclip.sources.json_arrays import id_of, read_value, walk_arrays
from tfclip.sources.safe_paths import (
    cache_blobs,
    check_text,
    find_file,
    first_problem,
    missing,
    no_pictures,
)
from tfclip.sources.sample import Region, Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import SplitLists, choose_splits, count_lines, sample_splits

TREE = (
    "DIR/region_descriptions.json, DIR/VG_100K/<id>.jpg and DIR/VG_100K_2/<id>.jpg, and "
    "DIR/image_data.json (optional)"
)
FOLDERS = ("VG_100K", "VG_100K_2")
TRAIN, VAL = 80_000, 8_000
LARGEST = 1_000_000
"""Upper bound of sides and coordinates in pixels."""

_ID = re.compile(r"0|[1-9][0-9]{0,17}")


def open_visual_genome(data: Path, options: SourceOptions) -> Source:
    """Open `data`: region_descriptions.json and the pictures.

    Every region with a phrase and a positive area is kept with its box. There are no captions
    unless `options.phrases_as_captions` makes the phrases captions too. With image_data.json the
    samples have the picture size that the boxes refer to, and the keys of the same pictures in
    COCO.

    The splits are those of `options.id_lists`. Without it, 80,000 images for train and 8,000 for
    val are sampled by seed, and the rest (about 20,000) is unused; of fewer than 88,000 images one
    in eleven is val and the rest train.

    Raises:
        FileNotFoundError: no descriptions, or none of the pictures they describe.
        ValueError: malformed descriptions, or an empty split.
    """
    pictures = _Pictures(data, cache_blobs(data) if options.follow_links else ())
    images = pictures.images
    if options.id_lists:
        listed = SplitLists(options.id_lists)
        splits = choose_splits(options.id_lists, options.splits)
        counts = {split: count_lines(options.id_lists[split]) for split in splits}
        entries = {split: partial(_listed_entries, images, listed, split) for split in splits}
    else:
        sampled = _sample(images, options.seed)
        splits = choose_splits(sampled, options.splits)
        counts = {split: len(sampled[split]) for split in splits}
        entries = {split: partial(_sampled_entries, images, sampled[split]) for split in splits}

    def read(split: str) -> Iterator[Sample | Rejected]:
        return pictures.read(entries[split](), split, options.phrases_as_captions)

    return Source("visual_genome", counts, read)


def _sample(images: Index, seed: int) -> dict[str, np.ndarray]:
    total = len(images)
    val = VAL if total >= TRAIN + VAL else round(total * VAL / (TRAIN + VAL))
    sizes = {"train": min(TRAIN, total - val), "val": val}
    return sample_splits((images[position][0] for position in range(total)), sizes, seed)


def _sampled_entries(images: Index, positions: np.ndarray) -> Iterator[tuple[str, int, str]]:
    """Yield the id, the position and the problem ("" for none) of every entry."""
    for position in positions.tolist():
        number = images[position][0]
        first = images.positions(number)[0]
        problem = "" if first == position else f"duplicate id: entries {first} and {position}"
        yield str(number), position, problem if number >= 0 else f"entry {position} has no id"


def _listed_entries(
    images: Index, listed: SplitLists, split: str
) -> Iterator[tuple[str, int, str]]:
    for name, problem in listed.of(split):
        positions = images.positions(int(name)) if _ID.fullmatch(name) else []
        position = positions[0] if positions else -1
        yield name, position, problem or ("" if positions else "no such id in the descriptions")


class _Pictures:
    """The entries of region_descriptions.json; the file is read again entry by entry."""

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
        """Index the sizes and COCO ids; the field is `id` in version 1.0 and `image_id` in 1.2."""
        entries = matched = invalid = 0
        for _, _, _, entry in walk_arrays(path):
            number = id_of(entry, "image_id", "id")
            entries, matched = entries + 1, matched + bool(self.images.positions(number))
            width, height = id_of(entry, "width"), id_of(entry, "height")
            if 0 < width < LARGEST and 0 < height < LARGEST:
                self.sizes.add(number, width, height)
            coco = entry.get("coco_id") if isinstance(entry, dict) else None
            if (coco_number := id_of(entry, "coco_id")) >= 0:
                self.coco.add(number, coco_number, 0)
            elif coco is not None and coco == coco and coco != "":  # pandas writes NaN for none
                invalid += 1
        if matched < len(self.images):
            say(
                f"{path}: {matched:,} of its {entries:,} entries match one of the "
                f"{len(self.images):,} pictures in {self.path.name}; the boxes of the others are "
                "taken to refer to the size of the file"
            )
        if invalid:
            say(f"{path}: {invalid:,} values of coco_id are not whole numbers and are ignored")

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
    """Return the valid regions, and the reason for each region that is dropped."""
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
    box: list[Any] = [region.get(name) for name in ("x", "y", "width", "height")]
    # The comparisons are false for NaN.
    if not all(type(side) in (int, float) and -LARGEST < side < LARGEST for side in box):
        raise ValueError(f"box {box!a:.100}")
    x, y, width, height = box
    if width <= 0 or height <= 0:
        raise ValueError(f"no area: {width} x {height}")
    return Region(phrase, float(x), float(y), float(width), float(height))
