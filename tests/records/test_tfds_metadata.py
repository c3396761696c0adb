"""TensorFlow Datasets reads a packed set, and finds the same in it."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfclip.records import schema
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.records.reader import read_split
from tfclip.records.tfds_metadata import FEATURES, INFO
from tfclip.sources.sample import Sample

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def packed(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("records") / "made"
    jpeg = made.encoded(made.pixels(40, 20))
    labelled = Sample("made/labelled", jpeg, labels=("wall",), difficult=("roof",))
    items = {"train": [*made.samples(5), labelled], "val": made.samples(2, "val")}
    pack(made.source_of(items), out, PackOptions(workers=1, shards=2))
    return out


@pytest.mark.parametrize("split", ["train", "val"])
def test_tfds_gives_the_same_pictures_and_texts(packed, split):
    builder = tfds.builder_from_directory(packed)
    examples = list(tfds.as_numpy(builder.as_dataset(split=split)))
    records = list(read_split(packed, split).as_numpy_iterator())
    assert builder.info.splits[split].num_examples == len(records) == len(examples) > 1
    for example, record in zip(examples, records, strict=True):
        assert set(example) == set(schema.FEATURES)
        for name in schema.FEATURES:
            if name == schema.IMAGE:
                expected = tf.io.decode_jpeg(record[name]).numpy()
            else:
                expected = record[name]
            np.testing.assert_array_equal(example[name], expected)


def test_a_part_of_a_split_is_found_by_the_lengths_of_the_shards(packed):
    part = tfds.builder_from_directory(packed).as_dataset(split="train[4:]")
    keys = [example[schema.KEY] for example in tfds.as_numpy(part)]
    assert keys == [b"made/train4", b"made/labelled"]


def test_the_files_are_what_tfds_itself_writes(packed, tmp_path):
    copy = shutil.copytree(packed, tmp_path / "copy")
    features = tfds.builder_from_directory(packed).info.features
    for name in (FEATURES, INFO):
        (copy / name).unlink()
    template = "{SPLIT}-{SHARD_X_OF_Y}.{FILEFORMAT}"
    tfds.folder_dataset.write_metadata(
        data_dir=copy,
        features=features,
        split_infos=[
            split.replace(filename_template=split.filename_template.replace(data_dir=copy))
            for split in tfds.builder_from_directory(packed).info.splits.values()
        ],
        filename_template=template,
        check_data=False,
    )
    for name in (FEATURES, INFO):
        assert json.loads((copy / name).read_text()) == json.loads((packed / name).read_text())
