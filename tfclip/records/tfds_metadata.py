"""Metadata of TensorFlow Datasets (TFDS) beside the shards: features.json and dataset_info.json.

With them `tfds.builder_from_directory(DIR).as_dataset(split="train")` reads a record set. They are
written in the documented JSON layout (tensorflow.org/datasets/external_tfrecord) without TFDS, so
that the bytes of a set do not depend on whether TFDS is installed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfclip.records import schema
from tfclip.records.manifest import Shard

FEATURES = "features.json"
INFO = "dataset_info.json"
VERSION = "1.0.0"
"""TFDS requires a version of every data set; tfclip uses `schema_version` of the manifest."""

_MODULE = "tensorflow_datasets.core.features"
_TEMPLATE = "{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}"
"""The pattern of `options.shard_name`; the default of TFDS would match no file."""


def write_metadata(
    directory: Path, shards: Mapping[str, Sequence[Shard]], added: Sequence[str] = ()
) -> None:
    """Write both files for the shards of every split; `added` names features of `schema.ADDED`."""
    splits = [
        {
            "filepathTemplate": _TEMPLATE,
            "name": split,
            "numBytes": str(sum(shard.bytes for shard in listed)),
            "shardLengths": [str(shard.records) for shard in listed],
        }
        for split, listed in shards.items()
    ]
    features = {name: _single(name, kind) for name, kind in schema.SINGLE.items()}
    lists = schema.LISTS | {name: schema.ADDED[name] for name in added}
    features |= {name: _sequence(_value(kind)) for name, kind in lists.items()}
    _write(directory / FEATURES, _feature("features_dict.FeaturesDict", features=features))
    _write(directory / INFO, {"fileFormat": "tfrecord", "splits": splits, "version": VERSION})


def _single(name: str, kind: tf.DType) -> dict:
    if name != schema.IMAGE:
        return _value(kind)
    shape = {"dimensions": ["-1", "-1", "3"]}
    return _feature("image_feature.Image", shape=shape, dtype="uint8", encodingFormat="jpeg")


def _value(kind: tf.DType) -> dict:
    if kind == tf.string:
        return _feature("text_feature.Text")
    return _feature("scalar.Scalar", shape={}, dtype=kind.name, encoding="none")


def _sequence(feature: dict) -> dict:
    return _feature("sequence_feature.Sequence", feature=feature, length="-1")


def _feature(python_class: str, **content: Any) -> dict:
    # Each class stores its content in a field of another name.
    field = {
        "features_dict.FeaturesDict": "featuresDict",
        "image_feature.Image": "image",
        "text_feature.Text": "text",
        "scalar.Scalar": "tensor",
        "sequence_feature.Sequence": "sequence",
    }[python_class]
    return {"pythonClassName": f"{_MODULE}.{python_class}", field: content}


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
