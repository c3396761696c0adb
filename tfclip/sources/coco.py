"""COCO captions (Chen et al. 2015): the official files, and Karpathy's dataset_coco.json."""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from tfclip.console import say
from tfclip.sources.annotations.coco_instances import Instances
from tfclip.sources.annotations.karpathy import raw_sentences
from tfclip.sources.index import Index
from tfclip.sources.json_arrays import id_of, read_value, walk_arrays
from tfclip.sources.safe_paths import (
    cache_blobs,
    find_below,
    find_file,
    keep_captions,
    missing,
    no_pictures,
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
    """Open `data`: a folder with the official or Karpathy's annotations, or Karpathy's file.

    The official splits are named after their files (train2017 for captions_train2017.json);
    Karpathy's are train, restval, val and test. For a folder with both, give its subfolder
    `annotations` or the file `dataset_coco.json`.

    With `options.labels`, or where there are no captions, the classes of instances_<split>.json are
    the labels.

    A file_name with folders is tried as it is, then by its last part alone; an image without a
    file_name (LVIS) is found by the last part of its coco_url. Ids may be whole numbers in any
    form, also "42" and 42.0. Width and height in the annotations are ignored, because the files may
    have been resized.

    Raises:
        FileNotFoundError: no annotations, or a split none of whose pictures exist.
        ValueError: malformed annotations, a split that lists no image, or both kinds in `data`.
    """
    official, karpathy = _official_files(data), _karpathy_file(data)
    instances = _official_files(data, "instances_")
    has_labels = bool(options.labels or (instances and not official and not karpathy))
    if official and karpathy:
        raise ValueError(
            f"{data} holds two kinds of annotations; name {karpathy} for Karpathy's splits or "
            f"{data / 'annotations'} for the official ones"
        )
    if karpathy:
        karpathys = _open_karpathy(karpathy)
        opened = {name: karpathys[name] for name in choose_splits(karpathys, options.splits)}
    elif has_labels:
        opened = {
            name: _open_labelled(_open_instances(instances[name]), name, official.get(name))
            for name in choose_splits(instances, options.splits)
        }
    elif official:
        opened = {
            name: _open_captions(official[name], name)
            for name in choose_splits(official, options.splits)
        }
    else:
        for name in ("flickr8k", "flickr30k"):
            if (data / f"dataset_{name}.json").is_file():
                raise FileNotFoundError(
                    f"{data} holds dataset_{name}.json, Karpathy's file of {name}; pack it with: "
                    f"python -m tfclip.make_records {name} --data {data} --out DIR"
                )
        raise missing(data / "annotations/captions_*.json" if data.is_dir() else data, TREE)
    for split in opened.values():
        split.stores = cache_blobs(split.root) if options.follow_links else ()
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


def _open_instances(path: Path) -> Instances:
    instances = Instances(path)
    if instances.unusable:
        say(f"{path}: {instances.unusable:,} objects without an image or category are ignored")
    return instances


def _open_labelled(instances: Instances, split: str, captions: Path | None) -> "_Split":
    """Open the labels of a split, with its captions where it has some."""
    if captions is not None:
        return _open_captions(captions, split, instances)
    images = instances.images
    return _Split(instances.path, split, images, range(len(images)), Index(), instances)


def _open_captions(path: Path, split: str, instances: Instances | None = None) -> "_Split":
    images, captions = Index(), Index()
    for name, offset, length, value in walk_arrays(path):
        if name == "images":
            images.add(id_of(value, "id"), offset, length)
        elif name == "annotations":
            captions.add(id_of(value, "image_id"), offset, length)
    return _Split(path, split, images, range(len(images)), captions, instances)


def _open_karpathy(path: Path) -> dict[str, "_Split"]:
    images, positions = Index(), {name: array("q") for name in KARPATHY_SPLITS}
    for name, offset, length, value in walk_arrays(path):
        if name == "images":
            split = value.get("split") if isinstance(value, dict) else None
            if split not in KARPATHY_SPLITS:
                raise ValueError(
                    f"{path}, byte {offset:,}: an image whose split is {split!a:.50}; allowed: "
                    f"{', '.join(KARPATHY_SPLITS)}"
                )
            positions[split].append(len(images))
            images.add(id_of(value, "cocoid"), offset, length)
    if not len(images):
        raise ValueError(f"{path} lists no image")
    if all(images[at][0] < 0 for at in range(len(images))):
        raise ValueError(
            f"{path} lists no image with a cocoid; for Karpathy's files of Flickr8k and Flickr30k "
            "use the sources flickr8k and flickr30k"
        )
    return {name: _Split(path, name, images, at) for name, at in positions.items() if at}


class _Split:
    """The image entries of one split; the JSON file is read again entry by entry."""

    def __init__(
        self,
        path: Path,
        name: str,
        images: Index,
        positions: Sequence[int],
        captions: Index | None = None,
        instances: Instances | None = None,
    ):
        """Take the images at `positions`; `captions` are by image id, None when images hold their
        own."""
        self.instances = instances
        self.path, self.name, self.images, self.positions = path, name, images, positions
        self.captions = captions
        self.root = path.parents[1] if path.parent.name == "annotations" else path.parent
        self.stores: tuple[Path, ...] = ()
        self.reported_folders = False
        self.unlisted = [] if captions is None else _captions_without_image(captions, images)

    def __len__(self) -> int:
        return len(self.positions) + len(self.unlisted)

    def check(self) -> None:
        """Raise when the split lists no image, or none of its pictures exists."""
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
        """Yield the samples in the order of the file, then the captions of unlisted images."""
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
                    texts = self._captions(file, number, entry)
                    captions: tuple[str, ...] = ()
                    dropped: tuple[str, ...] = ()
                    if texts or not self.instances:
                        captions, dropped = keep_captions(texts)
                except ValueError as error:
                    yield Rejected(key, str(error), self.name)
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
            for number, offset, length in self.unlisted:
                key, reason = f"coco/{number}", "captions of an image that is not listed"
                if number < 0:
                    key = f"coco/caption at byte {offset}"
                    caption = read_value(file, offset, length)
                    image_id = caption.get("image_id") if isinstance(caption, dict) else caption
                    reason = f"the image_id of a caption is not a whole number: {image_id!a:.100}"
                yield Rejected(key, reason, self.name)

    def _entry(self, file: BinaryIO, position: int) -> dict:
        number, offset, length = self.images[position]
        entry = read_value(file, offset, length)
        if number < 0:
            image_id = entry.get("id", entry.get("cocoid")) if isinstance(entry, dict) else entry
            raise ValueError(
                f"the id of an image is not a whole number: {image_id!a:.100}, at byte "
                f"{offset:,} of {self.path.name}"
            )
        return entry

    def _picture(self, entry: dict) -> Path:
        folder = plain_name(entry.get("filepath", self.name))  # only in Karpathy's file
        folders = [self.root / folder, self.root / "images" / folder]
        name = _name(entry)
        if isinstance(name, str) and "/" in name and ".." not in name.split("/"):
            for root in (self.root, self.root / "images", *folders):
                try:
                    return find_below(root, name, self.stores)
                except ValueError:
                    continue
            name = name.rpartition("/")[2]
            if not self.reported_folders:
                self.reported_folders = True
                say(f"{self.path}: the folders in its file names do not exist and are ignored")
        return find_file(self.root, folders, name, self.stores)

    def _captions(self, file: BinaryIO, number: int, entry: dict) -> list:
        if self.captions is None:
            return raw_sentences(entry)
        places = (self.captions[p] for p in self.captions.positions(number))
        return [read_value(file, offset, length).get("caption") for _, offset, length in places]


def _captions_without_image(captions: Index, images: Index) -> list[tuple[int, int, int]]:
    """Return one caption for every id that is not among the images, and all without a valid id:
    each of them may be of another picture."""
    firsts = (captions[position] for position in captions.first_positions(each=-1))
    return [first for first in firsts if first[0] < 0 or not images.positions(first[0])]


def _name(entry: dict) -> object:
    """Return the file name of an image entry; LVIS has only its URL."""
    for field in ("file_name", "filename"):
        if entry.get(field) is not None:
            return entry[field]
    url = entry.get("coco_url")
    return url.rpartition("/")[2] if isinstance(url, str) else None
