"""Which targets packing refuses, and what a run that ends early leaves."""

import json
import os

import pytest

from tfclip.records.manifest import Shard
from tfclip.records.packing.journal import JOURNAL, Finished
from tfclip.records.packing.target import built_beside, check_target


def finish(building, journal, name="train-00000-of-00001.tfrecord"):
    (building / name).write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # sha256 of nothing
    journal.add(Finished(Shard(name, "train", 5, 0, empty), "inputs", {"images": 5}, {3: 5}, ()))


def left(tmp_path):
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))


def test_targets_that_are_refused(tmp_path):
    check_target(tmp_path / "new", False)
    (tmp_path / "file").write_text("a file")
    with pytest.raises(FileExistsError, match="is a file"):
        check_target(tmp_path / "file", True)
    (tmp_path / "photos").mkdir()
    check_target(tmp_path / "photos", False)  # an empty directory is as good as none
    (tmp_path / "photos/holiday.jpg").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="other files .holiday.jpg."):
            check_target(tmp_path / "photos", overwrite)
    (tmp_path / "set.partial").mkdir()
    (tmp_path / "set.partial/thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="thesis.tex"):
        check_target(tmp_path / "set", True)
    (tmp_path / "done").mkdir()
    (tmp_path / "done/manifest.json").write_text("{}")
    with pytest.raises(FileExistsError, match="add --overwrite"):
        check_target(tmp_path / "done", False)
    check_target(tmp_path / "done", True)
    (tmp_path / "done.replaced").mkdir()
    with pytest.raises(FileExistsError, match="done.replaced is in the way"):
        check_target(tmp_path / "done", True)


def test_a_target_that_cannot_be_written(tmp_path, monkeypatch):
    """The question goes to the system, which lets root write nearly everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode, effective_ids: False)
    with pytest.raises(PermissionError, match=f"cannot write in {tmp_path}; choose another"):
        check_target(tmp_path / "new/folders/set", False)
    assert left(tmp_path) == []


def test_what_a_killed_run_left_unfinished_is_cleared(tmp_path):
    (tmp_path / "set.partial").mkdir()
    (tmp_path / "set.partial/train-00000-of-00001.tfrecord.tmp").write_text("half")
    (tmp_path / "set.partial/train-00000-of-00001.tfrecord").write_text("not in the journal")
    with built_beside(tmp_path / "set", False) as (building, _):
        assert [path.name for path in building.iterdir()] == [JOURNAL]
        (building / "manifest.json").write_text("{}")
        assert not (tmp_path / "set").exists()
    assert left(tmp_path) == ["set", "set/manifest.json"]


def test_an_interruption_leaves_nothing_unfinished(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with built_beside(tmp_path / "a/b/set", False) as (building, journal):
            (building / "train-00000-of-00002.tfrecord").write_text("half")
            raise KeyboardInterrupt
    assert left(tmp_path) == []


def test_finished_shards_stay_and_are_there_again(tmp_path):
    for attempt in range(2):
        with pytest.raises(ValueError, match="no words") as raised:
            with built_beside(tmp_path / "set", False) as (building, journal):
                assert len(journal) == attempt
                finish(building, journal)
                (building / "vocab.txt").write_text("half")
                raise ValueError("no words")
        assert "1 finished shards are kept in" in raised.value.__notes__[0]
        kept = [
            "set.partial",
            f"set.partial/{JOURNAL}",
            "set.partial/train-00000-of-00001.tfrecord",
        ]
        assert left(tmp_path) == kept


@pytest.mark.parametrize("spoil", ["half a line", "changed", "removed", "no json"])
def test_a_shard_that_is_not_what_the_journal_says_is_not_kept(tmp_path, spoil):
    with pytest.raises(ValueError):
        with built_beside(tmp_path / "set", False) as (building, journal):
            finish(building, journal, "train-00000-of-00002.tfrecord")
            finish(building, journal, "train-00001-of-00002.tfrecord")
            raise ValueError
    path, shard = building / JOURNAL, building / "train-00001-of-00002.tfrecord"
    text = path.read_text()
    if spoil == "half a line":
        path.write_text(text[:-20])
    elif spoil == "changed":
        shard.write_bytes(b"1")
    elif spoil == "removed":
        shard.unlink()
    else:
        path.write_text(text.splitlines()[0] + '\n{"shard": 7}\nnull\n')
    with built_beside(tmp_path / "set", False) as (building, journal):
        assert (len(journal), journal.records) == (1, 5)
        assert journal["train-00000-of-00002.tfrecord"].words == {3: 5}
        assert not shard.exists()
        finish(building, journal, "train-00001-of-00002.tfrecord")
        lines = path.read_text().splitlines()
        assert [json.loads(line)["shard"]["file"][6:11] for line in lines] == ["00000", "00001"]


def test_one_run_at_a_time(tmp_path):
    with built_beside(tmp_path / "set", False):
        with pytest.raises(BlockingIOError, match="another run packs into .*set.partial; wait"):
            with built_beside(tmp_path / "set", False):
                raise AssertionError
    with built_beside(tmp_path / "set", True):
        pass


@pytest.mark.parametrize("at", ["first rename", "second rename", "tidying up", "last step"])
def test_killed_while_one_set_takes_the_place_of_another(tmp_path, at):
    """The states that a kill can leave, made by hand; the next run ends with the new set alone."""
    new = tmp_path / "set.partial"
    with pytest.raises(ValueError):
        with built_beside(tmp_path / "set", False) as (building, journal):
            finish(building, journal)
            raise ValueError
    (tmp_path / "set").mkdir()
    (tmp_path / "set/manifest.json").write_text("old")
    (new / "manifest.json").write_text("new")
    if at != "first rename":
        (tmp_path / "set").rename(tmp_path / "set.replaced")
    if at in ("tidying up", "last step"):
        new.rename(tmp_path / "set")
    if at == "last step":
        (tmp_path / "set.replaced/manifest.json").unlink()
        (tmp_path / "set.replaced").rmdir()
    with pytest.raises(FileExistsError, match="add --overwrite"):
        check_target(tmp_path / "set", False)
    with built_beside(tmp_path / "set", True) as (building, journal):
        kept = at in ("first rename", "second rename")  # else the refusal has tidied up
        assert len(journal) == kept
        assert (tmp_path / "set/manifest.json").read_text() == ("old" if kept else "new")
        (building / "manifest.json").write_text("newer")
    assert (tmp_path / "set/manifest.json").read_text() == "newer"
    assert not {"set.partial", "set.replaced", f"set/{JOURNAL}"} & set(left(tmp_path))


def test_killed_in_the_last_step_goes_on_where_it_was(tmp_path):
    with pytest.raises(ValueError):
        with built_beside(tmp_path / "set", False) as (building, journal):
            finish(building, journal)
            raise ValueError
    (building / "manifest.json").write_text("new")
    building.rename(tmp_path / "set")
    with built_beside(tmp_path / "set", True) as (_, journal):
        assert len(journal) == 1


def test_a_link_to_a_directory_stays_one(tmp_path):
    (tmp_path / "disk/records").mkdir(parents=True)
    (tmp_path / "set").symlink_to(tmp_path / "disk/records")
    with built_beside(tmp_path / "set", False) as (building, _):
        assert building.parent == tmp_path / "disk"
        (building / "manifest.json").write_text("{}")
    assert (tmp_path / "set").is_symlink()
    assert (tmp_path / "disk/records/manifest.json").exists()
