"""Flickr8k and Flickr30k in the JSON of Karpathy and Fei-Fei (2015), with their splits."""

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
    """Return the JSON file that `data` is or contains, or None."""
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
    """Open Karpathy's file at `path`, whose images have a filename, a split and sentences.

    Args:
        path: the JSON file.
        name: the name of the source, which is the prefix of the keys.
        root: the data folder; links in `folders` may point into it.
        folders: the folders of the pictures, in the order of the search.
        stores: further folders that links may point into, see `safe_paths.cache_blobs`.
        options: `splits` is used.

    Raises:
        FileNotFoundError: none of the pictures of a split is in the folders.
        ValueError: no image, or an image without one of the splits.
    """
    images, positions = Index(), {split: array("q") for split in SPLITS}
    for array_name, offset, length, value in walk_arrays(path):
        if array_name != "images":
            continue
        split = value.get("split") if isinstance(value, dict) else None
        if split not in SPLITS:
            raise ValueError(
                f"{path}, byte {offset:,}: an image whose split is {split!a:.50}; allowed: "
                f"{', '.join(SPLITS)}"
            )
        positions[split].append(len(images))
        file_name = value.get("filename")
        images.add(stable_hash(file_name) if isinstance(file_name, str) else -1, offset, length)
    available = [split for split in SPLITS if positions[split]]
    if not available:
        raise ValueError(f"{path} lists no image")
    splits = choose_splits(available, options.splits)

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
                captions, dropped = keep_captions(raw_sentences(entry))
            except ValueError as reason:
                yield Rejected(key, str(reason), split)
                continue
            yield Sample(key, image, captions, split=split, dropped=dropped)

    counts = {split: len(positions[split]) for split in splits}
    return Source(name, counts, read)


def raw_sentences(entry: dict) -> list:
    """Return the sentences of an image entry, not yet checked; None for each malformed one."""
    sentences = entry.get("sentences")
    sentences = sentences if isinstance(sentences, list) else []
    return [one.get("raw") if isinstance(one, dict) else None for one in sentences]
