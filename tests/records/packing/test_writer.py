"""Packing: read back with a hand-written TFRecord reader, protobuf and hashlib."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfclip.records import schema
from tfclip.records.manifest import load_manifest
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.records.reader import read_split
from tfclip.sources.sample import Region, Rejected, Sample

LAX = PackOptions(max_skipped=1.0, workers=1)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def features_of(record: bytes) -> dict[str, list]:
    features = tf.train.Example.FromString(record).features.feature
    return {
        name: list(getattr(feature, feature.WhichOneof("kind")).value)
        for name, feature in features.items()
    }


@pytest.fixture(scope="module")
def mixed(made):
    """Good pictures, and all that can be wrong with one."""
    jpeg = made.encoded(made.pixels(40, 20))
    train = made.samples(10)
    train[3] = Rejected("made/no-file", "no such picture in the list", "train")
    train[5] = Sample("made/broken", jpeg[:100], ("a caption",))
    train[6] = Sample("made/png", made.encoded(made.pixels(40, 20), "PNG"), ("a png",))
    train[7] = Sample("made/silent", jpeg, (" ", "\n"))
    train[8] = Sample(
        "made/boxes",
        jpeg,
        regions=(
            Region("all", 0, 0, 40, 20),
            Region("beyond", 30, -5, 100, 15),
            Region("outside", 40, 0, 10, 10),
            Region("empty", 5, 5, 0, 3),
            Region("negative", 5, 5, -2, 3),
            Region("  ", 0, 0, 4, 4),
            Region("lost", float("nan"), 0, 4, 4),
        ),
        dropped=("the source dropped one",),
    )
    train[9] = Sample("made/labelled", jpeg, labels=("wall",), difficult=("roof",))
    return made.source_of({"train": train, "val": made.samples(4, "val")})


@pytest.fixture(scope="module")
def packed(mixed, tmp_path_factory):
    out = tmp_path_factory.mktemp("records") / "made"
    pack(mixed, out, dataclasses.replace(LAX, shards=3))
    return out


def test_the_files_are_what_the_manifest_says(packed, made):
    manifest = json.loads((packed / "manifest.json").read_text())
    assert manifest["schema_version"] == 1
    assert manifest["source"] == "made"
    assert manifest["class_names"] == ["wall", "roof"]
    assert manifest["splits"]["train"] == {
        "images": 7,
        "captions": 4 * 2 + 1,
        "regions": 4 + 2,
        "skipped": 3,
        "dropped": 5 + 1,
    }
    assert manifest["splits"]["val"]["images"] == 4
    names = [f"{s}-0000{k}-of-00003.tfrecord" for s in ("train", "val") for k in range(3)]
    assert [shard["file"] for shard in manifest["shards"]] == names
    for shard in manifest["shards"]:
        content = (packed / shard["file"]).read_bytes()
        assert shard["bytes"] == len(content)
        assert shard["sha256"] == hashlib.sha256(content).hexdigest()
        assert shard["records"] == len(made.records_of(packed / shard["file"]))
    beside = {"manifest.json", "skipped.jsonl", "features.json", "dataset_info.json"}
    assert set(contents(packed)) == {*names, *beside}


def test_shards_are_contiguous_parts_of_the_items(packed, made):
    """Shard k of S holds the items k*n//S to (k+1)*n//S, without the rejected ones."""
    keys = [
        [features_of(r)["image/key"][0].decode()[5:] for r in made.records_of(packed / name)]
        for name in sorted(contents(packed))
        if name.startswith("train")
    ]
    expected = [["train0", "train1", "train2"], ["train4"], ["png", "boxes", "labelled"]]
    assert keys == expected


def test_skipped_lists_key_and_reason(packed):
    lines = [json.loads(line) for line in (packed / "skipped.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == ["made/no-file", "made/broken", "made/silent"]
    assert [line["split"] for line in lines] == ["train"] * 3
    assert lines[0]["reason"] == "no such picture in the list"
    assert "damaged" in lines[1]["reason"]
    assert "no caption" in lines[2]["reason"]


def test_a_record_holds_the_sample(packed, made):
    records = [
        features_of(record)
        for path in sorted(packed.glob("train-*"))
        for record in made.records_of(path)
    ]
    for at, record in enumerate(records[:3]):
        sample = made.samples(3)[at]
        digest = hashlib.blake2b(sample.key.encode(), digest_size=8).digest()
        assert record["image/encoded"] == [sample.image]  # passed through
        assert record["image/key"] == [sample.key.encode()]
        assert record["image/id"] == [int.from_bytes(digest, "big") >> 1]
        assert (record["image/width"], record["image/height"]) == ([40 + at], [30])
        assert record["image/caption"] == [f"picture number {at}".encode(), b"a wall"]
        assert record["image/region/phrase"] == [b"a red corner"]
        assert record["image/object/class/text"] == [b"wall"]
        np.testing.assert_allclose(record["image/region/bbox/xmax"], [10 / (40 + at)], rtol=1e-6)
        np.testing.assert_allclose(record["image/region/bbox/ymax"], [7 / 30], rtol=1e-6)
    boxes, labelled = records[-2:]
    assert boxes["image/region/phrase"] == [b"all", b"beyond"]
    assert boxes["image/region/bbox/xmin"] == [0.0, 0.75]
    assert boxes["image/region/bbox/ymin"] == [0.0, 0.0]
    assert boxes["image/region/bbox/xmax"] == [1.0, 1.0]
    assert boxes["image/region/bbox/ymax"] == [1.0, 0.5]
    assert labelled["image/object/class/text"] == [b"wall"]
    assert labelled["image/object/difficult/text"] == [b"roof"]


def test_tf_data_reads_the_same(packed, made):
    by_hand = [
        features_of(record)
        for path in sorted(packed.glob("train-*"))
        for record in made.records_of(path)
    ]
    read = list(read_split(packed, "train").as_numpy_iterator())
    assert len(read) == len(by_hand)
    for one, other in zip(read, by_hand, strict=True):
        assert set(one) == set(schema.FEATURES)
        for name, value in one.items():
            values = [value] if name in schema.SINGLE else list(value)
            if name in schema.BOX:
                np.testing.assert_array_equal(values, np.float32(other.get(name, [])))
            else:
                assert values == other.get(name, [])


def test_caption_lengths_are_counted(packed):
    words = load_manifest(packed).caption_words
    assert words["val"] == {2: 4, 3: 8}  # "a wall"; "picture number 0", "a red corner"
    assert words["train"] == {1: 2, 2: 4 + 1, 3: 8}


def test_any_number_of_workers_packs_the_same_bytes(mixed, packed, tmp_path):
    for workers in (2, 3):
        out = tmp_path / str(workers)
        pack(mixed, out, dataclasses.replace(LAX, shards=3, workers=workers))
        assert contents(out) == contents(packed)


def test_boxes_count_in_the_frame_of_the_annotations(made, tmp_path):
    """The file is smaller than the picture the boxes were drawn on, and is shrunk once more."""
    sample = Sample(
        "made/a",
        made.encoded(made.pixels(100, 50)),
        captions=("a wall",),
        regions=(Region("half", 200, 0, 200, 200),),
        coordinates_size=(400, 200),
    )
    other = dataclasses.replace(sample, key="made/b", coordinates_size=None)
    source = made.source_of({"train": [sample, other]})
    pack(source, tmp_path / "out", dataclasses.replace(LAX, image_size=25))
    first, second = read_split(tmp_path / "out", "train").as_numpy_iterator()
    assert [float(first[name][0]) for name in schema.BOX] == [0.5, 0.0, 1.0, 1.0]
    assert (first["image/width"], first["image/height"]) == (50, 25)
    assert len(second["image/region/phrase"]) == 0  # 200 pixels are outside of 100


def test_texts_are_kept_as_they_are(made, tmp_path):
    captions = (
        "Ein Hund – größer!",
        "犬が走る",
        "e\u0301 is not \u00e9",
        "\ttabs \n",
        "broken \udcff",
    )
    sample = Sample("made/ключ", made.encoded(made.pixels(9, 9)), captions)
    pack(made.source_of({"train": [sample]}), tmp_path / "out", LAX)
    (record,) = read_split(tmp_path / "out", "train").as_numpy_iterator()
    assert [c.decode() for c in record["image/caption"]] == [*captions[:3], "tabs", "broken ?"]
    assert record["image/key"].decode() == "made/ключ"


@pytest.mark.parametrize("count", [1, 3])
def test_max_images_draws_a_subset_by_seed(made, tmp_path, count):
    source = made.source_of({"train": made.samples(20), "val": made.samples(2, "val")})

    def keys(seed):
        out = tmp_path / f"{seed}"
        options = dataclasses.replace(LAX, max_images=count, seed=seed, overwrite=True)
        manifest = pack(source, out, options)
        assert manifest.splits["train"].images == count
        assert manifest.splits["val"].images == min(count, 2)
        return [r["image/key"] for r in read_split(out, "train").as_numpy_iterator()]

    first = keys(1)
    assert first == keys(1)
    assert len({tuple(keys(seed)) for seed in range(6)}) > 1


def test_more_shards_than_items_makes_one_for_each(made, tmp_path):
    options = dataclasses.replace(LAX, shards=50)
    manifest = pack(made.source_of({"train": made.samples(3)}), tmp_path / "out", options)
    assert [shard.records for shard in manifest.shards] == [1, 1, 1]


def test_a_shard_of_rejects_is_an_empty_file_that_reads(made, tmp_path):
    items = [*made.samples(2), Rejected("a", "why", "train"), Rejected("b", "why", "train")]
    options = dataclasses.replace(LAX, shards=2)
    manifest = pack(made.source_of({"train": items}), tmp_path / "out", options)
    assert [shard.bytes for shard in manifest.shards][1] == 0
    assert len(list(read_split(tmp_path / "out", "train"))) == 2
