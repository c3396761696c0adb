"""Registry of the data sets by name.

Other packages add sources in two ways: by an entry point of the group `tfclip.sources`, under the
name of the entry point, or by any function given as `package.module:function`. The function takes a
folder and `SourceOptions` and returns a `Source`.
"""

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from tfclip import plugins
from tfclip.naming import unknown
from tfclip.sources.annotations.open_images import open_open_images
from tfclip.sources.archives.class_archive import open_class_images
from tfclip.sources.archives.paired_files import open_image_text
from tfclip.sources.coco import open_coco
from tfclip.sources.flickr8k import open_flickr8k
from tfclip.sources.foreign_tfrecord import open_foreign_tfrecord
from tfclip.sources.repaired_texts import with_repaired_texts
from tfclip.sources.sample import Source, SourceOptions
from tfclip.sources.tables.caption_table import open_caption_table
from tfclip.sources.tables.parquet import open_parquet
from tfclip.sources.tfds import open_tfds
from tfclip.sources.visual_genome import open_visual_genome
from tfclip.sources.voc import open_voc
from tfclip.sources.webdataset import open_webdataset

SOURCES: dict[str, Callable[[Path, SourceOptions], Source]] = {
    "visual_genome": open_visual_genome,
    "flickr8k": open_flickr8k,
    "flickr30k": partial(open_flickr8k, name="flickr30k"),
    "coco": open_coco,
    "open_images": open_open_images,
    "voc": open_voc,
    "image_folder": open_class_images,
    "caption_table": open_caption_table,
    "parquet": open_parquet,
    "foreign_tfrecord": open_foreign_tfrecord,
    "webdataset": open_webdataset,
    "image_text": open_image_text,
}
TFDS = "tfds:"
"""The prefix of the names of TensorFlow Datasets' data sets."""
SOURCE_OPTIONS = {
    "visual_genome": ("id_lists", "phrases_as_captions", "follow_links"),
    "image_folder": ("caption_template", "follow_links"),
    "caption_table": (
        *("images", "image_field", "caption_fields", "split_field", "group_field", "separator"),
        *("caption_separator", "labels_field", "labels_separator", "label_fields", "class_names"),
        "follow_links",
    ),
    "parquet": (
        *("image_field", "caption_fields", "key_field", "caption_separator"),
        *("labels_field", "labels_separator", "label_fields", "class_names"),
    ),
    "open_images": ("class_names", "follow_links"),
    "coco": ("labels", "follow_links"),
    "flickr8k": ("follow_links",),
    "flickr30k": ("follow_links",),
    "voc": ("class_names", "follow_links"),
    "foreign_tfrecord": ("image_field", "caption_fields", "key_field", "boxes_as_regions"),
    "webdataset": ("caption_fields",),
    "image_text": ("caption_fields", "follow_links"),
    TFDS: ("image_field", "caption_fields", "caption_template", "boxes_as_regions"),
}
"""The options that a source accepts in addition to `COMMON_OPTIONS`."""
COMMON_OPTIONS = (
    *("seed", "splits", "val_fraction", "test_fraction"),
    *("fix_text", "exclude_ids", "exclude_images", "deduplicate"),
)
"""The options that every source accepts."""

ENTRY_POINTS = "tfclip.sources"
"""The group of entry points through which other packages register sources."""
_UNSET: tuple[object, ...] = (None, (), False, {}, 0.0)


def open_source(name: str, data: Path, options: SourceOptions | None = None) -> Source:
    """Open the data set `name` in the folder `data`.

    Annotations are read once to count the items of every split; pictures are not opened.

    Raises:
        ValueError: an unknown name or split, an option of another source, or malformed annotations.
        FileNotFoundError: a missing file or folder; the message shows the expected tree.
    """
    kind = TFDS if name.startswith(TFDS) else name
    outside = kind != TFDS and (plugins.is_reference(name) or name in installed_sources())
    if kind != TFDS and name not in SOURCES and not outside:
        names = [*SOURCES, f"{TFDS}NAME", *installed_sources()]
        raise unknown("source", name, [*names, "package.module:function"])
    options = options or SourceOptions()
    if options.val_fraction or options.test_fraction:
        options = dataclasses.replace(
            options, splits=()
        )  # the splits named are made later, from all pictures
    accepted = (*COMMON_OPTIONS, *SOURCE_OPTIONS.get(kind, ()))
    for field in dataclasses.fields(options):
        if field.name not in accepted and getattr(options, field.name) not in _UNSET:
            others = ", ".join(o for o, names in SOURCE_OPTIONS.items() if field.name in names)
            raise ValueError(f"{name} takes no {field.name}; sources that take it: {others}")
    if kind == TFDS:
        source = open_tfds(name.removeprefix(TFDS), Path(data), options)
    elif outside:
        source = _open_outside(name, Path(data), options)
    else:
        source = SOURCES[name](Path(data), options)
    return with_repaired_texts(source) if options.fix_text else source


@cache
def installed_sources() -> dict[str, EntryPoint]:
    """Return the entry points of the sources of other installed packages; imports none of them."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _open_outside(name: str, data: Path, options: SourceOptions) -> Source:
    """Open a source of another package, and give it the name by which it was opened.

    Raises:
        ValueError: the module is missing, or the function does not return a `Source`.
    """
    if name in SOURCES:
        raise ValueError(
            f"{installed_sources()[name].value} of {_package(name)} has the same name as tfclip's "
            f"own source {name}; uninstall that package, or name its source as "
            f"{installed_sources()[name].value}"
        )
    reference = name if plugins.is_reference(name) else installed_sources()[name].value
    function = plugins.load("source", reference)
    source = plugins.call("source", reference, function, data, options)
    if not isinstance(source, Source):
        raise ValueError(
            f"source {reference} must return a tfclip.sources.sample.Source; it returned a "
            f"{type(source).__name__}"
        )
    return dataclasses.replace(source, name=name)


def _package(name: str) -> str:
    distribution = installed_sources()[name].dist
    return distribution.name if distribution else "another package"
