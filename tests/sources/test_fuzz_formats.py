"""Tables, tars and foreign records with random damage: a clear error, or rejected pictures."""

import contextlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tfclip.sources.registry import open_source
from tfclip.sources.sample import Rejected, Sample

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
}


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.slow)])
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
    }
    whole, outcomes = make[kind](), set()
    data = tmp_path / "data"
    data.mkdir()
    for picture in tmp_path.glob("*.jpg"):
        (data / picture.name).write_bytes(picture.read_bytes())

    def check(content: bytes) -> None:
        if kind == "example":
            import tensorflow as tf

            with tf.io.TFRecordWriter(str(data / name)) as writer:
                for one in (content, examples()[1]):
                    writer.write(one)
        else:
            (data / name).write_bytes(content)
        survives(source, data, outcomes)

    settled = settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    with contextlib.redirect_stderr(io.StringIO()):
        settled(given(mutations(whole))(check))()
    assert "Sample" in outcomes and "Rejected" in outcomes
