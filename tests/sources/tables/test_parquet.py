"""Parquet and Arrow tables, written by pyarrow in the layouts of `datasets` and img2dataset."""

import io
import json

import pytest
from PIL import Image

from tfclip.sources.registry import open_source
from tfclip.sources.sample import Rejected, SourceOptions

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def picture(n):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (n, 2 * n, 9)).save(out, "JPEG")
    return out.getvalue()


def hugging_face(features):
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def write(path, columns, metadata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=7)
    else:
        with pyarrow.OSFile(str(path), "wb") as file:
            with pyarrow.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=5)
    return path


def read(source, split="train"):
    items = list(source.read(split))
    assert len(items) == source.counts[split]
    return items


def images(numbers):
    return [{"bytes": picture(n), "path": f"{n}.jpg"} for n in numbers]


@pytest.mark.parametrize("name", ["data/{}-00000-of-00001.parquet", "{}/data-00000-of-00001.arrow"])
def test_tables_of_hugging_face_with_lists_of_captions(tmp_path, name):
    for split, numbers in (("train", range(40)), ("test", range(40, 43))):
        columns = {"image": images(numbers), "caption": [[f"a {n}", f"b {n}"] for n in numbers]}
        write(tmp_path / name.format(split), columns)
    source = open_source("parquet", tmp_path)
    assert source.counts == {"train": 40, "test": 3}
    assert [item.captions for item in read(source, "test")] == [
        (f"a {n}", f"b {n}") for n in range(40, 43)
    ]
    assert [item.image for item in read(source)] == [picture(n) for n in range(40)]
    assert len({item.key for item in read(source)}) == 40


def test_class_labels_are_named_by_the_metadata(tmp_path, capsys):
    names = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    columns = {"img": images(range(4)), "label": [1, 0, -1, 7]}
    write(tmp_path / "train.parquet", columns, hugging_face(names))
    source = open_source("parquet", tmp_path)
    assert source.class_names == ("cat", "dog")
    assert [getattr(item, "labels", None) for item in read(source)] == [
        ("dog",),
        ("cat",),
        (),
        None,
    ]
    assert "no class has the number 7" in read(source)[3].reason
    assert "the labels are the classes in the column 'label'" in capsys.readouterr().err


def test_the_layout_of_img2dataset(tmp_path):
    columns = {
        "key": ["000000000", "000000001", "000000002", "000000000"],
        "caption": ["one", "two", None, "again"],
        "status": ["success", "failed_to_download", "success", "success"],
        "jpg": [picture(0), None, picture(2), picture(3)],
    }
    write(tmp_path / "00000.parquet", columns)
    items = read(open_source("parquet", tmp_path))
    assert (items[0].key, items[0].captions) == ("parquet/000000000", ("one",))
    assert [item.reason for item in items[1:]] == [
        "no picture in 'jpg'",
        "no caption; caption 1: not a string: None",
        "duplicate key: an earlier row has it too",
    ]


def test_labels_in_lists_and_in_columns(tmp_path):
    write(tmp_path / "a.parquet", {"image": images([1]), "tags": [["dog", "cat"]]})
    source = open_source("parquet", tmp_path / "a.parquet", SourceOptions(labels_field="tags"))
    assert source.class_names == read(source)[0].labels == ("cat", "dog")
    write(tmp_path / "b.parquet", {"image": images([1]), "dog": [1], "cat": [0], "cow": [-1]})
    options = SourceOptions(label_fields=("dog", "cat", "cow"))
    item = read(open_source("parquet", tmp_path / "b.parquet", options))[0]
    assert (item.labels, item.difficult) == (("dog",), ("cow",))


def test_tables_of_paths_are_tables_of_captions(tmp_path, draw):
    for name in "ab":
        draw(tmp_path / f"{name}.jpg")
    rows = {"file_name": ["a.jpg", "b.jpg", "a.jpg"], "text": ["one", "two", "three"]}
    path = write(tmp_path / "metadata.parquet", rows)
    for data in (path, tmp_path):
        items = read(open_source("caption_table", data))
        assert [item.captions for item in items] == [("one", "three"), ("two",)]
    with pytest.raises(ValueError, match="with the source caption_table"):
        open_source("parquet", path, SourceOptions(image_field="file_name"))
    write(path, {"image": images([1]), "text": ["x"]})
    with pytest.raises(ValueError, match="read it with the source parquet"):
        open_source("caption_table", path)


def test_damage_is_told_and_what_is_before_it_is_kept(tmp_path):
    write(tmp_path / "train-0.parquet", {"image": images(range(3)), "text": list("abc")})
    whole = write(tmp_path / "train-1.parquet", {"image": images(range(9)), "text": ["x"] * 9})
    whole.write_bytes(whole.read_bytes()[:-40])
    items = read(open_source("parquet", tmp_path))
    assert [isinstance(item, Rejected) for item in items] == [False] * 3 + [True]
    assert "train-1.parquet" in items[-1].reason
    (tmp_path / "alone.arrow").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"alone\.arrow is damaged or of another format"):
        open_source("parquet", tmp_path / "alone.arrow")


@pytest.mark.parametrize("columns", [{"a": [1]}, {"image": [b"x"], "b": ["c"]}])
def test_columns_that_are_missing_are_listed(tmp_path, columns):
    path = write(tmp_path / "t.parquet", columns)
    with pytest.raises(ValueError, match="name a column with --.*its columns are: "):
        open_source("parquet", path)
