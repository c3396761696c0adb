"""Tables and folders in the habits of Excel, Windows, pandas, Kaggle and Hugging Face."""

import io
import zipfile

import pytest
from PIL import Image

from tfclip.evaluation.datasets.class_folders import class_folders
from tfclip.sources.registry import open_source
from tfclip.sources.safe_paths import find_below, find_file
from tfclip.sources.sample import Sample, SourceOptions


def read(source, data, **options):
    """Return captions and labels of each sample by key, and the reasons of the rejects."""
    opened = open_source(source, data, SourceOptions(**options))
    items = [item for split in opened.counts for item in opened.read(split)]
    assert sum(opened.counts.values()) == len(items)
    kept = {i.key.partition("/")[2]: i for i in items if isinstance(i, Sample)}
    return kept, [item.reason for item in items if not isinstance(item, Sample)]


def table(folder, text, draw, name="t.csv"):
    for stem in ("a", "b", "c", "p/d"):
        draw(folder / f"{stem}.jpg")
    (folder / name).write_bytes(text.encode())
    return folder / name


def test_the_separator_line_of_excel(tmp_path, draw):
    path = table(tmp_path, "\ufeffsep=;\r\npath;caption\r\na.jpg;one, two\r\n", draw)
    kept, rejected = read("caption_table", path)
    assert kept["a.jpg"].captions == ("one, two",) and not rejected


def test_paths_of_windows_blanks_and_dots_are_one_picture_each(tmp_path, draw):
    text = "path,caption\np\\d.jpg,one\n b.jpg ,two\na.jpg,three\n./a.jpg,four\n.//a.jpg,five\n"
    kept, rejected = read("caption_table", table(tmp_path, text, draw))
    assert kept["a.jpg"].captions == ("three", "four", "five") and len(kept) == 3
    assert kept["p\\d.jpg"].image.name == "d.jpg" and not rejected


def test_no_spelling_leads_out_of_the_folder(tmp_path, draw):
    draw(tmp_path / "secret.jpg")
    text = "path,caption\na.jpg,x\n..\\secret.jpg,x\n\\etc\\passwd,x\np\\..\\..\\secret.jpg,x\n"
    kept, rejected = read("caption_table", table(tmp_path / "data", text, draw))
    assert list(kept) == ["a.jpg"] and len(rejected) == 3


def test_a_plain_name_does_not_lead_through_a_linked_folder(tmp_path, draw):
    draw(tmp_path / "elsewhere/a.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere")
    for find in (
        lambda name: find_file(tmp_path / "data", [tmp_path / "data"], name),
        lambda name: find_below(tmp_path / "data", name),
    ):
        with pytest.raises(ValueError, match="no such file|a link out of"):
            find("link\\a.jpg")


def test_missing_texts_of_pandas_are_no_captions(tmp_path, draw):
    text = "path,caption\na.jpg,nan\nb.jpg,None\nb.jpg,nan bread\na.jpg,NaN\n"
    kept, rejected = read("caption_table", table(tmp_path, text, draw))
    assert kept["b.jpg"].captions == ("nan bread",) and "None" in kept["b.jpg"].dropped[0]
    assert len(rejected) == 1 and "stands for a missing text" in rejected[0]


def test_paths_without_an_extension(tmp_path, draw, capsys):
    path = table(tmp_path, "image_id,label\na,x\nb,y\nz,y\n", draw)
    options = {"image_field": "image_id", "labels_field": "label"}
    kept, rejected = read("caption_table", path, **options)
    assert kept["a"].labels == ("x",) and kept["b"].image.name == "b.jpg" and len(rejected) == 1
    assert "paths lack their extension: 'a' is .jpg" in capsys.readouterr().err


def test_unused_columns_are_named(tmp_path, draw, capsys):
    read("caption_table", table(tmp_path, "path,caption,url,who\na.jpg,x,u,w\n", draw))
    assert "columns that are not used: 'url', 'who'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "cells, told",
    [
        (["dog, cat", "dog", "cat"], "if ',' separates them"),
        (["dog|cat", "dog;cat", "cat"], "if ';' separates them"),
        (["dog cat", "dog", "cat"], "if ' ' separates them"),
        (["dog", "Dog", "cat"], "'dog' and 'Dog' differ in upper case alone"),
        (["tench, Tinca", "fire truck", "car"], ""),
    ],
)
def test_doubtful_class_names_are_told(tmp_path, draw, capsys, cells, told):
    rows = zip("abc", cells, strict=True)
    text = "path,labels\n" + "".join(f'{name}.jpg,"{cell}"\n' for name, cell in rows)
    read("caption_table", table(tmp_path, text, draw), labels_field="labels")
    err = capsys.readouterr().err
    assert told in err and bool(told) == ("separates" in err or "upper case" in err)


def test_lists_as_python_writes_them(tmp_path, draw):
    text = "path,labels\na.jpg,\"{'dog', 'cat'}\"\nb.jpg,\"('cat',)\"\nc.jpg,(cat)\n"
    kept, _ = read("caption_table", table(tmp_path, text, draw), labels_field="labels")
    assert kept["a.jpg"].labels == ("cat", "dog") and kept["b.jpg"].labels == ("cat",)
    assert kept["c.jpg"].labels == ("(cat)",)


def test_sentences_as_objects(tmp_path, draw):
    line = '{"path": "a.jpg", "sentences": [{"raw": "one", "tokens": []}, {"text": "two"}]}\n'
    kept, _ = read("caption_table", table(tmp_path, line, draw, "t.jsonl"))
    assert kept["a.jpg"].captions == ("one", "two")


def test_folders_beside_splits_are_ignored_and_told(tmp_path, draw, capsys):
    for place in ("train/cat", "train/dog", "test/cat", "sample", "notes/x"):
        draw(tmp_path / "data" / place / "1.jpg")
    kept, rejected = read("image_folder", tmp_path / "data")
    assert {key: item.labels for key, item in kept.items()} == {
        "train/cat/1.jpg": ("cat",),
        "train/dog/1.jpg": ("dog",),
        "test/cat/1.jpg": ("cat",),
    }
    assert not rejected
    assert "splits are test, train; ignored: notes, sample" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for path in sorted((tmp_path / "data").rglob("*.jpg")):
            archive.write(path, path.relative_to(tmp_path))
    zipped, rejected = read("image_folder", tmp_path / "data.zip")
    assert {k.removeprefix("data/"): i.labels for k, i in zipped.items()} == {
        key: item.labels for key, item in kept.items()
    }
    assert not rejected and "ignored: notes, sample" in capsys.readouterr().err
    with pytest.raises(ValueError, match="holds splits of class folders; give one of them"):
        class_folders(tmp_path / "data")


def test_classes_that_are_named_like_splits_stay_classes(tmp_path, draw):
    for place in ("train", "car", "test"):  # vehicles, and a class of tests
        draw(tmp_path / place / "1.jpg")
    kept, _ = read("image_folder", tmp_path)
    assert sorted(item.labels[0] for item in kept.values()) == ["car", "test", "train"]


def test_a_single_folder_around_the_classes_is_entered(tmp_path, draw, capsys):
    for place in ("pets/cat", "pets/dog/deep"):
        draw(tmp_path / place / "1.jpg")
    kept, _ = read("image_folder", tmp_path)
    assert sorted(item.labels[0] for item in kept.values()) == ["cat", "dog"]
    assert "the classes are the folders in" in capsys.readouterr().err
    assert sorted(class_folders(tmp_path)) == ["cat", "dog"]


def test_columns_of_parquet_with_objects(tmp_path, capsys):
    pyarrow = pytest.importorskip("pyarrow")
    out = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(out, "JPEG")
    picture = {"bytes": out.getvalue(), "path": None}
    columns = {"image": [picture], "sentences": [[{"raw": "one"}, {"raw": "two"}]], "n": [1]}
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), tmp_path / "train.parquet")
    kept, _ = read("parquet", tmp_path)
    assert kept["train/0"].captions == ("one", "two")
    assert "columns that are not used: 'n'" in capsys.readouterr().err
