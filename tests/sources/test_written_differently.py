"""Data sets as other tools and other people write them."""

import gzip
import json
import os
import unicodedata

import pytest
from PIL import Image

from tfclip.records.exclusions import exclude
from tfclip.sources.registry import open_source
from tfclip.sources.sample import Rejected, SourceOptions

NAMES = {
    "macOS screenshot": "Screenshot 2024-01-01 at 1.23.45\u202fPM.jpg",
    "Czech screenshot": "Snimek v\u00a013.05.jpg",
    "ideographic space": "写真\u3000一.jpg",
    "emoji with joiners": "family\U0001f468\u200d\U0001f469\u200d\U0001f467.jpg",
    "soft hyphen": "Bild\u00ad1.jpg",
    "Arabic with a mark": "\u200fصورة.jpg",
    "Hindi with a joiner": "क्\u200cष.jpg",
    "byte order mark": "\ufeffx.jpg",
    "backslash": "win\\x.jpg",
    "quotes": 'it\'s "x".jpg',
}


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def items(source, split="train"):
    read = list(source.read(split))
    assert len(read) == source.counts[split]
    return read


def captions(source, split="train"):
    found = {}
    for item in items(source, split):
        found[item.key.partition("/")[2]] = (
            item.reason if isinstance(item, Rejected) else item.captions
        )
    return found


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_name_that_the_file_system_holds_is_read(tmp_path, draw, name):
    draw(tmp_path / "cls/thing" / name)
    draw(tmp_path / "cls/k\u200cid/1.jpg")
    table = write_lines(tmp_path / "cls/t.jsonl", [{"image": f"thing/{name}", "text": "x"}])
    assert captions(open_source("caption_table", table)) == {f"thing/{name}": ("x",)}
    read = items(open_source("image_folder", tmp_path / "cls"))
    assert {item.labels for item in read} == {("thing",), ("k\u200cid",)}


def test_control_characters_are_rejected_with_the_reason(tmp_path, draw):
    for name in ("two\nlines.jpg", "t\tb.jpg", "\x1b[31m.jpg"):
        draw(tmp_path / "a" / name)
    read = items(open_source("image_folder", tmp_path))
    assert all("a name with a control character" in item.reason for item in read)


@pytest.mark.parametrize("written, stored", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_found_in_either_form(tmp_path, draw, written, stored):
    draw(tmp_path / unicodedata.normalize(stored, "Übung é.jpg"))
    name = unicodedata.normalize(written, "Übung é.jpg")
    table = write_lines(tmp_path / "t.jsonl", [{"image": name, "text": "x"}])
    assert captions(open_source("caption_table", table)) == {name: ("x",)}


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators_and_encodings_of_a_csv_are_found(tmp_path, draw, capsys, separator, encoding):
    for n in range(3):
        draw(tmp_path / f"{n}.jpg")
    gap = " " if separator == "|" else ""
    lines = [separator.join(("image", f"{gap}n", f"{gap}caption"))]
    lines += [separator.join((f"{n}.jpg", f"{gap}0", f"{gap}Haus {n} „ü“")) for n in range(3)]
    (tmp_path / "t.csv").write_bytes("\r\n".join(lines).encode(encoding))
    found = captions(open_source("caption_table", tmp_path / "t.csv"))
    assert found == {f"{n}.jpg": (f"Haus {n} „ü“",) for n in range(3)}
    told = capsys.readouterr().err
    assert ("separated by" in told) == (separator != ",")
    assert ("UTF-16" in told) == (encoding == "utf-16")


def test_the_separator_of_columns_can_be_given(tmp_path, draw):
    draw(tmp_path / "a.jpg")
    (tmp_path / "t.csv").write_text("image;caption, in English\na.jpg;one, two\n")
    options = SourceOptions(separator=";", caption_fields=("caption, in English",))
    assert captions(open_source("caption_table", tmp_path / "t.csv", options)) == {
        "a.jpg": ("one, two",)
    }


def test_cells_may_hold_lists_of_captions(tmp_path, draw, capsys):
    for name in "abc":
        draw(tmp_path / f"{name}.jpg")
    (tmp_path / "t.csv").write_text(
        "image,caption\n"
        'a.jpg,"[""one"", ""two""]"\n'
        'b.jpg,"[\'three\', ""fo\'ur""]"\n'
        "c.jpg,[a sentence in brackets]\n"
    )
    assert captions(open_source("caption_table", tmp_path / "t.csv")) == {
        "a.jpg": ("one", "two"),
        "b.jpg": ("three", "fo'ur"),
        "c.jpg": ("[a sentence in brackets]",),
    }
    assert "2 of 3 caption cells are lists" in capsys.readouterr().err
    (tmp_path / "t.csv").write_text("image,caption\na.jpg,one # two\n")
    options = SourceOptions(caption_separator="#")
    assert captions(open_source("caption_table", tmp_path / "t.csv", options)) == {
        "a.jpg": ("one", "two")
    }


def test_rows_without_a_split_are_rejected(tmp_path, draw):
    for n in range(6):
        draw(tmp_path / f"{n}.jpg")
    splits = ["test", None, "train", "", 3, "train"]
    rows = [{"image": f"{n}.jpg", "text": "x", "split": s} for n, s in enumerate(splits)]
    options = SourceOptions(split_field="split")
    source = open_source("caption_table", write_lines(tmp_path / "t.jsonl", rows), options)
    assert captions(source, "test") == {"0.jpg": ("x",)}
    assert captions(source) == {
        "2.jpg": ("x",),
        "5.jpg": ("x",),
        "1.jpg": "no split in the column 'split': None",
        "3.jpg": "no split in the column 'split': ''",
        "4.jpg": "no split in the column 'split': 3",
    }
    unnamed = write_lines(tmp_path / "u.jsonl", rows[1:2])
    with pytest.raises(ValueError, match="the column of splits 'split' is blank in all rows"):
        open_source("caption_table", unnamed, options)


def test_a_path_in_two_splits_is_said(tmp_path, draw, capsys):
    draw(tmp_path / "a.jpg")
    rows = [{"image": "a.jpg", "text": s, "split": s} for s in ("train", "test")]
    options = SourceOptions(split_field="split")
    open_source("caption_table", write_lines(tmp_path / "t.jsonl", rows), options)
    assert (
        "1 paths are in two splits, for example 'a.jpg' in train and test"
        in capsys.readouterr().err
    )


def test_an_image_folder_of_hugging_face_is_train_or_the_splits_of_its_folders(tmp_path, draw):
    rows = [{"file_name": "images/a.jpg", "text": "x"}]
    draw(tmp_path / "one/images/a.jpg")
    table = write_lines(tmp_path / "one/metadata.jsonl", rows)
    for data in (tmp_path / "one", table):
        assert captions(open_source("caption_table", data)) == {"images/a.jpg": ("x",)}
    for split in ("train", "test"):
        draw(tmp_path / f"two/{split}/images/a.jpg")
        write_lines(tmp_path / f"two/{split}/metadata.jsonl", rows)
    source = open_source("caption_table", tmp_path / "two")
    assert source.counts == {"test": 1, "train": 1}
    assert captions(source, "test") == {"images/a.jpg": ("x",)}


def test_pictures_in_a_folder_beside_are_hinted_at(tmp_path, draw):
    draw(tmp_path / "pics/a.jpg")
    table = write_lines(tmp_path / "t.jsonl", [{"image": "a.jpg", "text": "x"}])
    with pytest.raises(FileNotFoundError, match=r"no such file: 'a.jpg'; it is in .*--images"):
        open_source("caption_table", table)


def test_links_of_a_cache_are_followed_when_asked_for(tmp_path, draw):
    snapshot = tmp_path / "datasets--me--pics/snapshots/abc"
    (snapshot / "train/a").mkdir(parents=True)
    draw(tmp_path / "datasets--me--pics/blobs/0f0f")
    draw(tmp_path / "secret.jpg")
    (snapshot / "train/a/0.jpg").symlink_to("../../../../blobs/0f0f")
    (snapshot / "train/a/1.jpg").symlink_to(tmp_path / "secret.jpg")
    rows = [{"image": f"train/a/{n}.jpg", "text": "x"} for n in range(2)]
    table = write_lines(snapshot / "train.jsonl", rows)
    with pytest.raises(FileNotFoundError, match="a link out of the data folder.*--follow-links"):
        open_source("caption_table", table)
    follow = SourceOptions(follow_links=True)
    for name, data in (("caption_table", table), ("image_folder", snapshot / "train")):
        read = items(open_source(name, data, follow))
        assert [isinstance(item, Rejected) for item in read] == [False, True]


def coco(folder, draw, **fields):
    for n in (1, 2):
        draw(folder / f"val2017/{n:012d}.jpg")
    images = [{name: make(n) for name, make in fields.items()} for n in (1, 2)]
    told = [{"image_id": n, "caption": f"caption {n}"} for n in (1, 2)]
    path = folder / "annotations/captions_val2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": told}))
    return path


FILE = "{:012d}.jpg".format


@pytest.mark.parametrize(
    "fields",
    [
        {"id": str, "file_name": FILE},
        {"id": float, "file_name": FILE},
        {"id": int, "coco_url": lambda n: f"http://images.org/val2017/{FILE(n)}"},
        {"id": int, "file_name": lambda n: f"val2017/{FILE(n)}"},
        {"id": int, "file_name": lambda n: f"/data/val2017/{FILE(n)}"},
    ],
    ids=["text", "float", "LVIS", "folder", "absolute"],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_coco_in_other_forms(tmp_path, draw, fields, mark):
    path = coco(tmp_path, draw, **fields)
    path.write_text(mark + path.read_text(), "utf-8")
    source = open_source("coco", tmp_path)
    assert captions(source, "val2017") == {"1": ("caption 1",), "2": ("caption 2",)}


def test_every_caption_without_a_usable_id_is_rejected(tmp_path, draw):
    path = coco(tmp_path, draw, id=int, file_name=FILE)
    told = json.loads(path.read_text())
    told["annotations"] += [{"image_id": bad, "caption": "x"} for bad in ("seven", None, 1.5)]
    told["annotations"] += [{"image_id": "2", "caption": "y"}]
    path.write_text(json.dumps(told))
    found = captions(open_source("coco", tmp_path), "val2017")
    assert found.pop("2") == ("caption 2", "y") and found.pop("1") == ("caption 1",)
    assert sorted(found.values()) == [
        f"the image_id of a caption is not a whole number: {bad}" for bad in ("'seven'", 1.5, None)
    ]


def test_karpathys_flickr_is_not_coco_and_is_read_by_flickr8k(tmp_path, draw):
    images = []
    for n, split in enumerate(["train", "test", "train"]):
        draw(tmp_path / f"Images/{n}_ab.jpg")
        sentences = [{"raw": f"cat {n} {k}"} for k in range(2)]
        images.append({"filename": f"{n}_ab.jpg", "split": split, "sentences": sentences})
    images.append(images[0])
    path = tmp_path / "dataset_flickr8k.json"
    path.write_text(json.dumps({"images": images}))
    with pytest.raises(ValueError, match="use the sources flickr8k and flickr30k"):
        open_source("coco", path)
    for data in (tmp_path, path):
        source = open_source("flickr30k", data)
        assert source.counts == {"train": 3, "test": 1}
        assert captions(source, "test") == {"1_ab": ("cat 1 0", "cat 1 1")}
        assert [getattr(i, "reason", "") for i in items(source)] == [
            "",
            "",
            "duplicate name: entries 0 and 3",
        ]


def test_flickr30ks_table_of_bars(tmp_path, draw, capsys):
    draw(tmp_path / "flickr30k_images/1.jpg")
    (tmp_path / "results.csv").write_text(
        'image_name| comment_number| comment\n1.jpg| 0| A "dog , running .\n'
        "1.jpg| 1   A broken line .\n1.jpg| 2| Two | dogs .\n"
    )
    source = open_source("flickr30k", tmp_path, SourceOptions(splits=("train",)))
    assert captions(source) == {"1": ('A "dog , running .', "Two | dogs .")}
    assert "byte 65: line ignored" in capsys.readouterr().err


def test_sentences_of_captions_txt_may_have_line_breaks_in_quotes(tmp_path, draw):
    for name in "ab":
        draw(tmp_path / f"Images/{name}.jpg")
    (tmp_path / "captions.txt").write_text(
        'image,caption\na.jpg,"A ""big""\ndog, running ."\nb.jpg,plain, with a comma\n'
        'a.jpg,"an inch mark opens this\nb.jpg,"quoted"\n'
    )
    source = open_source("flickr8k", tmp_path, SourceOptions(splits=("train",)))
    assert captions(source) == {
        "a": ('A "big"\ndog, running .', '"an inch mark opens this'),
        "b": ("plain, with a comma", "quoted"),
    }


def visual_genome(folder, draw, coco_of, key="image_id", identity=int):
    entries = range(1, 13)
    for n in entries:
        draw(folder / f"VG_100K/{n}.jpg")
    box = {"phrase": "red", "x": 20, "y": 20, "width": 60, "height": 40}
    (folder / "region_descriptions.json").write_text(
        json.dumps([{"id": identity(n), "regions": [box]} for n in entries])
    )
    image_data = [
        {key: identity(n), "width": 200, "height": 100, "coco_id": coco_of(n)} for n in entries
    ]
    (folder / "image_data.json").write_text(json.dumps(image_data))
    return folder


@pytest.mark.parametrize("identity", [int, str, float])
@pytest.mark.parametrize("key", ["image_id", "id"])
def test_image_data_of_both_versions_of_visual_genome(tmp_path, draw, key, identity):
    data = visual_genome(tmp_path, draw, lambda n: 1000.0 + n, key, identity)
    source = open_source("visual_genome", data)
    for item in (item for split in source.counts for item in items(source, split)):
        assert item.coordinates_size == (200, 100)
        assert item.other_keys == (f"coco/{1000 + int(item.key.rpartition('/')[2])}",)


ODD = {
    "int": lambda n: 1000 + n if n % 2 else None,
    "float": lambda n: 1000.0 + n if n % 2 else float("nan"),
    "text": lambda n: str(1000 + n) if n % 2 else "",
}


@pytest.mark.parametrize("coco_of", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "listed, left_out, told",
    [
        ("3\ncoco/1005\ncoco/1001", {1, 3, 5}, ""),
        (
            "3\ncoco/000000001001\ncoco/1005.jpg\nCOCO_val2014_000000001007.jpg\n"
            "visual_genome/9.jpg\n000011.jpg\nVG_100K/12.jpg",
            {1, 3, 5, 7, 9, 11, 12},
            "",
        ),
        (
            "1001\n7\ncoco/7\n13",
            {7},
            "3 of 4 ids match no picture of these splits: 1001,",
        ),
        ("coco/1003\nVG/x", {3}, "1 of 2 ids match no picture of these splits: VG/x"),
    ],
)
def test_ids_to_leave_out_in_all_their_forms(
    tmp_path, draw, capsys, coco_of, listed, left_out, told
):
    data = visual_genome(tmp_path / "vg", draw, coco_of)
    (tmp_path / "ids.txt").write_text(listed)
    options = SourceOptions(exclude_ids=tmp_path / "ids.txt")
    source = exclude(open_source("visual_genome", data, options), options, 1)
    kept = {
        int(item.key.rpartition("/")[2]) for split in source.counts for item in source.read(split)
    }
    assert set(range(1, 13)) - kept == left_out
    assert told in capsys.readouterr().err


def test_a_coco_id_is_never_taken_for_one_of_visual_genome(tmp_path, draw):
    data = visual_genome(tmp_path / "vg", draw, lambda n: n + 6)
    (tmp_path / "ids.txt").write_text("7\n9\n11\n")
    options = SourceOptions(exclude_ids=tmp_path / "ids.txt")
    source = exclude(open_source("visual_genome", data, options), options, 1)
    assert sum(source.counts.values()) == 9


def voc(folder, draw, names, objects):
    for name in names:
        draw(folder / "JPEGImages" / name)
        xml = folder / f"Annotations/{name.rpartition('.')[0]}.xml"
        xml.parent.mkdir(exist_ok=True)
        xml.write_text(f"<annotation>{objects}</annotation>")
    (folder / "ImageSets/Main").mkdir(parents=True)
    ids = "".join(name.rpartition(".")[0] + "\n" for name in names)
    (folder / "ImageSets/Main/train.txt").write_text(ids)
    return folder


@pytest.mark.parametrize("said", ["<difficult/>", "Unspecified", "0", "0.0", " 0\n", "false", None])
@pytest.mark.parametrize("other", ["1", "true", "1.0"])
def test_what_difficult_may_say(tmp_path, draw, said, other):
    said = "" if said is None else said if "<" in said else f"<difficult>{said}</difficult>"
    objects = f"<object><name>dog</name>{said}</object>"
    objects += f"<object><name>cat</name><difficult>{other}</difficult></object>"
    [item] = items(open_source("voc", voc(tmp_path, draw, ["a.jpg"], objects)))
    assert (item.labels, item.difficult) == (("dog",), ("cat",))


def test_pictures_of_voc_with_other_endings(tmp_path, draw):
    objects = "<object><name>dog</name></object>"
    names = ["a.JPG", "b.jpg", "c.jpeg", "d.png", "e.PNG"]
    read = items(open_source("voc", voc(tmp_path, draw, names, objects)))
    assert [item.image.name for item in read] == names


def test_own_classes_in_the_layout_of_voc(tmp_path, draw, capsys):
    objects = "".join(f"<object><name>{n}</name></object>" for n in ("no helmet", "helmet"))
    data = voc(tmp_path, draw, ["a.jpg"], objects)
    source = open_source("voc", data)
    assert source.class_names == ("helmet", "no helmet")
    assert "2 classes, from the annotations: helmet, no helmet" in capsys.readouterr().err
    given = open_source("voc", data, SourceOptions(class_names=("no helmet", "helmet", "vest")))
    assert given.class_names == ("no helmet", "helmet", "vest")
    assert items(given)[0].labels == ("no helmet", "helmet")
    with pytest.raises(ValueError, match="given with --class-names"):
        items(open_source("voc", data, SourceOptions(class_names=("helmet",))))


def test_records_compressed_with_gzip(tmp_path, draw, capsys):
    import tensorflow as tf

    picture = draw(tmp_path / "a.jpg").read_bytes()
    options = tf.io.TFRecordOptions("GZIP")
    with tf.io.TFRecordWriter(str(tmp_path / "train.tfrecord"), options) as writer:
        for n in range(3):
            values = {"jpg": picture + bytes([n]), "txt": b"caption %d" % n, "key": b"%d" % n}
            features = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for name, value in values.items()
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    found = captions(open_source("foreign_tfrecord", tmp_path))
    assert found == {str(n): (f"caption {n}",) for n in range(3)}
    assert "compressed with GZIP" in capsys.readouterr().err
    bomb = tmp_path / "bomb/train.tfrecord"
    bomb.parent.mkdir()
    with gzip.open(bomb, "wb") as file:
        file.write(bytes(10_000_000))
    with pytest.raises(ValueError, match="expands more than 200 times"):
        open_source("foreign_tfrecord", bomb)


def test_class_folders_are_the_same_for_packing_and_for_evaluation(tmp_path, draw, capsys):
    from tfclip.evaluation.datasets.class_folders import class_folders

    for name in ("red/0.jpg", "red/._0.jpg", "green/x.JFIF", "green/deeper/y.HEIC", "green/z.jpe"):
        draw(tmp_path / name)
    draw(tmp_path / ".ipynb_checkpoints/0-checkpoint.jpg")
    (tmp_path / "red/Thumbs.db").write_bytes(b"x")
    source = open_source("image_folder", tmp_path)
    packed = {(item.labels[0], os.path.relpath(item.image, tmp_path)) for item in items(source)}
    assert {name for _, name in packed} == {
        "red/0.jpg",
        "green/x.JFIF",
        "green/deeper/y.HEIC",
        "green/z.jpe",
    }
    assert "1 files without a picture's extension are ignored: 1 .db" in capsys.readouterr().err
    folders = class_folders(tmp_path)
    assert packed == {
        (name, os.path.relpath(path, tmp_path)) for name, paths in folders.items() for path in paths
    }
    assert tuple(folders) == source.class_names
    assert Image.open(tmp_path / "green/deeper/y.HEIC").format == "JPEG"
