"""TFRecords of other programs: img2dataset, TF Model Garden's COCO, one record per caption."""

import hashlib
import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from tfclip.naming import nearest
from tfclip.sources.archives.gzip_copy import GunzippedFile
from tfclip.sources.index import Index
from tfclip.sources.safe_paths import MAX_PICTURE_BYTES, is_class_name, keep_captions, missing
from tfclip.sources.sample import Region, Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, files_by_split, stable_hash

TREE = "a TFRecord file, or DIR/*.tfrecord (.tfrecords, .record, also with -00000-of-00010)"
IMAGES = "image/encoded jpg jpeg png webp image raw_image image_raw image_bytes image/data".split()
CAPTIONS = "image/caption txt caption captions text sentence sentences".split()
KEYS = "image/key image/source_id image/image_id image/id key image_id id".split()
KEYS += "image/filename filename file_name __key__".split()
CLASS, DIFFICULT, BOX = "image/object/class/text", "image/object/difficult", "image/object/bbox/"

_NAME = re.compile(r"\.(tfrecords?|record)(-\d+-of-\d+)?(\.gz)?$")
_HEADER = 12
"""Bytes before the content of a record: its length (8) and the checksum of the length (4)."""
_FRAME = _HEADER + 4
"""Bytes of a record apart from its content."""


def open_foreign_tfrecord(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a TFRecord file of `tf.train.Example`s, or a folder of such files.

    The picture, its captions and its id are in the features `options.image_field`,
    `caption_fields` and `key_field`, or in the first present one of `IMAGES`, `CAPTIONS` and
    `KEYS`. Records with the same id and picture make one sample with all their captions; without
    ids, records with the same picture. The classes of objects (image/object/class/text) are labels;
    with `options.boxes_as_regions` their boxes are also regions. Checksums are verified. Files
    compressed with GZIP are read from temporary uncompressed copies.

    Raises:
        FileNotFoundError: no such files.
        ValueError: no picture in a split; the message lists its features.
    """
    shards = files_by_split(data, _NAME)
    if not shards:
        raise missing(data / "*.tfrecord" if data.is_dir() else data, TREE)
    chosen = choose_splits(shards, options.splits)
    splits = {split: _Split(shards[split], split, options) for split in chosen}
    counts = {split: len(opened.items) for split, opened in splits.items()}
    classes = sorted({name for opened in splits.values() for name in opened.class_names})
    return Source("foreign_tfrecord", counts, lambda split: splits[split].read(), tuple(classes))


def _parse(serialized: bytes) -> dict[str, list]:
    """Return the values of every feature.

    Raises ValueError for bytes that are not a `tf.train.Example`.
    """
    # Imported here because the import is slow, and other sources do not need it.
    import tensorflow as tf

    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except Exception as error:  # protobuf's DecodeError, which is not public
        raise ValueError(f"not a tf.train.Example: {error}") from None
    return {
        name: list(getattr(feature, feature.WhichOneof("kind")).value)
        for name, feature in features.items()
        if feature.WhichOneof("kind")
    }


def _text(value: object) -> object:
    # Invalid UTF-8 becomes lone surrogates, which `check_text` refuses.
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


class _Split:
    """The records of one split, indexed by sample and id."""

    def __init__(self, files: list[Path], split: str, options: SourceOptions):
        self.files, self.split, self.options = (
            [GunzippedFile(file) for file in files],
            split,
            options,
        )
        self.image = (options.image_field,) if options.image_field else IMAGES
        self.captions = options.caption_fields or CAPTIONS
        self.key = (options.key_field,) if options.key_field else KEYS
        self.starts = array("q")
        # groups: the records of one sample, by id and picture. ids: by id alone, for duplicates.
        self.groups, self.ids = Index(), Index()
        self.damage: dict[int, str] = {}
        self.class_names: set[str] = set()
        seen: dict[str, None] = {}
        pictures, offset = 0, 0
        for file in self.files:
            self.starts.append(offset)
            for place, serialized, damage in _records(file.path):
                pictures += self._note(offset + place, serialized, damage, seen)
            offset += file.path.stat().st_size
        if not pictures:
            names = ", ".join(f"{n!a:.40}" for n in nearest(self.image[0], seen)[:20]) or "none"
            raise ValueError(
                f"no picture in {files[0]}; name its feature with --image-feature; the "
                f"features are, nearest first: {names}"
            )
        self.items = self.groups.first_positions(each=-1)

    def _note(self, offset: int, serialized: bytes, damage: str, seen: dict[str, None]) -> bool:
        """Add a record to the indexes; return whether it holds a picture."""
        group, number = -1, -1
        picture = None
        if damage:
            self.damage[len(self.groups)] = damage
        else:
            try:
                values = _parse(serialized)
                if len(seen) < 1000:
                    seen.update(dict.fromkeys(values))
                self.class_names.update(_classes(values)[0])
                picture = _first(values, self.image)
                if isinstance(picture, bytes):
                    digest = hashlib.blake2b(picture, digest_size=8).hexdigest()
                    key = self._key(values)
                    number = stable_hash(key) if key else stable_hash(digest)
                    group = stable_hash(f"{number}/{digest}")
            except ValueError:
                pass  # reported when the record is read
        self.groups.add(group, offset, len(serialized))
        self.ids.add(number, offset, 0)
        return group >= 0

    def read(self) -> Iterator[Sample | Rejected]:
        """Yield a sample for every picture, in the order of its first record."""
        for item in self.items.tolist():
            group, offset, _ = self.groups[item]
            at = bisect_right(self.starts, offset) - 1
            key = f"foreign_tfrecord/{self.files[at].name}, byte {offset - self.starts[at]}"
            try:
                if item in self.damage:
                    raise ValueError(self.damage[item])
                values = self._values(item)
                picture = _first(values, self.image)
                if not isinstance(picture, bytes):
                    raise ValueError(f"no picture in {', '.join(self.image)}")
                key = f"foreign_tfrecord/{self._key(values) or f'{group:016x}'}"
                number = self.ids[item][0]
                if self.ids.positions(number)[0] != item:
                    raise ValueError("duplicate id: an earlier record has it with another picture")
                if len(picture) > MAX_PICTURE_BYTES:
                    raise ValueError(f"more than {MAX_PICTURE_BYTES:,} bytes")
                yield self._sample(key, item, picture, values)
            except ValueError as reason:
                yield Rejected(key, str(reason), self.split)

    def _sample(self, key: str, item: int, picture: bytes, values: dict[str, list]) -> Sample:
        texts = self._texts(values)
        for other in self.groups.positions(self.groups[item][0])[1:]:
            texts += self._texts(self._values(other))
        labels, difficult = _classes(values)
        regions: tuple[Region, ...] = ()
        dropped: tuple[str, ...] = ()
        if self.options.boxes_as_regions:
            regions, dropped = _regions(values)
        captions, lost = keep_captions(texts) if texts or not (labels or difficult) else ((), ())
        return Sample(
            key,
            picture,
            captions,
            regions,
            labels=labels,
            difficult=difficult,
            split=self.split,
            coordinates_size=(1, 1),
            dropped=(*lost, *dropped),
        )

    def _texts(self, values: dict[str, list]) -> list:
        present = [name for name in self.captions if name in values]
        # All features that the user named; of the usual names only the first.
        names = present if self.options.caption_fields else present[:1]
        return [_text(value) for name in names for value in values[name]]

    def _key(self, values: dict[str, list]) -> str:
        key = _text(_first(values, self.key))
        return "" if key is None else ascii(key)[1:-1] if isinstance(key, str) else str(key)

    def _values(self, position: int) -> dict[str, list]:
        _, offset, length = self.groups[position]
        at = bisect_right(self.starts, offset) - 1
        with self.files[at].path.open("rb") as file:
            file.seek(offset - self.starts[at] + _HEADER)
            return _parse(file.read(length))


def _records(file: Path) -> Iterator[tuple[int, bytes, str]]:
    """Yield offset, content and problem ("") of every record; of a damaged file at last its
    problem."""
    import tensorflow as tf

    offset, number = 0, 0
    try:
        for serialized in tf.compat.v1.io.tf_record_iterator(str(file)):
            yield offset, serialized, ""
            offset += len(serialized) + _FRAME
            number += 1
    except tf.errors.OpError:
        lost = file.stat().st_size - offset
        yield offset, b"", f"record {number} is damaged; the last {lost:,} bytes are not read"


def _first(values: dict[str, list], names: Sequence[str]) -> Any:
    """Return the first value of the first feature in `names` that has one, or None."""
    return next((values[name][0] for name in names if values.get(name)), None)


def _classes(values: dict[str, list]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the present classes, and those of which all objects are difficult, sorted."""
    names = [_text(name) for name in values.get(CLASS, ())]
    flags = values.get(DIFFICULT, ())
    flags = flags if len(flags) == len(names) else [0] * len(names)
    objects = [(name, flag) for name, flag in zip(names, flags, strict=True) if _is_class(name)]
    present = {name for name, flag in objects if not flag}
    return tuple(sorted(present)), tuple(sorted({name for name, _ in objects} - present))


def _is_class(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and is_class_name(name)


def _regions(values: dict[str, list]) -> tuple[tuple[Region, ...], tuple[str, ...]]:
    """Return the boxes with their class names, as fractions of the sides, and the reasons for the
    objects that are dropped."""
    names = [_text(name) for name in values.get(CLASS, ())]
    sides = [values.get(f"{BOX}{side}", ()) for side in ("xmin", "ymin", "xmax", "ymax")]
    if any(len(side) != len(names) for side in sides):
        return (), ("objects: the numbers of boxes and names differ",)
    kept, dropped = [], []
    for number, (name, *box) in enumerate(zip(names, *sides, strict=True), 1):
        xmin, ymin, xmax, ymax = box
        fit = all(isinstance(side, float) and -1 <= side <= 2 for side in box)
        if _is_class(name) and fit and xmin < xmax and ymin < ymax:
            kept.append(Region(name, xmin, ymin, xmax - xmin, ymax - ymin))
        else:
            dropped.append(f"object {number}: {name!a:.50} {box!a:.100}")
    return tuple(kept), tuple(dropped)
