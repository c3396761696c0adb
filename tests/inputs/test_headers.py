"""The EXIF orientation and the size in a header, against Pillow and hand-made bytes."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tfclip.inputs.headers import (
    count_jpeg_pixels,
    count_other_pixels,
    gif_frame,
    read_orientation,
    turn_upright,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def encode(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def tiff(order: bytes, value: int, *, kind: int = 3, directory: int = 8) -> bytes:
    """An EXIF block with the orientation between two other tags."""
    e = {b"II": "<", b"MM": ">"}[order]
    stored = struct.pack(e + "HH", value, 0) if kind == 3 else struct.pack(e + "I", value)
    entries = [
        struct.pack(e + "HHII", 0x0100, 4, 1, 6),
        struct.pack(e + "HHI", 0x0112, kind, 1) + stored,
        struct.pack(e + "HHII", 0x011A, 4, 1, 3),
    ]
    head = order + struct.pack(e + "HI", 42, directory) + b"\0" * (directory - 8)
    return head + struct.pack(e + "H", 3) + b"".join(entries) + b"\0" * 4


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def with_exif(block: bytes, before: bytes = b"") -> bytes:
    jpeg = encode("JPEG")
    return jpeg[:2] + before + segment(0xE1, b"Exif\0\0" + block) + jpeg[2:]


def orientation(data: bytes) -> int:
    return int(read_orientation(tf.constant(data)))


@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_every_orientation_in_both_byte_orders(order):
    for value in range(1, 9):
        assert orientation(with_exif(tiff(order, value))) == value
        assert orientation(with_exif(tiff(order, value, kind=4, directory=20))) == value


def test_turning_equals_pillow():
    for value in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = value
        tagged = Image.open(io.BytesIO(encode("PNG", exif=exif)))
        turned = turn_upright(tf.constant(PIXELS), tf.constant(value))
        np.testing.assert_array_equal(turned, ImageOps.exif_transpose(tagged))


def test_png_and_webp_carry_it_too():
    exif = Image.Exif()
    exif[0x0112] = 8
    assert orientation(encode("PNG", exif=exif)) == 8
    assert orientation(encode("WEBP", exif=exif)) == 8
    assert orientation(encode("WEBP", exif=b"Exif\0\0" + tiff(b"MM", 5))) == 5
    assert orientation(encode("PNG")) == orientation(encode("WEBP")) == 1


def test_other_segments_may_stand_before():
    comment = segment(0xFE, b"a comment")
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>")
    long_profile = segment(0xE2, b"ICC_PROFILE\0" + bytes(60_000))
    assert orientation(with_exif(tiff(b"MM", 6), comment + xmp + long_profile)) == 6


def test_damage_reads_as_upright():
    good = tiff(b"II", 6)
    for block in (
        b"",
        b"II*\0",
        b"XX" + good[2:],
        tiff(b"II", 0),
        tiff(b"MM", 9),
        tiff(b"II", 6, kind=7),
        good[:4] + b"\xff\xff\xff\x7f" + good[8:],
        good[:4] + b"\xff\xff\xff\xff" + good[8:],
    ):
        assert orientation(with_exif(block)) == 1, block
    for data in (
        b"",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe1\0\x20Exif\0\0",
        b"text",
        b"RIFF\0\0\0\0WEBP",
    ):
        assert orientation(data) == 1, data


def test_an_entry_before_the_cut_still_counts():
    whole = tiff(b"II", 6)
    assert orientation(b"\xff\xd8\xff\xe1\0\x40Exif\0\0" + whole[:-8]) == 6


def test_mutated_blocks_never_raise():
    rng = np.random.default_rng(1)
    blocks = np.tile(np.frombuffer(tiff(b"MM", 3), np.uint8), (300, 1))
    for block in blocks:
        block[rng.integers(0, len(block), 4)] = rng.integers(0, 256, 4)
    cuts = rng.integers(0, blocks.shape[1], 300)
    data = [
        b"\xff\xd8\xff\xe1\0\x80Exif\0\0" + b.tobytes()[:n]
        for b, n in zip(blocks, cuts, strict=True)
    ]
    found = list(tf.data.Dataset.from_tensor_slices(data).map(read_orientation).as_numpy_iterator())
    assert len(found) == 300 and set(found) <= set(range(1, 9))


@pytest.mark.parametrize(
    "kind, options",
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 50}),
        ("WEBP", {"exif": tiff(b"II", 1)}),
    ],
)
def test_size_in_the_header(kind, options):
    count = count_jpeg_pixels if kind == "JPEG" else count_other_pixels
    assert int(count(tf.constant(encode(kind, **options)))) == 6 * 9


def test_sizes_that_only_a_bomb_declares():
    def png(width, height):
        return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)

    bottom_up = b"BM" + bytes(12) + struct.pack("<Iii", 40, 30_000, -40_000)
    assert int(count_other_pixels(tf.constant(png(60_000, 70_000)))) == 4_200_000_000
    assert int(count_other_pixels(tf.constant(png(2**32 - 1, 2**32 - 1)))) > 2**61
    assert int(count_other_pixels(tf.constant(bottom_up))) == 1_200_000_000
    assert int(count_other_pixels(tf.constant(b"no picture"))) == 0
    assert int(count_other_pixels(tf.constant(b""))) == 0


def animation(**options) -> bytes:
    """Three frames of noise, so that each takes several blocks."""
    rng = np.random.default_rng(1)
    frames = [Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)) for _ in range(3)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=50, **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"comment": b"!,;" * 300}, {"loop": 0}, {"disposal": 2}])
def test_a_gif_is_cut_behind_its_first_frame(options):
    whole = animation(**options)
    start, end = (int(place) for place in gif_frame(tf.constant(whole)))
    assert whole[start] == 0x2C
    assert end < len(whole) // 2
    cut = Image.open(io.BytesIO(whole[:end] + b";"))
    assert cut.n_frames == 1
    expected = np.asarray(Image.open(io.BytesIO(whole)).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(cut.convert("RGB")), expected)


def test_a_gif_that_is_cut_short_has_a_frame_that_ends_there():
    whole = animation()
    for length in range(6, 900, 13):
        start, end = (int(place) for place in gif_frame(tf.constant(whole[:length])))
        assert 0 <= start <= end <= max(length, 13)


def test_a_frame_that_is_larger_than_its_screen_counts():
    """Such a file of 880 kB made the decoder take 6 GB."""
    whole = bytearray(animation())
    start = int(gif_frame(tf.constant(bytes(whole)))[0])
    whole[start + 5 : start + 9] = struct.pack("<HH", 65_000, 20_000)
    assert int(count_other_pixels(tf.constant(bytes(whole)))) == 65_000 * 20_000
