"""Every format of input that tfclip reads: a small whole example, and how it is read and judged."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from PIL import Image

from benchmarks.fuzzing import references, small_files
from benchmarks.fuzzing.outcomes import Texts, read_source
from benchmarks.fuzzing.requests import encoded_pictures
from tfclip.sources.sample import SourceOptions


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        make: writes a whole example into an empty folder; returns the file that is damaged.
        read: reads it, given the folder, the file and its content; see `outcomes.outcomes_of`.
        inner: what is damaged, where that is not the whole file: the content of a file whose
            checksum or compression would hide the damage.
        wrap: makes the file of the damaged content.
        source: the source that reads it, "" for none.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path, Path, bytes], set[str]]
    inner: Callable[[], bytes] | None = None
    wrap: Callable[[bytes], bytes] = bytes
    source: str = ""


def jpeg(color: str) -> bytes:
    """Return a small picture."""
    out = io.BytesIO()
    Image.new("RGB", (6, 4), color).save(out, "JPEG")
    return out.getvalue()


PICTURES = "abcdefgh"


def _with_pictures(name: str, content: bytes, folder: Path) -> Path:
    """Write a file, and the pictures a.jpg to h.jpg wherever a source looks for them."""
    for place in ("", "Images", "val"):
        (folder / place).mkdir(exist_ok=True)
        for stem in PICTURES:
            (folder / place / f"{stem}.jpg").write_bytes(jpeg("red"))
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def _source(
    source: str,
    name: str,
    content: bytes | Callable[[], bytes],
    expected: Callable[[bytes], Texts | None] | None = None,
    wrap: Callable[[bytes], bytes] | None = None,
    **options,
) -> Format:
    def inner() -> bytes:
        return content if isinstance(content, bytes) else content()

    def make(folder: Path) -> Path:
        return _with_pictures(name, wrap(inner()) if wrap else inner(), folder)

    def read(folder: Path, path: Path, damaged: bytes) -> set[str]:
        data = path if source == "image_folder" else folder
        reading = False if expected is None else expected(damaged)
        return read_source(source, data, SourceOptions(**options), reading)

    return Format(make, read, inner if wrap else None, wrap or bytes, source)


@cache
def _drawn_sets() -> tempfile.TemporaryDirectory:
    from tfclip.sources.shapes import draw_shapes

    folder = tempfile.TemporaryDirectory()
    draw_shapes(
        Path(folder.name, "sets"),
        visual_genome=11,
        flickr8k=(1, 3, 1),
        coco=(1, 2),
        voc=(1, 2, 1),
        image_size=64,
        workers=1,
    )
    return folder


def _drawn(source: str, pattern: str) -> Format:
    """A file of a drawn data set in one of the formats of `sources.shapes`."""

    def make(folder: Path) -> Path:
        shutil.copytree(Path(_drawn_sets().name, "sets"), folder / "drawn", dirs_exist_ok=True)
        return sorted((folder / "drawn" / source).glob(pattern))[0]

    def read(folder: Path, path: Path, damaged: bytes) -> set[str]:
        expected = references.coco(damaged) if source == "coco" else False
        splits = ("val2017",) if source == "coco" else ()
        options = SourceOptions(splits=splits)
        return read_source(source, folder / "drawn" / source, options, expected)

    return Format(make, read, source=source)


TABLE = b"path,caption,more\n" + b"".join(
    b'%c.jpg,"one, ""two""\nlines",x\n%c.jpg,plain text,y\n%c.jpg,again,z\n' % (a, b, a)
    for a, b in (b"ab", b"cd", b"ef", b"gh")
)
LABELS = b"path,labels\n" + b"".join(
    b"%c.jpg,dog|cat\n%c.jpg,\n%c.jpg,horse\n" % (a, b, a) for a, b in (b"ab", b"cd", b"ef")
)
COLUMNS = b"path,dog,cat\n" + b"".join(
    b"%c.jpg,1,0\n%c.jpg,-1,1\n" % (a, b) for a, b in (b"ab", b"cd", b"ef", b"gh")
)
LISTS = b"path,caption\n" + b"".join(
    b"""%c.jpg,"[""one"", ""two""]"\n%c.jpg,['three']\n%c.jpg,four\n""" % (a, b, a)
    for a, b in (b"ab", b"cd", b"ef")
)
BARS = b"image_name| comment_number| comment\n" + b"".join(
    b"%c.jpg| 0| one | two\n%c.jpg| 1| three\n%c.jpg| 0| four\n" % (a, a, b)
    for a, b in (b"ab", b"cd", b"ef", b"gh")
)
QUOTED = b"image,caption\n" + b"".join(
    b'%c.jpg,"one\ntwo"\n%c.jpg,three, four\n%c.jpg,five\n' % (a, b, a)
    for a, b in (b"ab", b"cd", b"ef", b"gh")
)
BOXES = b"ImageID,LabelName,Confidence\n" + b"".join(
    b"%c,/m/1,1\n%c,/m/2,0\n%c,/m/1,1\n%c,/m/3,1\n" % (a, b, b, a)
    for a, b in (b"ab", b"cd", b"ef", b"gh")
)


def _jsonl() -> bytes:
    rows = [
        {"path": f"{name}.jpg", "captions": "dög" if at % 2 else ["one", "two"]}
        for at, name in enumerate(PICTURES)
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _json() -> bytes:
    """One row per line, so that damage to one leaves others to compare with."""
    return b"[" + _jsonl().rstrip(b"\n").replace(b"}\n", b"},\n") + b"]"


def _metadata() -> bytes:
    rows = [{"file_name": f"{name}.jpg", "text": f"{name} dog"} for name in PICTURES]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _tar(members: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _shard() -> bytes:
    long = "c" * 120  # a name that needs a header of its own
    return _tar(
        [
            ("a.jpg", jpeg("red")),
            ("a.txt", b"one"),
            ("b.jpg", jpeg("blue")),
            ("b.json", b'{"caption": ["two", "three"], "x": 1}'),
            (f"{long}.jpg", jpeg("green")),
            (f"{long}.txt", b"four"),
        ]
    )


CLASSES = ["a/1.jpg", "a/2.png", "b/c/3.jpg", "alone.jpg", "../4.jpg"]


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in CLASSES:
            archive.writestr(name, jpeg("red"))
    return out.getvalue()


def _class_tar() -> bytes:
    return _tar([(name, jpeg("red")) for name in CLASSES])


def _records(contents: list[bytes]) -> bytes:
    """Return a TFRecord file, with right checksums."""
    import tensorflow as tf

    with tempfile.NamedTemporaryFile() as file:
        with tf.io.TFRecordWriter(file.name) as writer:
            for content in contents:
                writer.write(content)
        return Path(file.name).read_bytes()


def _examples() -> list[bytes]:
    import tensorflow as tf

    def listed(*values: bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    numbers = tf.train.Feature(float_list=tf.train.FloatList(value=[0.1]))
    rows = [
        {"key": listed(b"1"), "jpg": listed(jpeg("red")), "txt": listed(b"one", b"two")},
        {"image/source_id": listed(b"2"), "image/encoded": listed(jpeg("blue"))}
        | {"image/caption": listed(b"three"), "image/object/class/text": listed(b"dog")}
        | dict.fromkeys(["image/object/bbox/xmin", "image/object/bbox/ymin"], numbers),
    ]
    return [
        tf.train.Example(features=tf.train.Features(feature=row)).SerializeToString()
        for row in rows
    ]


def _arrow(kind: str, images: bool = True) -> bytes:
    import pyarrow
    import pyarrow.parquet

    captions = [["a", "b"], ["c"], []] * 3
    columns = {"image": [jpeg("red"), jpeg("blue"), b"no picture"] * 3, "text": captions}
    if not images:
        columns = {"path": ["a.jpg", "b.jpg", "x.jpg"] * 3, "text": captions}
    table, out = pyarrow.table(columns), io.BytesIO()
    if kind == "parquet":
        pyarrow.parquet.write_table(table, out, row_group_size=2, compression="none")
    else:
        with pyarrow.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return out.getvalue()


def _karpathy() -> bytes:
    listed = zip("abax", ["train", "train", "val", "train"], strict=True)
    images = [
        {"filename": f"{name}.jpg", "split": split, "sentences": [{"raw": "one"}, {"raw": "two"}]}
        for name, split in listed
    ]
    return json.dumps({"images": images}).encode()


def _instances() -> bytes:
    images = [{"id": n, "file_name": f"{name}.jpg"} for n, name in enumerate("abc")]
    categories = [{"id": n, "name": name} for n, name in enumerate(["dog", "cat"])]
    objects = [{"image_id": n, "category_id": n % 2, "iscrowd": n} for n in (0, 1, 0, 1)]
    told = {"images": images, "categories": categories, "annotations": objects}
    return json.dumps(told).encode()


def _picture(number: int) -> Format:
    def make(folder: Path) -> Path:
        import numpy as np

        path = folder / "picture.jpg"
        path.write_bytes(encoded_pictures(np.random.default_rng(0))[number])
        return path

    def read(folder: Path, path: Path, damaged: bytes) -> set[str]:
        from tfclip.records.check import check_picture

        checked = check_picture(path)
        if not (checked.jpeg.startswith(b"\xff\xd8") and checked.width > 0 < checked.height):
            raise AssertionError("a picture without pixels was accepted")
        return {"read"}

    return Format(make, read)


_UTF16 = TABLE.replace(b"\nlines", b"").decode().encode("utf-16")
_semicolons = TABLE.replace(b",", b";")
_csv = references.table(",")

FORMATS: dict[str, Format] = {
    "csv": _source("caption_table", "train.csv", TABLE, _csv),
    "csv, ;": _source(
        "caption_table", "train.csv", _semicolons, references.table(";"), separator=";"
    ),
    "csv, UTF-16": _source("caption_table", "train.csv", _UTF16),
    "csv, lists": _source("caption_table", "train.csv", LISTS),
    "csv, labels": _source(
        "caption_table", "train.csv", LABELS, labels_field="labels", labels_separator="|"
    ),
    "csv, classes": _source("caption_table", "train.csv", COLUMNS, label_fields=("dog", "cat")),
    "csv, splits": _source(
        "caption_table", "all.csv", TABLE.replace(b"lines", b"l"), split_field="more"
    ),
    "tsv": _source(
        "caption_table",
        "train.tsv",
        TABLE.replace(b"\nlines", b"").replace(b",", b"\t").replace(b'"', b""),
        references.table("\t", quoted=False),
    ),
    "jsonl": _source("caption_table", "train.jsonl", _jsonl, references.json_lines),
    "json": _source("caption_table", "train.json", _json),
    "metadata.jsonl": _source("caption_table", "metadata.jsonl", _metadata, references.json_lines),
    "parquet of paths": _source(
        "caption_table", "train.parquet", partial(_arrow, "parquet", images=False)
    ),
    "parquet": _source("parquet", "train.parquet", partial(_arrow, "parquet")),
    "arrow": _source("parquet", "train.arrow", partial(_arrow, "arrow")),
    "webdataset tar": _source("webdataset", "00000.tar", _shard, references.webdataset),
    "class zip": _source("image_folder", "classes.zip", _zip),
    "class tar": _source("image_folder", "classes.tar", _class_tar),
    "class tar.gz": _source("image_folder", "classes.tar.gz", _class_tar, wrap=gzip.compress),
    "NAME.txt": _source("image_text", "a.txt", b"one dog\n"),
    "NAME.json": _source("image_text", "a.json", b'{"caption": ["two", "three"], "x": 1}'),
    "TFRecord": _source("foreign_tfrecord", "0.tfrecord", lambda: _records(_examples())),
    "TFRecord, GZIP": _source(
        "foreign_tfrecord", "0.tfrecord.gz", lambda: gzip.compress(_records(_examples()), mtime=0)
    ),
    # Damage that a checksum would have caught, were it not made by whoever wrote the checksum.
    "tf.train.Example": _source(
        "foreign_tfrecord",
        "0.tfrecord",
        lambda: _examples()[0],
        wrap=lambda content: _records([content, _examples()[1]]),
    ),
    "results.csv": _source("flickr30k", "results.csv", BARS),
    "captions.txt": _source("flickr8k", "captions.txt", QUOTED),
    "Karpathy": _source("flickr8k", "dataset_flickr8k.json", _karpathy, references.karpathy),
    "instances": _source("coco", "annotations/instances_val.json", _instances),
    "Open Images": _source("open_images", "val-labels.csv", BOXES),
    "VG regions": _drawn("visual_genome", "region_descriptions.json"),
    "VG images": _drawn("visual_genome", "image_data.json"),
    "Flickr8k.token": _drawn("flickr8k", "Flickr8k.token.txt"),
    "Flickr8k lists": _drawn("flickr8k", "Flickr_8k.devImages.txt"),
    "COCO captions": _drawn("coco", "annotations/captions_val2017.json"),
    "VOC objects": _drawn("voc", "VOCdevkit/VOC2007/Annotations/*.xml"),
    "VOC lists": _drawn("voc", "VOCdevkit/VOC2007/ImageSets/Main/val.txt"),
    "JPEG": _picture(1),
    "PNG": _picture(5),
    "GIF": _picture(9),
    "BMP": _picture(10),
    "WebP": _picture(12),
    **{name: Format(*functions) for name, functions in small_files.FILES.items()},
}
"""All formats by name."""
