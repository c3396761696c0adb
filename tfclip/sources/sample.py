"""What a source yields: samples, and what had to be rejected."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple


class Region(NamedTuple):
    """A phrase and its box: left, top, width and height in pixels of the original picture."""

    phrase: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and all that is said about it.

    Attributes:
        key: "source/id", unique within a split.
        image: the file, or its content.
        captions: sentences about the whole picture, exactly as found.
        regions: phrases with boxes of positive area, not clipped to the picture.
        labels: the classes present and counted, in the order of the source's `class_names`.
        difficult: the classes present only as "difficult", in the same order.
        split: the split it was read from.
        coordinates_size: width and height of the frame that the boxes are in; None: the file's own.
        dropped: captions and regions that were left out of this sample, one reason for each.
        other_keys: keys of the same picture in other data sets.
        group: what pictures that belong together have in common, a scene or a person; "" without.
    """

    key: str
    image: Path | bytes
    captions: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    labels: tuple[str, ...] = ()
    difficult: tuple[str, ...] = ()
    split: str = "train"
    coordinates_size: tuple[int, int] | None = None
    dropped: tuple[str, ...] = ()
    other_keys: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input that cannot become a sample, yielded in its place."""

    key: str
    reason: str
    split: str


@dataclass(frozen=True)
class Source:
    """An opened data set.

    Attributes:
        name: as in the registry.
        counts: for every split the number of items that `read` yields, rejected ones included.
        read: gives the items of a split, one at a time, always in the same order.
        class_names: what labels can be; empty for a source without labels.
        exclusions: gives split, key and reason of what `read` passes over; None: nothing.
    """

    name: str
    counts: dict[str, int]
    read: Callable[[str], Iterator[Sample | Rejected]]
    class_names: tuple[str, ...] = ()
    exclusions: Callable[[], Iterator[dict[str, str]]] | None = None


@dataclass(frozen=True)
class SourceOptions:
    """What can be asked of a source when it is opened."""

    seed: int = 0
    """Decides the split of a set that comes without one (visual_genome, flickr8k)."""
    splits: tuple[str, ...] = ()
    """The splits to read; all there are by default."""
    id_lists: Mapping[str, Path] = field(default_factory=dict)
    """visual_genome: a file of image ids, one per line, for every split."""
    phrases_as_captions: bool = False
    """visual_genome: give the region phrases as captions of the whole picture too."""
    caption_template: str | None = None
    """image_folder, tfds: a caption made of the class names, with {} in their place."""
    images: Path | None = None
    """caption_table: the folder that the paths in the table start from."""
    image_field: str | None = None
    """caption_table, foreign_tfrecord, tfds: the column or feature that holds the picture."""
    caption_fields: tuple[str, ...] = ()
    """caption_table, foreign_tfrecord, webdataset, tfds: those that hold captions."""
    key_field: str | None = None
    """foreign_tfrecord: the feature that tells one picture from another."""
    split_field: str | None = None
    """caption_table: the column that names the split."""
    group_field: str | None = None
    """caption_table: the column that tells which pictures belong together."""
    separator: str | None = None
    """caption_table: the sign between the columns."""
    caption_separator: str | None = None
    """caption_table: the sign between the captions of one cell."""
    labels: bool = False
    """coco: the classes of instances_<split>.json as labels, beside captions."""
    labels_field: str | None = None
    """caption_table: the column that lists the classes of a picture."""
    labels_separator: str | None = None
    """caption_table: the sign between the classes of one cell."""
    label_fields: tuple[str, ...] = ()
    """caption_table: columns of 0 and 1, one for each class."""
    class_names: tuple[str, ...] = ()
    """caption_table, voc: the classes, in their order."""
    follow_links: bool = False
    """Files: links into the store of a Hugging Face cache are followed."""
    boxes_as_regions: bool = False
    """foreign_tfrecord, tfds: give labelled boxes as regions, with the class name for a phrase."""
    val_fraction: float = 0.0
    """Any source without splits, see `records.holdout`: the share of the pictures for val."""
    test_fraction: float = 0.0
    """The same for test."""
    exclude_ids: Path | None = None
    """Any source, see `records.exclusions`: a file of ids of pictures to leave out."""
    exclude_images: Path | None = None
    """Any source: a folder of pictures; those that match one of them, as the same file or by
    perceptual hash, are left out."""
    deduplicate: bool = False
    """Any source: leave out pictures and captions that repeat earlier ones."""


def options_to_json(options: SourceOptions) -> dict[str, Any]:
    """Return what is not as by default, in what JSON can hold; seed and splits are left out, as
    the options of packing hold them too."""
    told = {field.name: getattr(options, field.name) for field in fields(options)}
    default = SourceOptions()
    return {
        name: _plain(value)
        for name, value in told.items()
        if name not in ("seed", "splits") and value != getattr(default, name)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def options_from_json(told: Mapping[str, Any]) -> SourceOptions:
    """Return the options that `options_to_json` was given.

    Raises:
        ValueError: an option that this version does not know.
    """
    types = {field.name: str(field.type) for field in fields(SourceOptions)}
    if unknown := sorted(set(told) - set(types)):
        raise ValueError(f"unknown source options: {', '.join(unknown)}")
    return SourceOptions(**{name: _read(value, types[name]) for name, value in told.items()})


def _read(value: Any, told_type: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _read(one, told_type) for name, one in value.items()}
    if isinstance(value, list):
        return tuple(_read(one, told_type) for one in value)
    return Path(value) if isinstance(value, str) and "Path" in told_type else value
