"""Single-label pictures for classification, from class folders or a TFDS data set."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.console import say
from tfclip.evaluation.datasets.class_folders import class_folders, tfds_reference
from tfclip.evaluation.datasets.views import file_views
from tfclip.graphs import as_written
from tfclip.inputs.images import decode_picture, picture_views
from tfclip.inputs.tiles import tile_boxes
from tfclip.naming import unknown
from tfclip.sources.tfds import tfds_builder
from tfclip.text_lists import read_lines

SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class LabelledClasses:
    """N pictures of C classes.

    Attributes:
        class_names: the C names as the data set spells them.
        truth: (N,) int64, the class of each picture.
        views: function of the size S of a view that returns a dataset of (index () int64, views
            (1,S,S,3) uint8); pictures that do not decode are left out.
        reference: the folder or the TFDS name.
    """

    class_names: tuple[str, ...]
    truth: np.ndarray
    views: Callable[[int], tf.data.Dataset]
    reference: str


def labelled_folders(data: Path) -> LabelledClasses:
    """Open a folder of class folders; the names of the folders are the classes.

    Raises:
        FileNotFoundError, ValueError: see `class_folders`.
    """
    folders = class_folders(data)
    paths = [path for listed in folders.values() for path in listed]
    sizes = [len(listed) for listed in folders.values()]
    return LabelledClasses(
        tuple(folders),
        np.repeat(np.arange(len(folders)), sizes),
        lambda size: file_views(paths, size),
        str(data),
    )


def labelled_tfds(reference: str) -> LabelledClasses:
    """Open a TFDS data set of pictures with one integer label each, read as a stream.

    TFDS downloads and prepares a data set that is not there, into its own folder. The labels are
    read first; the pictures stay encoded and are decoded by the same function as all others.

    Args:
        reference: NAME or NAME:SPLIT, see `tfds_reference`.

    Raises:
        ValueError: an unknown name or split, examples without a picture or a label feature, or
            pictures without a label.
        FileNotFoundError: it cannot be downloaded; the message says which files to put where.
    """
    name, split = tfds_reference(reference)
    import tensorflow_datasets as tfds

    builder = tfds_builder(name)
    if builder.info.splits and split.split("[")[0] not in builder.info.splits:
        raise unknown(f"split of {name}", split, builder.info.splits)
    image, label = _keys(builder.info)
    examples = builder.as_dataset(
        split=split, shuffle_files=False, decoders={image: tfds.decode.SkipDecoding()}
    )
    labels = (
        examples.map(as_written(lambda example: example[label])).batch(1024).as_numpy_iterator()
    )
    truth = np.concatenate([np.zeros(0, np.int64), *labels])
    if truth.size and truth.min() < 0:
        raise ValueError(
            f"{int(np.sum(truth < 0))} of {truth.size} pictures of {name}:{split} have no label; "
            f"choose another split: {', '.join(builder.info.splits)}"
        )
    names = tuple(builder.info.features[label].names)
    return LabelledClasses(names, truth, lambda size: _views(examples, image, size), reference)


def named_classes(classes: LabelledClasses, path: Path | None) -> tuple[str, ...]:
    """Return the class names for the prompts: those of the data, or of a file with one per line.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file has more or fewer names than there are classes; or the names are
            WordNet synset numbers, which mean nothing to a text encoder.
    """
    count = len(classes.class_names)
    if path is not None:
        names = tuple(read_lines(path))
        names = names[:-1] if names[-1] == "" else names  # after the last line break
        if len(names) != count or not all(names):
            raise ValueError(f"{path} has {len(names)} lines; needed: {count}, one name on each")
        return names
    if all(SYNSET.fullmatch(name) for name in classes.class_names):
        raise ValueError(
            f"the {count} classes of {classes.reference} are named {classes.class_names[0]}, ... "
            "in WordNet's numbers; give --class-names FILE with one name per line, in this order"
        )
    if all(name.isdigit() for name in classes.class_names):
        say(
            f"note: the classes of {classes.reference} are named by numbers; unless they are "
            "digits, give --class-names FILE with one name per line"
        )
    return tuple(name.replace("_", " ") for name in classes.class_names)


def _views(examples: tf.data.Dataset, image: str, size: int) -> tf.data.Dataset:
    boxes = tile_boxes("1")

    def views(place, example):
        return place, picture_views(decode_picture(example[image]), boxes, size)

    return (
        examples.enumerate()
        .map(as_written(views), num_parallel_calls=tf.data.AUTOTUNE)
        .ignore_errors()
    )


def _keys(info) -> tuple[str, str]:
    """Return the names of the image feature and the label feature, of which there is one each."""
    import tensorflow_datasets as tfds

    features = info.features
    kinds = tfds.features.Image, tfds.features.ClassLabel
    supervised = info.supervised_keys or ()
    names: list[str] = []
    for kind in kinds:
        keys = [key for key, feature in features.items() if isinstance(feature, kind)]
        keys = [key for key in keys if key in supervised] or keys
        if len(keys) != 1:
            raise ValueError(
                f"{info.name} has {len(keys)} features of kind {kind.__name__}, 1 is needed; "
                f"its features: {', '.join(features)}"
            )
        names += keys
    image, label = names
    return image, label
