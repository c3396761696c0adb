"""verify finds every change of every file, and names the record."""

import random
import re
import shutil

import pytest
import tensorflow as tf

from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.records.verify import verify
from tfclip.sources.sample import Rejected

SHARD = "train-00001-of-00002.tfrecord"


@pytest.fixture(scope="module")
def packed(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("records") / "made"
    items = [*made.samples(7), Rejected("made/x", "gone", "train")]
    source = made.source_of({"train": items, "val": made.samples(2, "val")})
    pack(source, out, PackOptions(workers=1, shards=2, max_skipped=1))
    return out


@pytest.fixture
def copy(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "copy")


def test_a_packed_set_is_sound(packed):
    assert verify(packed) == []


def test_every_changed_byte_is_found(copy):
    """The checksum of the file finds it, and TensorFlow's of the record says where."""
    path = copy / SHARD
    content = path.read_bytes()
    rng = random.Random(0)
    for at in [0, 9, len(content) - 1, *(rng.randrange(len(content)) for _ in range(7))]:
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        problems = verify(copy)
        assert f"{SHARD}: the sha256 differs from the manifest" in problems
        assert any(problem.startswith(f"{SHARD}: record ") for problem in problems)


def test_the_damaged_record_is_named(copy, made):
    path = copy / SHARD
    content = path.read_bytes()
    first = len(made.records_of(path, check=False)[0]) + 16
    path.write_bytes(content[: first + 60] + b"\0\0\0\0" + content[first + 64 :])
    assert any(problem.startswith(f"{SHARD}: record 1: corrupted") for problem in verify(copy))
    path.write_bytes(content[: first + 60])
    problems = verify(copy)
    assert any(problem.startswith(f"{SHARD}: record 1: truncated") for problem in problems)
    assert any("1 readable records, the manifest lists 3" in problem for problem in problems)


def test_missing_and_foreign_files(copy):
    (copy / SHARD).rename(copy / "train-00009-of-00002.tfrecord")
    problems = verify(copy)
    assert f"{SHARD}: missing" in problems
    assert "train-00009-of-00002.tfrecord: not in the manifest" in problems


def test_counts_of_the_manifest_are_checked(copy):
    manifest = copy / "manifest.json"
    text = manifest.read_text()
    for what, value in (("images", 7), ("captions", 14), ("regions", 7), ("skipped", 1)):
        manifest.write_text(text.replace(f'"{what}": {value}', f'"{what}": {value + 1}'))
        (problem,) = verify(copy)
        assert problem == f"split train: {value} {what}, the manifest lists {value + 1}"
    manifest.write_text(text)
    (copy / "skipped.jsonl").write_text("not json\n")
    assert verify(copy) == ["split train: 0 skipped, the manifest lists 1"]


def change_of(name, value):
    def change(features):
        del features[name]
        if isinstance(value, list) and value and isinstance(value[0], float):
            features[name].float_list.value.extend(value)
        elif isinstance(value, list) and value and isinstance(value[0], int):
            features[name].int64_list.value.extend(value)
        else:
            features[name].bytes_list.value.extend(value)

    return change


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("image/id", [5], "the id does not match the key"),
        ("image/key", [b"made/train4"], "a second record|does not match the key"),
        ("image/key", [], "image/key has 0 values, not 1"),
        ("image/width", [b"40"], "image/width is a bytes_list, not a int64_list"),
        ("image/width", [7], "size of the JPEG differs"),
        ("image/caption", [b"\xff"], "not UTF-8"),
        ("image/encoded", [b"nothing"], "not a JPEG"),
        ("image/encoded", [b"a", b"b"], "image/encoded has 2 values"),
        ("image/region/bbox/xmin", [0.9], "boxes"),
        ("image/region/bbox/xmax", [1.5], "boxes"),
        ("image/region/bbox/xmax", [0.2, 0.3], "boxes"),
        ("image/region/phrase", [], "boxes"),
    ],
)
def test_a_rewritten_record_is_held_against_the_schema(copy, made, name, value, told):
    """Checksums are right: whoever changed it wrote a proper file."""
    path = copy / SHARD
    records = made.records_of(path)
    example = tf.train.Example.FromString(records[1])
    change_of(name, value)(example.features.feature)
    records[1] = example.SerializeToString()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    problems = [problem for problem in verify(copy) if ": record 1: " in problem]
    assert problems and all(re.search(told, problem) for problem in problems)


def test_bytes_that_are_no_example(copy):
    with tf.io.TFRecordWriter(str(copy / SHARD)) as writer:
        writer.write(b"\xff\xff\xff")
    assert any("record 0: not a tf.train.Example" in problem for problem in verify(copy))


def test_a_set_without_a_manifest(copy):
    (copy / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="unfinished"):
        verify(copy)
