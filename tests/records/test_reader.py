"""Reading: every record once, in an order that (seed, epoch) alone decides."""

import dataclasses

import pytest
import tensorflow as tf

from tfclip.records import schema
from tfclip.records.manifest import MANIFEST, load_manifest, records_reference
from tfclip.records.reader import (
    ROW,
    endless_shards,
    read_shards,
    read_split,
    shard_counts,
    split_files,
)
from tfclip.records.verify import damage_named


def keys(dataset) -> list[bytes]:
    return [record[schema.KEY] for record in dataset.as_numpy_iterator()]


IN_ORDER = [f"made/train{at}".encode() for at in range(30)]


def test_without_a_seed_the_order_is_that_of_packing(packed):
    assert keys(read_split(packed, "train")) == IN_ORDER


@pytest.mark.parametrize("block", [1, 4, 7, 2048])
def test_every_epoch_holds_every_record_once_in_its_own_order(packed, block):
    epochs = [
        keys(read_split(packed, "train", shuffle_seed=3, epoch=epoch, shuffle_block=block))
        for epoch in range(3)
    ]
    for epoch in epochs:
        assert sorted(epoch) == sorted(IN_ORDER)
        assert epoch != IN_ORDER
    assert epochs[0] != epochs[1] != epochs[2]


def test_seed_and_epoch_alone_decide_the_order(packed):
    def order(**options):
        return keys(read_split(packed, "train", shuffle_seed=3, epoch=1, **options))

    first = order()
    tf.random.set_seed(1234)
    assert order(num_parallel_calls=1) == order(num_parallel_calls=4) == first
    assert keys(read_split(packed, "train", shuffle_seed=4, epoch=1)) != first


def test_endless_is_the_epochs_one_after_the_other(packed):
    files = split_files(packed, "train")
    expected = sum(
        (keys(read_shards(files, shuffle_seed=5, epoch=e, shuffle_block=8)) for e in range(4)), []
    )
    for start, epoch_size in ((0, None), (1, 30), (29, None), (30, 30), (61, None)):
        endless = endless_shards(
            files, shuffle_seed=5, shuffle_block=8, start=start, epoch_size=epoch_size
        )
        assert keys(endless.take(40)) == expected[start : start + 40], start


def test_a_late_start_reads_no_earlier_epoch(packed):
    files = split_files(packed, "train")
    late = endless_shards(files, shuffle_seed=5, start=30 * 10**6 + 7, epoch_size=30)
    expected = keys(read_shards(files, shuffle_seed=5, epoch=10**6))[7:]
    # Read from the first record on, this would take minutes.
    assert keys(late.take(23)) == expected


def test_then_is_applied_in_reading(packed):
    files = split_files(packed, "train")
    heights = read_shards(files, then=lambda record: record[schema.HEIGHT])
    assert list(heights.as_numpy_iterator()) == [30] * 30
    numbered = endless_shards(
        files, shuffle_seed=5, start=28, then=lambda number, record: (number, record[schema.KEY])
    )
    assert [number for number, _ in numbered.take(5).as_numpy_iterator()] == [28, 29, 30, 31, 32]


def test_only_asked_features_are_parsed(packed):
    record = next(iter(read_split(packed, "train", features=(schema.CAPTION, schema.ID))))
    assert set(record) == {schema.CAPTION, schema.ID}
    assert record[schema.CAPTION].shape == (2,)


def test_many_records_parse_to_ragged_lists(packed):
    serialized = next(iter(tf.data.TFRecordDataset(split_files(packed, "train")).batch(4)))
    parsed = schema.parse(serialized)
    assert parsed[schema.CAPTION].shape == (4, None)
    assert parsed[schema.CAPTION].row_lengths().numpy().tolist() == [2] * 4
    assert parsed[schema.IMAGE].shape == (4,)


def test_the_number_of_records_is_known(packed):
    assert read_split(packed, "train").cardinality() == 30


def test_an_unknown_split_names_those_there_are(packed):
    with pytest.raises(ValueError, match="unknown split of made records 'trian'.*: train, val"):
        split_files(packed, "trian")


def test_directories_that_are_no_records(packed, tmp_path):
    with pytest.raises(FileNotFoundError, match="no records at .*; run python -m tfclip.make_rec"):
        read_split(tmp_path / "nowhere", "train")
    with pytest.raises(
        FileNotFoundError, match="has no manifest.json: the set is unfinished; run python"
    ):
        read_split(tmp_path, "train")


@pytest.fixture
def copy(packed, tmp_path):
    for path in packed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_a_truncated_or_missing_shard_is_named_before_reading(copy):
    path = copy / "train-00002-of-00005.tfrecord"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(
        ValueError, match=r"train-00002-of-00005.tfrecord has \d+ bytes, the manifest lists"
    ):
        split_files(copy, "train")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="train-00002-of-00005.tfrecord is missing"):
        split_files(copy, "train")


@pytest.mark.parametrize("truncated", [False, True])
def test_damage_met_in_reading_is_named_by_shard_and_record(copy, made, truncated):
    path = copy / "train-00003-of-00005.tfrecord"
    content = path.read_bytes()
    records = made.records_of(path, check=False)
    at = sum(len(record) + 16 for record in records[:4]) + 40
    damaged = content[:at] if truncated else content[:at] + b"\0\0\0" + content[at + 3 :]
    files = split_files(copy, "train")
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="train-00003-of-00005.tfrecord: record 4 is damaged"):
        with damage_named(files):
            keys(read_shards(files, shuffle_seed=1))


def test_other_errors_are_not_renamed(packed):
    with pytest.raises(ZeroDivisionError), damage_named(split_files(packed, "train")):
        1 / 0  # noqa: B018


@pytest.mark.parametrize(
    ("text", "path", "split"),
    [
        ("records/flickr8k:dev", "records/flickr8k", "dev"),
        ("records/flickr8k", "records/flickr8k", None),
        ("/data:3/records", "/data:3/records", None),
        ("/data:3/records:test", "/data:3/records", "test"),
    ],
)
def test_records_reference(text, path, split):
    directory, found = records_reference(text)
    assert (str(directory), found) == (path, split)


def test_a_reference_to_an_existing_directory_with_a_colon(tmp_path):
    (tmp_path / "a:b").mkdir()
    assert records_reference(f"{tmp_path}/a:b") == (tmp_path / "a:b", None)
    with pytest.raises(ValueError, match="DIRECTORY:SPLIT"):
        records_reference(f"{tmp_path}/c:")


def test_the_manifest_round_trips(packed):
    manifest = load_manifest(packed)
    assert manifest.text() == (packed / MANIFEST).read_text()
    changed = dataclasses.replace(manifest, source="other")
    assert changed.fingerprint() != manifest.fingerprint() == load_manifest(packed).fingerprint()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[:-20], "damaged"),
        (
            lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
            "version 2, this",
        ),
        (lambda text: text.replace('"source"', '"sauce"'), "damaged"),
        (lambda text: text.replace('"file": "train', '"file": "../train'), "outside"),
        (lambda text: text.replace('"split": "val"', '"split": "lav"'), "unknown split"),
        (lambda text: "[]", "damaged"),
    ],
)
def test_a_damaged_manifest_is_one_line(copy, change, told):
    path = copy / MANIFEST
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=told) as caught:
        split_files(copy, "train")
    assert "\n" not in str(caught.value) and "--overwrite" in str(caught.value)


def test_rows_come_in_the_order_of_the_records_with_and_without_reading(packed):
    files, counts = split_files(packed, "train"), shard_counts(packed, "train")
    options = {"shuffle_seed": 3, "shuffle_block": 7, "counts": counts, "start": 5}
    read = endless_shards(files, features=(schema.KEY,), **options).take(50)
    unread = endless_shards(files, features=(), **options).take(50)
    plain = endless_shards(files, features=(schema.KEY,), **{**options, "counts": None}).take(50)
    rows = [int(record[ROW]) for record in read.as_numpy_iterator()]
    assert [f"made/train{row}".encode() for row in rows] == keys(read) == keys(plain)
    assert [int(record[ROW]) for record in unread.as_numpy_iterator()] == rows
