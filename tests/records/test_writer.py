"""Packing: read back with a hand-written TFRecord reader, protobuf and hashlib."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfclip.records import schema
from tfclip.records.manifest import SplitCounts, load_manifest
from tfclip.records.options import PackOptions
from tfclip.records.pool import PictureCheckers
from tfclip.records.reader import read_split
from tfclip.records.writer import TooManySkipped, pack
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
    assert set(contents(packed)) == {*names, "manifest.json", "skipped.jsonl"}


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


def left(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize("out", ["out", "new/folders/out"])
def test_nothing_is_left_of_a_set_that_fails(made, tmp_path, out):
    bad = [Sample("made/bad", b"text", ("a",)), Rejected("made/worse", "gone", "val")]
    source = made.source_of({"train": made.samples(2), "val": bad})
    with pytest.raises(ValueError, match="split 'val' of made could be packed: all 2 were reject"):
        pack(source, tmp_path / out, LAX)
    assert left(tmp_path) == []


def test_a_source_that_breaks_its_word(made, tmp_path):
    source = made.source_of({"train": made.samples(3)})
    for counted in (2, 4):
        liar = dataclasses.replace(source, counts={"train": counted})
        with pytest.raises(ValueError, match=f"{counted} pictures were counted in 'train', 3"):
            pack(liar, tmp_path / "out", LAX)
    assert left(tmp_path) == []


def test_an_error_in_the_source_leaves_nothing(made, tmp_path):
    def read(split):
        yield from made.samples(2)
        raise ValueError("line 3 is not a caption")

    source = dataclasses.replace(made.source_of({"train": made.samples(3)}), read=read)
    with pytest.raises(ValueError, match="line 3"):
        pack(source, tmp_path / "out", LAX)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("counts", "options", "told"),
    [
        ({"train": 0}, {}, "split 'train' of made is empty"),
        ({}, {}, "no split"),
        ({"train": 2, "val": 1}, {"splits": ("vla",)}, "unknown split of made 'vla'.*: val, train"),
        ({"../up": 1}, {}, "split name '../up'"),
    ],
)
def test_refused_before_any_work(made, tmp_path, counts, options, told):
    source = dataclasses.replace(made.source_of({}), counts=counts)
    with pytest.raises(ValueError, match=told):
        pack(source, tmp_path / "out", PackOptions(**options))
    assert left(tmp_path) == []


def test_a_finished_set_stays_until_the_new_one_is_complete(made, tmp_path):
    out = tmp_path / "out"
    good = made.source_of({"train": made.samples(2)})
    pack(good, out, LAX)
    before = contents(out)
    with pytest.raises(FileExistsError, match="--overwrite"):
        pack(good, out, LAX)
    again = dataclasses.replace(LAX, overwrite=True)
    with pytest.raises(ValueError, match="could be packed"):
        pack(made.source_of({"train": [Sample("a", b"text")]}), out, again)
    assert contents(out) == before
    pack(made.source_of({"train": made.samples(3)}), out, again)
    assert load_manifest(out).splits["train"] == SplitCounts(3, 6, 3)
    assert left(tmp_path) == ["out", *(f"out/{name}" for name in sorted(contents(out)))]


def test_too_many_rejects_keep_the_list_and_nothing_else(made, tmp_path):
    items = [*made.samples(98), Rejected("x", "gone", "train"), Rejected("y", "gone", "train")]
    source = made.source_of({"train": items})
    with pytest.raises(TooManySkipped, match=r"2 of 100 .* 1.00%; .*out/skipped.jsonl"):
        pack(source, tmp_path / "out", PackOptions(workers=1))
    assert left(tmp_path) == ["out", "out/skipped.jsonl"]
    assert len((tmp_path / "out/skipped.jsonl").read_text().splitlines()) == 2
    # The list does not stand in the way of the next try.
    pack(source, tmp_path / "out", PackOptions(workers=1, max_skipped=0.02))
    with pytest.raises(TooManySkipped, match=r"out.skipped.jsonl"):
        pack(source, tmp_path / "out", PackOptions(workers=1, overwrite=True))
    assert load_manifest(tmp_path / "out").splits["train"].skipped == 2


def test_finish_adds_to_the_set_and_its_error_undoes_it(made, tmp_path):
    source = made.source_of({"train": made.samples(2), "val": made.samples(1, "val")})

    def finish(building, files):
        assert not (building / "manifest.json").exists()
        assert [len(listed) for listed in files.values()] == [1, 1]
        (building / "vocab.txt").write_text(Path(files["train"][0]).name)

    pack(source, tmp_path / "out", LAX, finish=finish)
    assert (tmp_path / "out/vocab.txt").read_text() == "train-00000-of-00001.tfrecord"

    def fail(building, files):
        raise ValueError("no words")

    with pytest.raises(ValueError, match="no words"):
        pack(source, tmp_path / "other", LAX, finish=fail)
    assert left(tmp_path / "out") and not (tmp_path / "other").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_an_os_error(made, tmp_path, monkeypatch):
    from tfclip.records import writer

    def full(path):
        return original("/dev/full")

    original = tf.io.TFRecordWriter
    monkeypatch.setattr(writer.tf.io, "TFRecordWriter", full)
    with pytest.raises(OSError, match="cannot write .*out"):
        pack(made.source_of({"train": made.samples(2)}), tmp_path / "out", LAX)
    assert left(tmp_path) == []


def test_workers_know_no_tensorflow():
    code = "import sys, tfclip.records.worker; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_pool_reads_no_further_than_it_must():
    """Memory stays flat: items are drawn a few chunks ahead of what is taken."""
    drawn = 0

    def items():
        nonlocal drawn
        for drawn in range(1, 10_001):  # noqa: UP028
            yield drawn

    with PictureCheckers(2, None) as checkers:
        answers = checkers.in_order(items(), lambda item: None)
        for _ in range(100):
            next(answers)
        assert drawn < 300
        answers.close()


def test_a_worker_that_dies_is_an_error_and_not_a_hang(made, tmp_path):
    """A picture that cannot even be sent: the worker cannot read what it is asked."""
    items = [tmp_path / "a.jpg"]

    class Poison:
        def __reduce__(self):
            return (os._exit, (9,))

    with (
        pytest.raises(ChildProcessError, match="exit code 9"),
        PictureCheckers(1, None) as checkers,
    ):
        list(checkers.in_order(items, lambda item: Poison()))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_pictures(made, tmp_path):
    """Peak memory of the packing process, in kB: ten times the pictures, within 5 %."""
    (tmp_path / "a.jpg").write_bytes(made.encoded(made.pixels(64, 48)))
    code = """
import resource, sys
from pathlib import Path
from tfclip.records.options import PackOptions
from tfclip.records.writer import pack
from tfclip.sources.sample import Sample, Source
folder, count = Path(sys.argv[1]), int(sys.argv[2])
samples = lambda split: (Sample(f"m/{at}", folder / "a.jpg", (f"{at}",)) for at in range(count))
pack(Source("m", {"train": count}, samples), folder / f"out{count}", PackOptions())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    few, many = (
        int(subprocess.check_output([sys.executable, "-c", code, str(tmp_path), str(count)]))
        for count in (2_000, 20_000)
    )
    assert many < 1.05 * few
