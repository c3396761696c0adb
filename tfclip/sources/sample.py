"""The items a source yields (samples and rejected inputs) and the options it is opened with."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple


class Region(NamedTuple):
    """A phrase and the box it describes.

    `x` and `y` are the left and top edge. All four numbers are pixels of the original picture, or
    of the frame `Sample.coordinates_size`.
    """

    phrase: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with its captions, regions and labels.

    Attributes:
        key: "source/id", unique within a split.
        image: the path of the file, or the encoded bytes.
        captions: sentences about the whole picture, exactly as stored.
        regions: phrases with boxes of positive area, not clipped to the picture.
        labels: the classes present in the picture, in the order of the source's `class_names`.
        difficult: the classes of which every object is marked difficult, in the same order.
        split: the name of the split.
        coordinates_size: width and height of the frame that the boxes refer to; None for the size
            of the picture itself.
        dropped: the reason for each caption or region that was dropped from this sample.
        other_keys: keys of the same picture in other data sets.
        group: an id that related pictures share (one scene, one person), so that they stay in one
            split; "" for none.
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
    """An input that cannot become a sample; the source yields it instead of the sample."""

    key: str
    reason: str
    split: str


@dataclass(frozen=True)
class Source:
    """An opened data set.

    Attributes:
        name: the name in the registry.
        counts: the number of items that `read` yields for each split, rejected ones included.
        read: yields the items of a split in a fixed order.
        class_names: the classes that labels are chosen from; empty for a source without labels.
        exclusions: yields split, key and reason of each item that `read` excludes; None when
            nothing is excluded.
    """

    name: str
    counts: dict[str, int]
    read: Callable[[str], Iterator[Sample | Rejected]]
    class_names: tuple[str, ...] = ()
    exclusions: Callable[[], Iterator[dict[str, str]]] | None = None


@dataclass(frozen=True)
class SourceOptions:
    """The options that a source is opened with. Most apply to some sources only (see
    `registry`)."""

    seed: int = 0
    """Seed of the random split of a data set that comes without split lists (visual_genome,
    flickr8k)."""
    splits: tuple[str, ...] = ()
    """The splits to read; by default all."""
    id_lists: Mapping[str, Path] = field(default_factory=dict)
    """visual_genome: for each split a file of image ids, one per line."""
    phrases_as_captions: bool = False
    """visual_genome: also use the region phrases as captions of the whole picture."""
    caption_template: str | None = None
    """image_folder, tfds: template of a caption, with {} for the class name."""
    images: Path | None = None
    """caption_table: the folder that the paths in the table are relative to."""
    image_field: str | None = None
    """caption_table, parquet, foreign_tfrecord, tfds: the column or feature of the picture."""
    caption_fields: tuple[str, ...] = ()
    """caption_table, parquet, foreign_tfrecord, webdataset, tfds: the columns, features or fields
    of the captions."""
    key_field: str | None = None
    """parquet, foreign_tfrecord: the column or feature of the id of a picture."""
    split_field: str | None = None
    """caption_table: the column of the split."""
    group_field: str | None = None
    """caption_table: the column of the group id; pictures of one group stay in one split."""
    separator: str | None = None
    """caption_table: the character between the columns."""
    caption_separator: str | None = None
    """caption_table, parquet: the character between the captions in one cell."""
    labels: bool = False
    """coco: read the classes of instances_<split>.json as labels, in addition to the captions."""
    labels_field: str | None = None
    """caption_table, parquet: the column that lists the classes of a picture."""
    labels_separator: str | None = None
    """caption_table, parquet: the character between the classes in one cell."""
    label_fields: tuple[str, ...] = ()
    """caption_table, parquet: columns of 0 and 1, one per class."""
    class_names: tuple[str, ...] = ()
    """caption_table, parquet, open_images, voc: the class names, in order."""
    follow_links: bool = False
    """Sources that read picture files: follow links into the blobs of a Hugging Face cache."""
    boxes_as_regions: bool = False
    """foreign_tfrecord, tfds: read labelled boxes as regions whose phrase is the class name."""
    val_fraction: float = 0.0
    """Any source without splits, see `records.holdout`: the fraction of the pictures for val."""
    test_fraction: float = 0.0
    """The fraction for test."""
    fix_text: bool = False
    """Any source: repair captions and phrases, see `text_repair`."""
    exclude_ids: Path | None = None
    """Any source, see `records.exclusions`: a file with the ids of the pictures to exclude."""
    exclude_images: Path | None = None
    """Any source: a folder of pictures to exclude. A picture is excluded when its bytes or its
    perceptual hash match one of them."""
    deduplicate: bool = False
    """Any source: exclude pictures and captions that repeat earlier ones."""


def options_to_json(options: SourceOptions) -> dict[str, Any]:
    """Return the options that differ from their defaults, as values that JSON can hold.

    `seed` and `splits` are omitted: the options of packing record them.

    >>> options_to_json(SourceOptions(seed=3, images=Path("photos"), caption_fields=("title",)))
    {'images': 'photos', 'caption_fields': ['title']}
    """
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    default = SourceOptions()
    return {
        name: _json_value(value)
        for name, value in values.items()
        if name not in ("seed", "splits") and value != getattr(default, name)
    }


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _json_value(entry) for name, entry in value.items()}
    if isinstance(value, tuple):
        return [_json_value(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def options_from_json(values: Mapping[str, Any]) -> SourceOptions:
    """Return the options that `options_to_json` wrote.

    Raises:
        ValueError: an option that this version does not know.
    """
    types = {field.name: str(field.type) for field in fields(SourceOptions)}
    if unknown := sorted(set(values) - set(types)):
        raise ValueError(f"unknown source options: {', '.join(unknown)}")
    return SourceOptions(**{name: _option(value, types[name]) for name, value in values.items()})


def _option(value: Any, type_name: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _option(entry, type_name) for name, entry in value.items()}
    if isinstance(value, list):
        return tuple(_option(entry, type_name) for entry in value)
    return Path(value) if isinstance(value, str) and "Path" in type_name else value
