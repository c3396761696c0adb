"""The benchmarks of search sync: what they make, and what they refuse to pass."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.kill_search import KillFlags, Reader
from benchmarks.search_sync import Collection, SyncFlags, check
from tfclip.console import CommandFailed
from tfclip.evaluation.search import store


def test_numbers_out_of_range_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--kills 0"):
        KillFlags(tmp_path, kills=0)
    with pytest.raises(ValueError, match="--added 2"):
        SyncFlags(tmp_path, added=2)


def test_a_collection_grows_by_other_pictures(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    (tmp_path / "photographs").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photographs" / "a.jpg")
    made = Collection(tmp_path / "made", tmp_path / "photographs")
    assert made.add(2) + made.add(1) == ["0000/000000.jpg", "0000/000001.jpg", "0000/000002.jpg"]
    contents = {path.read_bytes() for path in (tmp_path / "made").rglob("*.jpg")}
    assert len(contents) == 3
    with pytest.raises(CommandFailed, match="no photographs"):
        Collection(tmp_path / "made", tmp_path / "nowhere")


def test_another_number_of_embedded_pictures_fails():
    check({"embedded": 3}, embedded=3)
    with pytest.raises(CommandFailed, match="embedded is 3, expected 2"):
        check({"embedded": 3}, embedded=2)


def test_an_index_that_is_neither_old_nor_new_fails(tmp_path):
    rows = np.eye(3, dtype=np.float32)
    with store.new_data(tmp_path, 3) as writer:
        pictures = np.zeros(3, store.PICTURE)
        pictures["bytes"] = (5, 6, 7)
        writer.add(rows[:, None], pictures, [b"a.jpg", b"b.jpg", b"c.jpg"])
        source = {"kind": "folder", "path": "/none", "relative": "none"}
        rest = {"run": "x", "model": "x", "tiles": "1", "synced": 0, "sources": [source]}
        writer.finish(rest | {"excluded": [], "problems": []})
    reader = Reader(tmp_path)
    state = {"a.jpg": 5, "b.jpg": 6, "c.jpg": 7}
    assert reader.look({"old": {"a.jpg": 5}, "new": state}) == "new"
    with pytest.raises(CommandFailed, match="neither old nor new"):
        reader.look({"old": {"a.jpg": 5}, "new": state | {"c.jpg": 8}})
