import io

import pytest
import tensorflow as tf
from PIL import Image

from tfclip.sources.foreign_tfrecord import open_foreign_tfrecord
from tfclip.sources.sample import Region, Rejected, Sample, SourceOptions


def jpeg(color="teal"):
    out = io.BytesIO()
    Image.new("RGB", (60, 40), color).save(out, "JPEG")
    return out.getvalue()


def feature(values):
    values = values if isinstance(values, list) else [values]
    kinds = {
        bytes: lambda v: tf.train.Feature(bytes_list=tf.train.BytesList(value=v)),
        int: lambda v: tf.train.Feature(int64_list=tf.train.Int64List(value=v)),
        float: lambda v: tf.train.Feature(float_list=tf.train.FloatList(value=v)),
    }
    return kinds[type(values[0])](values)


def write(path, rows):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            if not isinstance(row, bytes):
                named = {name: feature(values) for name, values in row.items()}
                row = tf.train.Example(features=tf.train.Features(feature=named))
                row = row.SerializeToString()
            writer.write(row)
    return path


def test_img2dataset(tmp_path):
    rows = [
        {"key": f"00000000{at}".encode(), "jpg": jpeg(), "txt": f"text {at}".encode()}
        | {"json": b'{"caption": "unused"}', "width": 60, "url": b"unused"}
        for at in range(3)
    ]
    write(tmp_path / "00000.tfrecord", rows)
    write(tmp_path / "00001.tfrecord", [{**rows[0], "key": b"000010000"}])
    source = open_foreign_tfrecord(tmp_path, SourceOptions())
    assert source.counts == {"train": 4}
    items = list(source.read("train"))
    assert [i.key for i in items] == [
        f"foreign_tfrecord/{k}" for k in ("000000000", "000000001", "000000002", "000010000")
    ]
    assert items[1].captions == ("text 1",) and items[1].image == jpeg()


def test_model_garden_coco(tmp_path):
    row = {
        "image/height": 40,
        "image/width": 60,
        "image/filename": b"000000391895.jpg",
        "image/source_id": b"391895",
        "image/key/sha256": b"0123",
        "image/encoded": jpeg(),
        "image/format": b"jpeg",
        "image/caption": [b"A man.", b"A bike."],
        "image/object/bbox/xmin": [0.25, 0.0, 0.5],
        "image/object/bbox/xmax": [0.75, 0.5, 0.25],
        "image/object/bbox/ymin": [0.0, 0.5, 0.0],
        "image/object/bbox/ymax": [0.5, 1.0, 1.0],
        "image/object/class/text": [b"person", b"bicycle", b"person"],
        "image/object/class/label": [1, 2, 1],
        "image/object/is_crowd": [0, 0, 0],
        "image/object/area": [100.0, 10.0, 5.0],
    }
    write(tmp_path / "coco_train.record-00000-of-00001", [row])
    write(tmp_path / "coco_val2017.record-00000-of-00001", [row])
    source = open_foreign_tfrecord(tmp_path, SourceOptions())
    assert source.counts == {"train": 1, "val2017": 1}
    assert source.class_names == ("bicycle", "person")
    (sample,) = source.read("train")
    assert sample.key == "foreign_tfrecord/391895"
    assert sample.captions == ("A man.", "A bike.") and sample.regions == ()
    assert sample.labels == ("bicycle", "person")
    boxes = open_foreign_tfrecord(tmp_path, SourceOptions(boxes_as_regions=True))
    (sample,) = boxes.read("train")
    assert sample.coordinates_size == (1, 1)
    assert sample.regions == (
        Region("person", 0.25, 0.0, 0.5, 0.5),
        Region("bicycle", 0.0, 0.5, 0.5, 0.5),
    )
    assert len(sample.dropped) == 1


@pytest.mark.parametrize("named", [True, False])
def test_rows_of_one_caption_are_put_together_by_picture(tmp_path, named):
    colors = ["red", "green", "red", "red", "blue"]
    rows = [
        {"raw_image": jpeg(color), "caption": f"{color} {at}".encode()}
        | ({"image_id": colors.index(color)} if named else {})
        for at, color in enumerate(colors)
    ]
    source = open_foreign_tfrecord(write(tmp_path / "a.tfrecords", rows), SourceOptions())
    assert source.counts == {"train": 3}
    items = list(source.read("train"))
    assert [i.captions for i in items] == [("red 0", "red 2", "red 3"), ("green 1",), ("blue 4",)]
    assert len({i.key for i in items}) == 3
    if named:
        assert [i.key for i in items] == [f"foreign_tfrecord/{n}" for n in (0, 1, 4)]


def test_features_of_any_name_can_be_named(tmp_path):
    path = write(tmp_path / "a.tfrecord", [{"pixels": jpeg(), "alt": b"one", "title": b"two"}])
    with pytest.raises(ValueError, match="--image-feature; the features are, nearest first: "):
        open_foreign_tfrecord(path, SourceOptions())
    options = SourceOptions(image_field="pixels", caption_fields=("alt", "title"))
    (sample,) = open_foreign_tfrecord(path, options).read("train")
    assert sample.captions == ("one", "two")


def test_bad_records_are_listed_with_the_reason(tmp_path):
    rows = [
        {"key": b"1", "jpg": jpeg(), "txt": b"good"},
        {"key": b"2", "jpg": jpeg("red"), "txt": b"d\xf6g"},
        {"key": b"3", "jpg": jpeg("green"), "txt": [b"", b"x" * 10_001]},
        {"key": b"4", "txt": b"no picture"},
        {"key": b"1", "jpg": jpeg("blue"), "txt": b"another picture"},
        b"\xff\xff no example",
        {"key": b"5", "jpg": 7, "txt": b"a number for a picture"},
        {"key": b"\xff\n", "jpg": jpeg("white"), "txt": b"an odd key"},
    ]
    items = list(
        open_foreign_tfrecord(write(tmp_path / "a.tfrecord", rows), SourceOptions()).read("train")
    )
    assert len(items) == len(rows)
    assert isinstance(items[0], Sample) and isinstance(items[-1], Sample)
    assert items[-1].key.isprintable()
    for item, reason in zip(
        items[1:-1],
        [
            "invalid Unicode",
            "10,001",
            "no picture",
            "duplicate id",
            "not a tf.train.Example",
            "no picture",
        ],
        strict=True,
    ):
        assert isinstance(item, Rejected) and reason in item.reason


def test_a_damaged_file_is_read_up_to_the_damage(tmp_path):
    rows = [{"key": b"%d" % at, "jpg": jpeg(), "txt": b"said"} for at in range(9)]
    path = write(tmp_path / "00000.tfrecord", rows)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    write(tmp_path / "00001.tfrecord", [{"key": b"x", "jpg": jpeg(), "txt": b"said"}])
    source = open_foreign_tfrecord(tmp_path, SourceOptions())
    items = list(source.read("train"))
    assert len(items) == source.counts["train"] == 6
    assert "record 4 is damaged" in items[4].reason and items[5].key == "foreign_tfrecord/x"
