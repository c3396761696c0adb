import csv
import json
from collections import defaultdict

import pytest

from tfclip.sources.sample import Rejected, SourceOptions
from tfclip.sources.tables.caption_table import open_caption_table

ROWS = [
    ("pictures/a.jpg", 'A dog, said "Anna"\nand ran.', "two"),
    ("pictures/b.jpg", "plain", ""),
    ("pictures/a.jpg", "dög", "four"),
]


@pytest.fixture
def folder(tmp_path, draw):
    for name in "ab":
        draw(tmp_path / f"data/pictures/{name}.jpg")
    return tmp_path / "data"


def captions(source, split="train"):
    items = [item for item in source.read(split) if not isinstance(item, Rejected)]
    return {item.key.removeprefix("caption_table/"): item.captions for item in items}


def test_csv_with_quotes_and_line_breaks_and_rows_of_one_picture(folder):
    with (folder / "all.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("image", "caption_1", "caption_2"), *ROWS])
    source = open_caption_table(folder / "all.csv", SourceOptions())
    assert source.counts == {"train": 2}
    assert captions(source) == {
        "pictures/a.jpg": (ROWS[0][1], "two", "dög", "four"),
        "pictures/b.jpg": ("plain",),
    }
    one = SourceOptions(caption_fields=("caption_2",), image_field="image")
    assert captions(open_caption_table(folder / "all.csv", one))["pictures/a.jpg"] == (
        "two",
        "four",
    )


def test_tsv_knows_no_quotes(folder):
    (folder / "val.tsv").write_text('filepath\ttitle\npictures/a.jpg\ta "dog\n\n')
    assert captions(open_caption_table(folder / "val.tsv", SourceOptions()), "val") == {
        "pictures/a.jpg": ('a "dog',)
    }


def test_jsonl_with_lists_and_a_split_column(folder):
    rows = [
        {"path": "pictures/a.jpg", "captions": ["one", "two"], "split": "train"},
        {"path": "pictures/b.jpg", "captions": "three", "split": "test"},
    ]
    table = folder / "all.jsonl"
    table.write_text("".join(json.dumps(row) + "\n\n" for row in rows))
    source = open_caption_table(table, SourceOptions(split_field="split"))
    assert source.counts == {"train": 1, "test": 1}
    assert captions(source) == {"pictures/a.jpg": ("one", "two")}
    assert captions(source, "test") == {"pictures/b.jpg": ("three",)}
    assert open_caption_table(
        table, SourceOptions(split_field="split", splits=("test",))
    ).counts == {"test": 1}


def test_the_tables_of_a_folder_are_splits_and_pictures_may_lie_elsewhere(folder, tmp_path):
    tables = tmp_path / "tables"
    tables.mkdir()
    for split, name in (("train", "a"), ("dev", "b")):
        (tables / f"{split}.csv").write_text(f"file,text\n{name}.jpg,said\n")
    source = open_caption_table(tables, SourceOptions(images=folder / "pictures"))
    assert source.counts == {"dev": 1, "train": 1}
    with pytest.raises(FileNotFoundError, match="none of the pictures"):
        open_caption_table(tables, SourceOptions())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"path": "pictures/a.jpg", "caption": "one"}, {"path": "pictures/b.jpg", '
         '"caption": "two"}]', "as JSON lines"),
        ('{"version": 1, "rows": [\n{"path": "pictures/a.jpg", "caption": "one"},\n '
         '{"path": "pictures/b.jpg", "caption": "two"}]}', "as JSON lines"),
        ('{"path": "pictures/a.jpg", "caption": "one"}\n{"path": "pictures/b.jpg", '
         '"caption": "two"}\n', ""),
    ],
    ids=["array", "object", "lines"],
)  # fmt: skip
def test_json_files_are_tables(folder, capsys, content, said):
    (folder / "train.json").write_text(content)
    for data in (folder / "train.json", folder):
        source = open_caption_table(data, SourceOptions())
        assert captions(source) == {"pictures/a.jpg": ("one",), "pictures/b.jpg": ("two",)}
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [("[]", "no array of objects"), ('{"a": [1], "b": [2]}', r"several arrays \(a, b\)"),
     ("[1, 2]", "no row that is a JSON object; the first: not a JSON object"),
     ('[{"path"', "byte 1: the file is truncated")],
)  # fmt: skip
def test_other_json_files_are_refused(folder, content, said):
    (folder / "t.json").write_text(content)
    with pytest.raises(ValueError, match=said):
        open_caption_table(folder / "t.json", SourceOptions())


@pytest.mark.parametrize("root", ["C:\\Users\\me\\", "/home/me/"])
def test_absolute_paths_of_another_machine_are_read_below_the_table(folder, capsys, root):
    inner = "\\" if "\\" in root else "/"
    rows = [f"{root}pictures{inner}a.jpg,one", "D:\\pictures\\b.jpg,two", f"{root}b.jpg,x"]
    (folder / "t.csv").write_text("path,caption\n" + "\n".join(rows) + "\n")
    first, *others = open_caption_table(folder / "t.csv", SourceOptions()).read("train")
    assert first.image == folder / "pictures" / "a.jpg"
    # Another beginning may be another picture.
    assert all(isinstance(item, Rejected) for item in others) and len(others) == 2
    assert "not a relative path" in others[0].reason
    assert f"absolute paths are read without {root!a}" in capsys.readouterr().err


def test_what_cannot_be_used_is_listed_with_the_reason(folder, tmp_path, draw):
    (folder / "out.jpg").symlink_to(draw(tmp_path / "secret.jpg"))
    bad = [
        (b"../secret.jpg,x", "not a relative path"),
        (b"/etc/passwd,x", "not a relative path"),
        (b"pictures/../../secret.jpg,x", "not a relative path"),
        (b"out.jpg,x", "a link out of the data folder"),
        (b"pictures/none.jpg,x", "no such file"),
        (b"pictures,x", "not a file"),
        (b"pictures/b.jpg", "1 fields, but the first line names 2 columns"),
        (b"a,b,c", "3 fields"),
        (b",x", "no path"),
        (b'"a"b,x', "damaged row"),
        (b"pi\xffctures/a.jpg,x", "control character or invalid UTF-8"),
        (b"pictures/b.jpg," + b"x" * 10_001, "no caption; caption 1: 10,001 characters"),
        (b'late,"never closed', "damaged row: unexpected end"),
    ]
    good = b"pictures/a.jpg,ok\npictures/a.jpg,\npictures/a.jpg,\xff\n"
    (folder / "t.csv").write_bytes(
        b"path,caption\n" + good + b"\n".join(row for row, _ in bad) + b"\n"
    )
    sample, *rejected = open_caption_table(folder / "t.csv", SourceOptions()).read("train")
    assert sample.captions == ("ok",)
    assert [reason.split(":")[1].strip() for reason in sample.dropped] == [
        "empty",
        "invalid Unicode",
    ]
    assert all(isinstance(item, Rejected) for item in rejected)
    assert len(rejected) == len(bad)
    for item, (row, reason) in zip(rejected, bad, strict=True):
        assert reason in item.reason, row


def test_lines_of_jsonl_that_are_no_objects_are_listed(folder):
    lines = ["{", "[1]", '{"path": 7, "text": "x"}', '{"text": "x"}', "[" * 100_000]
    lines += ['{"path": "pictures/a.jpg", "text": {"a": 1}}', '{"path": "pictures/b.jpg"}']
    good = '{"path": "pictures/b.jpg", "text": "good"}'
    (folder / "t.jsonl").write_text("\n".join([good, *lines]))
    sample, *rejected = open_caption_table(folder / "t.jsonl", SourceOptions()).read("train")
    assert sample.captions == ("good",) and len(sample.dropped) == 1
    told = [
        "malformed JSON",
        "not a JSON object",
        "no path",
        "no path",
        "nested too deeply",
        "not a string",
    ]
    for item, reason in zip(rejected, told, strict=True):
        assert reason in item.reason


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("t.csv", "", "must name the columns"),
        ("t.csv", "path,path\na,b\n", "occurs twice"),
        ("t.csv", "a,b\npictures/a.jpg,c\n", "--path-column"),
        ("t.csv", "path,b\npictures/a.jpg,c\n", "--caption-columns"),
        ("t.csv", "path,text\n", "has no rows"),
        ("t.jsonl", "", "it is empty"),
        ("t.txt", "path,text\n", "allowed: a .csv, .tsv, .json or .jsonl"),
        ("t.csv", "path,text\na," + "x" * (1 << 20), "line of more than"),
    ],
)
def test_a_table_of_another_layout_is_one_clear_error(folder, name, text, told):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=told):
        open_caption_table(folder / name, SourceOptions())


def test_an_unknown_column_lists_those_there_are(folder):
    (folder / "t.csv").write_text("path,text\npictures/a.jpg,x\n")
    with pytest.raises(ValueError, match="no column 'pth'; it has, nearest first: 'path', 'text'"):
        open_caption_table(folder / "t.csv", SourceOptions(image_field="pth"))


def test_flickr8k_as_a_table_is_flickr8k(real_data, tmp_path):
    expected = defaultdict(tuple)
    with (tmp_path / "all.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "caption"])
        for line in (real_data / "flickr8k/Flickr8k.token.txt").open(encoding="utf-8"):
            name, caption = line.rstrip("\n").split("\t")
            expected[name[:-2]] += (caption,)
            writer.writerow([name[:-2], caption])
    images = real_data / "flickr8k/Flicker8k_Dataset"
    source = open_caption_table(tmp_path / "all.csv", SourceOptions(images=images))
    there = {name: said for name, said in expected.items() if (images / name).exists()}
    assert source.counts["train"] == len(expected)
    items = list(source.read("train"))
    found = {i.image.name: i.captions for i in items if not isinstance(i, Rejected)}
    assert found == there and len(there) == 7000
    assert {i.reason.split(":")[0] for i in items if isinstance(i, Rejected)} <= {"no such file"}
