"""Karpathy's JSON of Flickr8k and Flickr30k (2015): pictures by file name, with splits."""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfclip.sources.index import Index
from tfclip.sources.json_arrays import read_value, walk_arrays
from tfclip.sources.safe_paths import find_file, first_problem, keep_captions, no_pictures
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, stable_hash

SPLITS = ("train", "val", "test")
TREE = "DIR/dataset_flickr8k.json (or dataset_flickr30k.json) with DIR/Images/*.jpg"


def karpathy_file(data: Path) -> Path | None:
    """Return the file in `data`, or `data` itself, None when there is none."""
    if data.is_file():
        return data if data.suffix == ".json" else None
    return next((path for path in sorted(data.glob("dataset_flickr*.json"))), None)


def open_karpathy(
    path: Path,
    name: str,
    root: Path,
    folders: Sequence[Path],
    stores: Sequence[Path],
    options: SourceOptions,
) -> Source:
    """Open the file: `images`, each with a filename, a split and sentences.

    Raises:
        FileNotFoundError: none of the pictures of a split is in the folders.
        ValueError: no image, or one without a split.
    """
    images, positions = Index(), {split: array("q") for split in SPLITS}
    for array_name, offset, length, value in walk_arrays(path):
        if array_name != "images":
            continue
        split = value.get("split") if isinstance(value, dict) else None
        if split not in SPLITS:
            told = ", ".join(SPLITS)
            raise ValueError(f"{path}, byte {offset:,}: no image with one of the splits {told}")
        positions[split].append(len(images))
        named = value.get("filename")
        images.add(stable_hash(named) if isinstance(named, str) else -1, offset, length)
    found = [split for split in SPLITS if positions[split]]
    if not found:
        raise ValueError(f"{path} lists no image")
    splits = choose_splits(found, options.splits)

    def entries(split: str) -> Iterator[tuple[int, dict]]:
        with path.open("rb") as file:
            for position in positions[split]:
                _, offset, length = images[position]
                yield position, read_value(file, offset, length)

    for split in splits:
        names = (entry.get("filename") for _, entry in entries(split))
        if problem := first_problem(root, folders, names, stores):
            raise no_pictures(path, folders[:-1], TREE, problem)

    def read(split: str) -> Iterator[Sample | Rejected]:
        for position, entry in entries(split):
            file_name = entry.get("filename")
            stem = str(file_name).removesuffix(".jpg")
            key = f"{name}/{stem}"
            try:
                first = images.positions(images[position][0])[0]
                if first != position:
                    raise ValueError(f"duplicate name: entries {first} and {position}")
                image = find_file(root, folders, file_name, stores)
                captions, dropped = keep_captions(_sentences(entry))
            except ValueError as reason:
                yield Rejected(key, str(reason), split)
                continue
            yield Sample(key, image, captions, split=split, dropped=dropped)

    counts = {split: len(positions[split]) for split in splits}
    return Source(name, counts, read)


def _sentences(entry: dict) -> list:
    sentences = entry.get("sentences")
    sentences = sentences if isinstance(sentences, list) else []
    return [one.get("raw") if isinstance(one, dict) else None for one in sentences]
