"""Byte order marks: only the first bytes of a file are one, later they are text."""

from tfclip.sources.registry import open_source
from tfclip.sources.tables.delimited import Table


def test_a_mark_within_a_text_is_text(tmp_path, draw):
    for name in "ab":
        draw(tmp_path / f"{name}.jpg")
    path = tmp_path / "train.csv"
    mark = "\ufeff"
    path.write_text(f'{mark}path,caption\na.jpg,"one\n{mark}two"\nb.jpg,{mark}\n', "utf-8")
    source = open_source("caption_table", path)
    assert [s.captions for s in source.read("train")] == [(f"one\n{mark}two",), (mark,)]
    path = tmp_path / "train.jsonl"
    path.write_text(f'{mark}{{"path": "a.jpg", "caption": "{mark}x"}}\n', "utf-8")
    source = open_source("caption_table", path)
    assert [s.captions for s in source.read("train")] == [(f"{mark}x",)]
    path = tmp_path / "train.tsv"
    path.write_text(f"{mark}path;caption\na.jpg;x\n", "utf-8")
    assert Table(path).columns == ("path", "caption")
