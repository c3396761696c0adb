"""What packing refuses, what it leaves behind, and what it keeps."""

import dataclasses
import os
from pathlib import Path

import pytest
import tensorflow as tf

from tfclip.records.manifest import SplitCounts, load_manifest
from tfclip.records.options import PackOptions
from tfclip.records.packing import writer
from tfclip.records.packing.writer import TooManySkipped, pack
from tfclip.sources.sample import Rejected, Sample

LAX = PackOptions(max_skipped=1.0, workers=1)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def left(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize("out", ["out", "new/folders/out"])
def test_nothing_is_left_of_a_set_that_fails(made, tmp_path, out):
    bad = [Sample("made/bad", b"text", ("a",)), Rejected("made/worse", "gone", "val")]
    source = made.source_of({"val": bad})
    with pytest.raises(ValueError, match="split 'val' of made could be packed: all 2 were reject"):
        pack(source, tmp_path / out, LAX)
    assert left(tmp_path) == []


def test_a_source_that_breaks_its_word(made, tmp_path):
    source = made.source_of({"train": made.samples(3)})
    for counted in (2, 4):
        liar = dataclasses.replace(source, counts={"train": counted})
        with pytest.raises(ValueError, match=f"'train' had {counted} pictures, now 3"):
            pack(liar, tmp_path / "out", LAX)
    # Shards of what was there stay; the digests of their inputs decide whether they are of use.
    assert all("tfrecord.tmp" not in name for name in left(tmp_path))
    assert pack(source, tmp_path / "out", LAX).splits["train"].images == 3


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
    shards = ["train-00000-of-00001.tfrecord", "finished.jsonl"]
    kept = ["out", "out.partial", *sorted(f"out.partial/{name}" for name in shards)]
    assert left(tmp_path) == [*kept, "out/skipped.jsonl"]
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
    def full(path):
        return original("/dev/full")

    original = tf.io.TFRecordWriter
    monkeypatch.setattr(writer.tf.io, "TFRecordWriter", full)
    with pytest.raises(OSError, match="cannot write .*out"):
        pack(made.source_of({"train": made.samples(2)}), tmp_path / "out", LAX)
    assert left(tmp_path) == []
