"""The beginnings of tables: byte order marks, and what is no table at all."""

import pytest

from tfclip.records.check import BadPicture, check_picture
from tfclip.sources.registry import open_source
from tfclip.sources.tables.delimited import Table

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
HTML = b"\n<!DOCTYPE html>\n<title>404</title>"


@pytest.mark.parametrize(
    "content, told",
    [(LFS, "git lfs pull"), (HTML, "an HTML page"), (b"../../blobs/meta", "the text of a link")],
)
def test_what_stands_in_the_place_of_a_file_is_named(content, told, tmp_path):
    for source, name in [
        ("caption_table", "train.csv"),
        ("caption_table", "train.jsonl"),
        ("coco", "annotations/captions_val.json"),
    ]:
        path = tmp_path / source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        with pytest.raises(ValueError, match=told):
            open_source(source, path if source == "caption_table" else tmp_path / source)
    with pytest.raises(BadPicture, match=told):
        check_picture(content)


def test_a_table_without_an_object_says_why(tmp_path):
    (tmp_path / "train.jsonl").write_text("[1]\n{\n")
    with pytest.raises(ValueError, match="no row that is a JSON object; the first: not a JSON obj"):
        open_source("caption_table", tmp_path / "train.jsonl")
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(ValueError, match="it is empty"):
        open_source("caption_table", tmp_path / "train.jsonl")


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
