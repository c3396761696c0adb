"""Every kind of broken input, through the whole command: skipped with its reason, or converted."""

import io
import json
import os
import struct
import zlib

import pytest
from PIL import Image

from tfclip.make_records import main
from tfclip.records.reader import read_split


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def saved(picture: Image.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def bomb() -> bytes:
    """A PNG whose header says 20,000 x 20,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 60_001)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def kinds(made):
    """Name, content of the picture, caption, and the reason for which it is skipped, if it is."""
    array = made.pixels(48, 32)
    rgb = Image.fromarray(array)
    jpeg = made.encoded(array)
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "blue")]
    said = "a wall"
    return [
        ("good", jpeg, said, None),
        ("truncated", jpeg[: len(jpeg) // 2], said, "damaged"),
        ("no end", jpeg[:-2], said, "damaged"),
        ("zero bytes", b"", said, "empty file"),
        ("text", b"This is no picture at all.\n" * 20, said, "not a picture"),
        ("bomb", bomb(), said, "pixels"),
        ("gone", None, said, "no such file"),
        ("folder", "folder", said, "not a file"),
        ("pipe", "pipe", said, "not a file"),
        ("link out", "/etc/passwd", said, "a link out of the data folder"),
        ("empty caption", jpeg, "  ", "no caption; caption 1: empty"),
        ("long caption", jpeg, "word " * 3000, "characters, more than 10,000"),
        ("no utf-8", jpeg, "a w\udcffll", "invalid Unicode"),
        ("no caption", jpeg, None, "no caption"),
        ("../../etc/passwd", None, said, "not a plain file name"),
        ("/etc/hostname", None, said, "not a plain file name"),
        ("png", saved(rgb, "PNG"), said, None),
        ("grey png", saved(rgb.convert("L"), "PNG"), said, None),
        ("sixteen bits", saved(Image.new("I;16", (48, 32), 30_000), "PNG"), said, None),
        ("transparent", saved(rgb.convert("RGBA"), "PNG"), said, None),
        ("gif", saved(rgb, "GIF"), said, None),
        (
            "animated gif",
            saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
            said,
            None,
        ),
        ("webp", saved(rgb, "WEBP"), said, None),
        ("cmyk", saved(rgb.convert("CMYK"), "JPEG"), said, None),
        ("grey", saved(rgb.convert("L"), "JPEG"), said, None),
        ("progressive", saved(rgb, "JPEG", progressive=True), said, None),
        ("turned", saved(rgb, "JPEG", exif=exif(6)), said, None),
    ]


@pytest.fixture(scope="module")
def data(kinds, tmp_path_factory):
    data = tmp_path_factory.mktemp("broken")
    pictures = data / "Flicker8k_Dataset"
    pictures.mkdir()
    lines, names = [], []
    for name, content, caption, _ in kinds:
        name = f"{name}.jpg"
        names.append(name)
        if caption is not None:
            lines.append(f"{name}#0\t{caption}\n")
        path = pictures / name
        if content == "folder":
            path.mkdir()
        elif content == "pipe":
            os.mkfifo(path)
        elif isinstance(content, str):
            path.symlink_to(content)
        elif content is not None:
            path.write_bytes(content)
    names.append("good.jpg")  # a duplicate id
    text = "".join(lines).encode("utf-8", "surrogateescape")
    (data / "Flickr8k.token.txt").write_bytes(text)
    (data / "Flickr_8k.trainImages.txt").write_text("\n".join(names) + "\n")
    return data


def test_every_kind_is_skipped_with_its_reason_or_converted(data, kinds, tmp_path, capsys):
    arguments = ["flickr8k", "--data", str(data), "--workers", "2", "--order", "source"]
    assert main([*arguments, "--out", str(tmp_path / "strict")]) == 3
    assert "pictures were rejected, allowed: 1.00%" in capsys.readouterr().err
    kept = (tmp_path / "strict/skipped.jsonl").read_text()
    assert main([*arguments, "--out", str(tmp_path / "out"), "--max-skipped", "0.7"]) == 0
    listed = [json.loads(line) for line in (tmp_path / "out/skipped.jsonl").open()]
    assert (tmp_path / "out/skipped.jsonl").read_text() == kept
    expected = [(name, reason) for name, _, _, reason in kinds if reason]
    assert len(expected) >= 15 and len(listed) == len(expected) + 1
    for (name, reason), line in zip(expected, listed, strict=False):
        assert line["key"] == f"flickr8k/{name}" and reason in line["reason"], line
    assert "listed twice" in listed[-1]["reason"]
    good = [f"flickr8k/{name}" for name, _, _, reason in kinds if reason is None]
    records = list(read_split(tmp_path / "out", "train").as_numpy_iterator())
    assert [record["image/key"].decode() for record in records] == good
    for record in records:
        with Image.open(io.BytesIO(record["image/encoded"])) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            turned = record["image/key"].endswith(b"turned")
            animated = b"animated" in record["image/key"]
            assert picture.size == ((32, 48) if turned else (20, 10) if animated else (48, 32))
