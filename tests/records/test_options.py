"""What follows from the options, and which targets packing refuses."""

import pytest

from tfclip.records.options import PackOptions, drawn, shard_ends, shard_name
from tfclip.records.target import built_beside, check_target


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"image_size": 0}, "received --image-size 0; allowed: 1 or more"),
        ({"max_images": -3}, "received --max-images -3"),
        ({"workers": 0}, "--workers"),
        ({"shards": 0}, "--shards"),
        ({"seed": -1}, "--seed"),
        ({"max_skipped": 1.5}, "received --max-skipped 1.5; allowed: 0 to 1"),
        ({"max_skipped": float("nan")}, "--max-skipped"),
    ],
)
def test_options_validate_themselves(options, told):
    with pytest.raises(ValueError, match=told):
        PackOptions(**options)


@pytest.mark.parametrize("count", [1, 2, 999, 1499, 1501, 6000, 80_003])
@pytest.mark.parametrize("shards", [None, 1, 7])
def test_shards_hold_every_item_once_and_are_even(count, shards):
    ends = shard_ends(count, shards)
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert ends[-1] == count
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
    if shards is None:
        assert max(sizes) <= 1500
    else:
        assert len(ends) == min(shards, count)


def test_shard_names_sort_in_order():
    assert shard_name("train", 3, 16) == "train-00003-of-00016.tfrecord"


def test_drawn_subsets_depend_on_seed_and_split():
    some = PackOptions(max_images=10)
    assert drawn("train", 10, some) is None
    assert drawn("train", 1000, PackOptions()) is None
    first = drawn("train", 1000, some)
    assert len(first) == 10 and max(first) < 1000
    assert first == drawn("train", 1000, some)
    assert first != drawn("val", 1000, some)
    assert first != drawn("train", 1000, PackOptions(max_images=10, seed=1))


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
    with pytest.raises(FileExistsError, match="done.replaced is in the way; rename it to .*done"):
        check_target(tmp_path / "done", True)


def test_what_a_killed_run_left_is_cleared(tmp_path):
    (tmp_path / "set.partial").mkdir()
    (tmp_path / "set.partial/train-00000-of-00001.tfrecord.tmp").write_text("half")
    with built_beside(tmp_path / "set", False) as building:
        assert list(building.iterdir()) == []
        (building / "manifest.json").write_text("{}")
        assert not (tmp_path / "set").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_interruption_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with built_beside(tmp_path / "a/b/set", False) as building:
            (building / "train-00000-of-00001.tfrecord").write_text("half")
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_directory_stays_one(tmp_path):
    (tmp_path / "disk/records").mkdir(parents=True)
    (tmp_path / "set").symlink_to(tmp_path / "disk/records")
    with built_beside(tmp_path / "set", False) as building:
        assert building.parent == tmp_path / "disk"
        (building / "manifest.json").write_text("{}")
    assert (tmp_path / "set").is_symlink()
    assert (tmp_path / "disk/records/manifest.json").exists()
