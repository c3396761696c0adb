"""COCO captions: the official files of 2014 and 2017, and Karpathy's dataset_coco.json."""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tfclip.console import say
from tfclip.sources.annotations.coco_instances import Instances
from tfclip.sources.index import Index
from tfclip.sources.json_arrays import id_of, read_value, walk_arrays
from tfclip.sources.safe_paths import (
    find_below,
    find_file,
    keep_captions,
    missing,
    no_pictures,
    own_store,
    plain_name,
)
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits

TREE = (
    "DIR/annotations/captions_<split>.json (or instances_<split>.json, for labels) with "
    "DIR/<split>/*.jpg (<split> is train2017, val2017 and the like), or DIR/dataset_coco.json with "
    "DIR/train2014/*.jpg and DIR/val2014/*.jpg"
)
KARPATHY = "dataset_coco.json"
KARPATHY_SPLITS = ("train", "restval", "val", "test")


def open_coco(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a folder with the official annotations or with Karpathy's, or Karpathy's file.

    The official splits are named by their files (train2017 for captions_train2017.json),
    Karpathy's are train, restval, val and test. Where both are in a folder, give its folder
    annotations, or the file dataset_coco.json.

    An image whose file_name holds folders is looked for there, then by its last part; one without
    (LVIS) by the last part of its coco_url. Ids may be whole numbers in any form, "42" and 42.0
    too. Width and height in the annotations are not read: the files may have been resized.

    Raises:
        FileNotFoundError: no annotations, or a split without any picture.
        ValueError: damaged annotations, a split without images, or both kinds in `data`.
    """
    official, karpathy = _official_files(data), _karpathy_file(data)
    instances = _official_files(data, "instances_")
    has_labels = bool(options.labels or (instances and not official and not karpathy))
    if official and karpathy:
        raise ValueError(
            f"{data} holds two kinds of annotations; give {karpathy} for Karpathy's splits or "
            f"{data / 'annotations'} for the official ones"
        )
    if karpathy:
        found = _open_karpathy(karpathy)
        opened = {name: found[name] for name in choose_splits(found, options.splits)}
    elif official or has_labels:
        found = instances if has_labels else official
        names = choose_splits(found, options.splits)
        opened = {
            name: _open_official(
                official.get(name), name, instances.get(name) if has_labels else None
            )
            for name in names
        }
    else:
        raise missing(data / "annotations/captions_*.json" if data.is_dir() else data, TREE)
    for split in opened.values():
        split.stores = own_store(split.root) if options.follow_links else ()
        split.check()
    counts = {name: len(split) for name, split in opened.items()}
    classes = dict.fromkeys(
        name for split in opened.values() if split.instances for name in split.instances.class_names
    )
    return Source("coco", counts, lambda name: opened[name].read(), tuple(classes))


def _official_files(data: Path, kind: str = "captions_") -> dict[str, Path]:
    folder = data if data.name == "annotations" else data / "annotations"
    return {path.stem.removeprefix(kind): path for path in sorted(folder.glob(f"{kind}*.json"))}


def _karpathy_file(data: Path) -> Path | None:
    if data.name == "annotations":
        return None
    places = (data, data / KARPATHY, data / "annotations" / KARPATHY)
    return next((path for path in places if path.is_file()), None)


def _open_official(path: Path | None, split: str, instances: Path | None) -> "_Split":
    """Open the captions of a split, its instances, or both."""
    labels = None if instances is None else Instances(instances)
    if labels and labels.unusable:
        say(f"{instances}: {labels.unusable:,} objects name no image or category, and are not used")
    if path is None:
        return _Split(instances, split, labels.images, range(len(labels.images)), Index(), labels)
    indexes = {"images": Index(), "annotations": Index()}
    fields = {"images": "id", "annotations": "image_id"}
    for name, offset, length, value in walk_arrays(path):
        if name in fields:
            indexes[name].add(id_of(value, fields[name]), offset, length)
    images, captions = indexes.values()
    return _Split(path, split, images, range(len(images)), captions, labels)


def _open_karpathy(path: Path) -> dict[str, "_Split"]:
    images, positions = Index(), {name: array("q") for name in KARPATHY_SPLITS}
    for name, offset, length, value in walk_arrays(path):
        if name == "images":
            split = value.get("split") if isinstance(value, dict) else None
            if split not in KARPATHY_SPLITS:
                raise ValueError(
                    f"{path}, byte {offset:,}: no image with one of the splits "
                    f"{', '.join(KARPATHY_SPLITS)}"
                )
            positions[split].append(len(images))
            images.add(id_of(value, "cocoid"), offset, length)
    if not len(images):
        raise ValueError(f"{path} lists no image")
    if all(images[at][0] < 0 for at in range(len(images))):
        raise ValueError(
            f"{path} lists no image with a cocoid; Karpathy's files for Flickr8k and Flickr30k are "
            "read by the sources flickr8k and flickr30k"
        )
    return {name: _Split(path, name, images, at) for name, at in positions.items() if at}


class _Split:
    """The image entries of one split, in a JSON file that is read again entry by entry."""

    def __init__(
        self,
        path: Path,
        name: str,
        images: Index,
        positions: Sequence[int],
        captions: Index | None = None,
        instances: Instances | None = None,
    ):
        """Without `captions` (by image id) an image entry holds its own; `instances` are labels."""
        self.instances = instances
        self.path, self.name, self.images, self.positions = path, name, images, positions
        self.captions = captions
        self.root = path.parents[1] if path.parent.name == "annotations" else path.parent
        self.stores: tuple[Path, ...] = ()
        self.told_folders = False
        mentioned = () if captions is None else captions.first_positions(each=-1)
        # Every caption without a usable id counts: they may be of as many pictures.
        self.unlisted = [
            position
            for position in mentioned
            if (number := captions[position][0]) < 0 or not images.positions(number)
        ]

    def __len__(self) -> int:
        return len(self.positions) + len(self.unlisted)

    def check(self) -> None:
        """Refuse a split without image entries, or without any of their pictures."""
        if not len(self.positions):
            raise ValueError(f"{self.path} lists no image")
        problem = None
        with self.path.open("rb") as file:
            for position in self.positions:
                try:
                    self._picture(self._entry(file, position))
                    return
                except ValueError as reason:
                    problem = problem or reason
        raise no_pictures(self.path, [self.root / self.name], TREE, problem)

    def read(self) -> Iterator[Sample | Rejected]:
        """Yield the samples in the order of the file, then the ids that only captions mention."""
        with self.path.open("rb") as file:
            for position in self.positions:
                number = self.images[position][0]
                key = f"coco/{number}"
                try:
                    entry = self._entry(file, position)
                    first = self.images.positions(number)[0]
                    if first != position:
                        names = _name(self._entry(file, first)), _name(entry)
                        raise ValueError("duplicate id: {!a:.100} and {!a:.100}".format(*names))
                    image = self._picture(entry)
                    labels, difficult = self.instances.of(number) if self.instances else ((), ())
                    said = self._captions(file, number, entry)
                    captions, dropped = (), ()
                    if said or not self.instances:
                        captions, dropped = keep_captions(said)
                except ValueError as reason:
                    yield Rejected(key, str(reason), self.name)
                    continue
                yield Sample(
                    key,
                    image,
                    captions,
                    labels=labels,
                    difficult=difficult,
                    split=self.name,
                    dropped=dropped,
                )
            for position in self.unlisted:
                number, offset, length = self.captions[position]
                key, reason = f"coco/{number}", "captions of an image that is not listed"
                if number < 0:
                    key = f"coco/caption at byte {offset}"
                    told = read_value(file, offset, length)
                    found = told.get("image_id") if isinstance(told, dict) else told
                    reason = f"a caption whose image_id is no whole number: {found!a:.100}"
                yield Rejected(key, reason, self.name)

    def _entry(self, file: BinaryIO, position: int) -> dict:
        number, offset, length = self.images[position]
        entry = read_value(file, offset, length)
        if number < 0:
            told = entry.get("id", entry.get("cocoid")) if isinstance(entry, dict) else entry
            raise ValueError(
                f"an image entry whose id is no whole number but {told!a:.100}, at byte "
                f"{offset:,} of {self.path.name}"
            )
        return entry

    def _picture(self, entry: dict) -> Path:
        folder = plain_name(entry.get("filepath", self.name))  # only Karpathy's has one
        folders = [self.root / folder, self.root / "images" / folder]
        name = _name(entry)
        if isinstance(name, str) and "/" in name and ".." not in name.split("/"):
            for root in (self.root, self.root / "images", *folders):
                try:
                    return find_below(root, name, self.stores)
                except ValueError:
                    continue
            name = name.rpartition("/")[2]
            if not self.told_folders:
                self.told_folders = True
                say(f"{self.path}: its file names hold folders; only their last parts are used")
        return find_file(self.root, folders, name, self.stores)

    def _captions(self, file: BinaryIO, number: int, entry: dict) -> list:
        if self.captions is None:
            sentences = entry.get("sentences")
            sentences = sentences if isinstance(sentences, list) else []
            return [s.get("raw") if isinstance(s, dict) else None for s in sentences]
        places = (self.captions[p] for p in self.captions.positions(number))
        return [read_value(file, offset, length).get("caption") for _, offset, length in places]


def _name(entry: dict) -> object:
    """Return the name of the file; LVIS has only the address that it was at."""
    for field in ("file_name", "filename"):
        if entry.get(field) is not None:
            return entry[field]
    url = entry.get("coco_url")
    return url.rpartition("/")[2] if isinstance(url, str) else None
