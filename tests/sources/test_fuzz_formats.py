"""Tables, tars and foreign records with random damage: a clear error, or rejected pictures."""

import contextlib
import gzip
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tfclip.sources.registry import open_source
from tfclip.sources.sample import Rejected, Sample

# Damaged inputs of each format in the slow tests: TFCLIP_MUTATIONS=2000 for a thorough run.
MUTATIONS = int(os.environ.get("TFCLIP_MUTATIONS", "100"))

NASTY = [b'"', b"\\", b"{", b"]", b"\0", b"\xff", b"\xc3", b"-1", b"1e999", b"null", b"NaN", b"\r"]
NASTY += [b"../", b"/etc/passwd", b"\t", b"\n", b",", b"9" * 5000, b"\\ud800", b"[" * 3000, b""]
NASTY += [b"x" * 20_000, b'""', b"\xef\xbb\xbf", b"\xf0\x9f\x90\xb6", b"0" * 8, b"\x80" * 8]


def jpeg(color):
    out = io.BytesIO()
    Image.new("RGB", (6, 4), color).save(out, "JPEG")
    return out.getvalue()


def csv_file() -> bytes:
    return b'path,caption,more\na.jpg,"one, ""two""\nlines",x\nb.jpg,plain,y\na.jpg,again,z\n'


def jsonl_file() -> bytes:
    rows = {"path": "a.jpg", "captions": ["one", "two"]}, {"path": "b.jpg", "captions": "dög"}
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def tar_file() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in [
            ("a.jpg", jpeg("red")),
            ("a.txt", b"one"),
            ("b.jpg", jpeg("blue")),
            ("b.json", b'{"caption": ["two", "three"], "x": 1}'),
            ("c" * 120 + ".jpg", jpeg("green")),  # a name that needs a header of its own
            ("c" * 120 + ".txt", b"four"),
        ]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def record_file(folder: Path) -> bytes:
    import tensorflow as tf

    path = folder / "made.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in examples():
            writer.write(content)
    return path.read_bytes()


def examples() -> list[bytes]:
    import tensorflow as tf

    def listed(*values):
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


@st.composite
def mutations(draw, content: bytes) -> bytes:
    """Cut, overwrite, repeat or insert, at one to four places."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.sampled_from([0, 1, 1, 3, 30, 300]))
        again = st.integers(0, len(content)).map(lambda start: content[start : start + 60])  # noqa: B023
        new = draw(st.one_of(st.sampled_from(NASTY), st.binary(max_size=4), again))
        content = content[:at] + new + content[at + length :]
    if draw(st.integers(0, 9)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    return content


def survives(source_name: str, folder: Path, outcomes: set) -> None:
    try:
        source = open_source(source_name, folder)
        for split in source.counts:
            items = list(source.read(split))
            assert len(items) == source.counts[split]
            for item in items:
                assert isinstance(item, Sample | Rejected)
                outcomes.add(type(item).__name__)
                if isinstance(item, Rejected):
                    assert len(item.reason) < 1000
                    continue
                if isinstance(item.image, Path):
                    assert os.path.realpath(item.image).startswith(os.path.realpath(folder))
                texts = [*item.captions, *(region.phrase for region in item.regions)]
                assert all(text.strip() and len(text) <= 10_000 for text in texts)
                "".join(texts).encode()
    except (ValueError, OSError) as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 2000
        outcomes.add("error")


FORMATS = {
    "csv": ("caption_table", "train.csv"),
    "tsv": ("caption_table", "train.tsv"),
    "jsonl": ("caption_table", "train.jsonl"),
    "tar": ("webdataset", "00000.tar"),
    "tfrecord": ("foreign_tfrecord", "00000.tfrecord"),
    # Damage that a checksum would have caught, were it not made by whoever wrote the checksum.
    "example": ("foreign_tfrecord", "00000.tfrecord"),
    "gzip": ("foreign_tfrecord", "00000.tfrecord"),
    "parquet": ("parquet", "train.parquet"),
    "arrow": ("parquet", "train.arrow"),
    "zip": ("image_folder", "classes.zip"),
    "class tar": ("image_folder", "classes.tar"),
    "bars": ("flickr30k", "results.csv"),
    "quoted": ("flickr8k", "captions.txt"),
    "karpathy": ("flickr8k", "dataset_flickr8k.json"),
    "instances": ("coco", "annotations/instances_val.json"),
    "open images": ("open_images", "val-labels.csv"),
}


def table_file(name: str) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    pictures = [jpeg("red"), jpeg("blue"), b"no picture"] * 3
    table = pyarrow.table({"image": pictures, "text": [["a", "b"], ["c"], []] * 3})
    out = io.BytesIO()
    if name == "parquet":
        parquet.write_table(table, out, row_group_size=2, compression="none")
    else:
        with pyarrow.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return out.getvalue()


def archive_file(name: str) -> bytes:
    out = io.BytesIO()
    names = ["a/1.jpg", "a/2.png", "b/c/3.jpg", "alone.jpg", "../4.jpg"]
    if name == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for one in names:
                archive.writestr(one, jpeg("red"))
    else:
        with tarfile.open(fileobj=out, mode="w") as archive:
            for one in names:
                member = tarfile.TarInfo(one)
                member.size = len(jpeg("red"))
                archive.addfile(member, io.BytesIO(jpeg("red")))
    return out.getvalue()


def karpathy_file() -> bytes:
    images = [
        {"filename": f"{name}.jpg", "split": split, "sentences": [{"raw": "one"}, {"raw": "two"}]}
        for name, split in zip("abax", ["train", "train", "val", "train"], strict=True)
    ]
    return json.dumps({"images": images}).encode()


def instances_file() -> bytes:
    images = [{"id": n, "file_name": f"{name}.jpg"} for n, name in enumerate("abc")]
    categories = [{"id": n, "name": name} for n, name in enumerate(["dog", "cat"])]
    objects = [{"image_id": n, "category_id": n % 2, "iscrowd": n} for n in (0, 1, 0, 1)]
    told = {"images": images, "categories": categories, "annotations": objects}
    return json.dumps(told).encode()


TEXTS = {
    "bars": b"image_name| comment_number| comment\na.jpg| 0| one | two\nb.jpg| 0| \nx.jpg| 1| a\n",
    "quoted": b'image,caption\na.jpg,"one\ntwo"\nb.jpg,three, four\nx.jpg,five\n',
    "open images": b"ImageID,LabelName,Confidence\na,/m/1,1\nb,/m/2,0\nx,/m/1,1\na,/m/3,1\n",
}


@pytest.mark.parametrize("count", [15, pytest.param(MUTATIONS, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", FORMATS)
def test_damage_is_a_clear_error_or_a_clean_skip(kind, count, tmp_path):
    source, name = FORMATS[kind]
    for picture in "ab":
        (tmp_path / f"{picture}.jpg").write_bytes(jpeg("red"))
    folder = tmp_path / "made"
    folder.mkdir()
    make = {
        "csv": csv_file,
        "tsv": lambda: csv_file().replace(b",", b"\t").replace(b'"', b""),
        "jsonl": jsonl_file,
        "tar": tar_file,
        "tfrecord": lambda: record_file(folder),
        "example": lambda: examples()[0],
        "gzip": lambda: gzip.compress(record_file(folder), mtime=0),
        "parquet": lambda: table_file("parquet"),
        "arrow": lambda: table_file("arrow"),
        "zip": lambda: archive_file("zip"),
        "class tar": lambda: archive_file("tar"),
        "karpathy": karpathy_file,
        "instances": instances_file,
        **{name: lambda text=text: text for name, text in TEXTS.items()},
    }
    whole, outcomes = make[kind](), set()
    data = tmp_path / "data"
    data.mkdir()
    for picture in tmp_path.glob("*.jpg"):
        for place in ("", "Images/", "val/"):
            (data / place / picture.name).parent.mkdir(exist_ok=True)
            (data / place / picture.name).write_bytes(picture.read_bytes())
    (data / name).parent.mkdir(exist_ok=True)

    def check(content: bytes) -> None:
        if kind == "example":
            import tensorflow as tf

            with tf.io.TFRecordWriter(str(data / name)) as writer:
                for one in (content, examples()[1]):
                    writer.write(one)
        else:
            (data / name).write_bytes(content)
        survives(source, data / name if source == "image_folder" else data, outcomes)

    settled = settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    with contextlib.redirect_stderr(io.StringIO()):
        check(whole)
        assert "Sample" in outcomes
        settled(given(mutations(whole))(check))()
    assert outcomes & {"Rejected", "error"}
