"""Every kind of picture: what passes, what is converted to which pixels, and what is refused."""

import glob
import io
import os
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfclip.records.check import BadPicture, check_picture


def decoded(jpeg: bytes) -> np.ndarray:
    """The independent decoder: TensorFlow's."""
    return tf.io.decode_jpeg(jpeg, channels=3, dct_method="INTEGER_ACCURATE").numpy().astype(int)


def assert_like(jpeg: bytes, expected: np.ndarray, mean: float = 3.0) -> None:
    """JPEG blurs edges: nearly all pixels are near, and none of the areas has another colour."""
    got = decoded(jpeg)
    assert got.shape == expected.shape
    assert np.abs(got - expected.astype(int)).mean() < mean


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_baseline_rgb_jpeg_passes_byte_for_byte(made, subsampling):
    jpeg = made.encoded(made.pixels(50, 30), subsampling=subsampling)
    checked = check_picture(jpeg)
    assert checked.jpeg == jpeg
    assert (checked.width, checked.height) == (50, 30)
    assert (checked.original_width, checked.original_height) == (50, 30)


def test_restart_markers_comments_and_bytes_after_the_end_pass(made):
    jpeg = made.encoded(made.pixels(64, 48), restart_marker_rows=1, comment=b"\xff\xd9 a trap")
    assert b"\xff\xd0" in jpeg
    assert check_picture(jpeg).jpeg == jpeg
    assert check_picture(jpeg + b"after").jpeg == jpeg + b"after"


def test_a_path_is_read(made, tmp_path):
    jpeg = made.encoded(made.pixels(20, 20))
    (tmp_path / "a.png").write_bytes(jpeg)  # the content decides, not the name
    assert check_picture(tmp_path / "a.png").jpeg == jpeg


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"progressive": True, "quality": 95}),
        ("GIF", {}),
    ],
)
def test_other_formats_become_baseline_jpegs(made, format, options):
    array = made.pixels(48, 32)
    checked = check_picture(made.encoded(array, format, **options))
    assert_like(checked.jpeg, array, mean=6.0 if format == "GIF" else 3.0)
    with Image.open(io.BytesIO(checked.jpeg)) as picture:
        assert (picture.format, picture.mode) == ("JPEG", "RGB")
        assert "progressive" not in picture.info
    assert check_picture(checked.jpeg).jpeg == checked.jpeg


def test_grey_cmyk_and_palette(made):
    array = made.pixels(48, 32)
    grey = np.repeat(np.asarray(Image.fromarray(array).convert("L"))[..., None], 3, -1)
    for format in ("JPEG", "PNG"):
        out = io.BytesIO()
        Image.fromarray(array).convert("L").save(out, format)
        assert_like(check_picture(out.getvalue()).jpeg, grey)
    out = io.BytesIO()
    Image.fromarray(array).convert("CMYK").save(out, "JPEG", quality=95)
    assert_like(check_picture(out.getvalue()).jpeg, array, mean=4.0)
    out = io.BytesIO()
    Image.fromarray(array).quantize(64).save(out, "PNG")
    assert_like(check_picture(out.getvalue()).jpeg, array, mean=8.0)


def png_of(rows: np.ndarray, color_type: int, depth: int, claimed: tuple = ()) -> bytes:
    """A PNG written by hand, for what Pillow cannot write; its header may claim another size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = claimed or rows.shape[:2]
    raw = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_keep_their_high_byte(color_type, channels):
    rows = np.zeros((24, 32, channels), np.uint16)
    rows[..., :] = np.linspace(0, 65535, 32).astype(np.uint16)[None, :, None]
    if channels in (2, 4):
        rows[..., -1] = 65535  # opaque
    png = png_of(rows, color_type, 16)
    expected = tf.io.decode_png(png, channels=3).numpy()  # strips 16 bits to 8
    assert_like(check_picture(png).jpeg, expected, mean=2.0)


def test_what_is_transparent_shows_white(made):
    array = made.pixels(48, 32)
    alpha = np.full((32, 48, 1), 255, np.uint8)
    alpha[:, 24:] = 0
    alpha[:, 16:24] = 128
    expected = array * (alpha / 255.0) + 255 * (1 - alpha / 255.0)
    for format, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        picture = made.encoded(np.concatenate([array, alpha], -1), format, **options)
        assert_like(check_picture(picture).jpeg, expected.round())


def test_a_transparent_palette_shows_white():
    picture = Image.new("P", (16, 16), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.paste(1, (8, 0, 16, 16))
    for format in ("PNG", "GIF"):
        out = io.BytesIO()
        picture.save(out, format, transparency=0)
        got = decoded(check_picture(out.getvalue()).jpeg)
        assert (got[:, :6] > 245).all()
        assert (got[:, 10:, 2] > 200).all() and (got[:, 10:, 0] < 50).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_size", [None, 24])
def test_exif_rotation_is_applied(made, orientation, image_size):
    array = made.pixels(96, 64)
    # What each value asks for, from the EXIF standard: where row 0 and column 0 of the file lie.
    upright = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.transpose(1, 0, 2),
        6: array.transpose(1, 0, 2)[:, ::-1],
        7: array.transpose(1, 0, 2)[::-1, ::-1],
        8: array.transpose(1, 0, 2)[::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    jpeg = made.encoded(array, quality=95, exif=exif)
    checked = check_picture(jpeg, image_size)
    assert (checked.original_height, checked.original_width) == upright.shape[:2]
    if image_size is None:
        assert_like(checked.jpeg, upright)
        assert (checked.jpeg == jpeg) == (orientation == 1)
    else:
        assert min(checked.width, checked.height) == image_size
        small = Image.fromarray(upright).resize((checked.width, checked.height), Image.BOX)
        assert_like(checked.jpeg, np.asarray(small), mean=5.0)


def test_a_broken_exif_block_is_no_reason_to_turn_or_refuse(made):
    jpeg = made.encoded(made.pixels(20, 20), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert check_picture(jpeg).jpeg == jpeg


def test_an_animation_gives_its_first_picture():
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "blue", "green")]
    for format in ("GIF", "PNG", "WEBP"):
        out = io.BytesIO()
        options = {"lossless": True} if format == "WEBP" else {}
        frames[0].save(out, format, save_all=True, append_images=frames[1:], **options)
        assert_like(check_picture(out.getvalue()).jpeg, np.asarray(frames[0]))


@pytest.mark.parametrize(
    ("size", "image_size", "expected"),
    [
        ((100, 50), 25, (50, 25)),
        ((50, 100), 25, (25, 50)),
        ((99, 50), 25, (50, 25)),
        ((100, 25), 25, (100, 25)),
        ((20, 10), 25, (20, 10)),
        ((1000, 1), 25, (1000, 1)),
        ((800, 600), 32, (43, 32)),
    ],
)
def test_the_short_side_shrinks_and_nothing_grows(made, size, image_size, expected):
    array = made.pixels(*size)
    jpeg = made.encoded(array, quality=95)
    checked = check_picture(jpeg, image_size)
    assert (checked.width, checked.height) == expected
    assert (checked.original_width, checked.original_height) == size
    assert decoded(checked.jpeg).shape == (*expected[::-1], 3)
    assert (checked.jpeg == jpeg) == (size == expected)


def test_shrinking_is_antialiased(made):
    """A pattern of black and white pixels becomes grey, and not a coarser pattern."""
    board = np.indices((240, 240)).sum(0) % 2 * 255
    png = made.encoded(np.repeat(board[..., None], 3, -1).astype(np.uint8), "PNG")
    got = decoded(check_picture(png, 60).jpeg)[4:-4, 4:-4]
    assert np.abs(got - 127.5).max() < 20


def test_refused(made, tmp_path):
    jpeg = made.encoded(made.pixels(64, 48))
    png = made.encoded(made.pixels(64, 48), "PNG")
    (tmp_path / "folder.jpg").mkdir()
    bomb = png_of(np.zeros((1, 1, 1), np.uint8), 0, 8, claimed=(20_000, 20_000))
    late = len(jpeg) - 12  # where Pillow has enough to go on
    for image, reason in [
        (b"", "empty file"),
        (b"a text file named .jpg\n" * 50, "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (tmp_path / "missing.jpg", "no such file"),
        (tmp_path / "folder.jpg", "no such file"),
        (jpeg[: len(jpeg) // 2], "damaged"),
        (jpeg[:-2], "damaged"),
        (jpeg[:200], "damaged"),
        (jpeg[:late] + b"\xff\x01" + jpeg[late:], "marker FF01"),
        (png[:-100], "damaged"),
        (png[:60] + b"\0\0\0\0" + png[64:], "damaged"),
        (bomb, "pixels"),
    ]:
        with pytest.raises(BadPicture, match=reason):
            check_picture(image)


def test_a_large_picture_is_refused_before_it_is_decoded(made):
    jpeg = bytearray(made.encoded(made.pixels(16, 16)))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 10_000, 9_000)
    with pytest.raises(BadPicture, match="9000 x 10000 pixels"):
        check_picture(bytes(jpeg))


def test_an_unreadable_file(made, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(made.encoded(made.pixels(20, 20)))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads everything")
    with pytest.raises(BadPicture, match="unreadable"):
        check_picture(path)


def mutations(jpeg: bytes, rng: random.Random, count: int):
    for _ in range(count):
        data = bytearray(jpeg)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.choice([0, 1, 1, 4, 20])):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        yield bytes(data)


def decodes(jpeg: bytes, scaled: bool) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
                if scaled:
                    picture.draft("L", (1, 1))
                picture.load()
        except Exception:
            return False
    return True


@pytest.mark.parametrize("count", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_scaled_decode_sees_the_damage_that_a_full_one_sees(made, count):
    """check_picture decodes pictures that pass byte for byte at an eighth of their size."""
    rng = random.Random(0)
    jpegs = [made.encoded(made.pixels(96, 64, at), subsampling=at % 3) for at in range(6)]
    outcomes = [
        (decodes(mutated, True), decodes(mutated, False))
        for jpeg in jpegs
        for mutated in mutations(jpeg, rng, count)
    ]
    assert {scaled == full for scaled, full in outcomes} == {True}
    assert {full for _, full in outcomes} == {True, False}


def test_a_jpeg_that_holds_rgb_passes(made):
    """Adobe's marker with transform 0: no YCbCr in it, so no grey part to decode alone."""
    jpeg = made.encoded(made.pixels(40, 30), keep_rgb=True)
    assert check_picture(jpeg).jpeg == jpeg
    assert_like(jpeg, made.pixels(40, 30))


def passes_and_decodes(jpegs: list[bytes], count: int, image_size: int | None) -> int:
    """What passes unchanged must decode in TensorFlow, whatever was done to it."""
    rng = random.Random(0)
    passed = 0
    for jpeg in jpegs:
        for mutated in mutations(jpeg, rng, count):
            try:
                checked = check_picture(mutated, image_size)
            except BadPicture as bad:
                assert str(bad) and "\n" not in str(bad)
                continue
            passed += 1
            assert decoded(checked.jpeg).shape == (checked.height, checked.width, 3)
    return passed


@pytest.mark.parametrize("image_size", [None, 24])
def test_mutated_jpegs_are_refused_or_decode(made, image_size):
    jpegs = [made.encoded(made.pixels(96, 64, at), subsampling=at % 3) for at in range(6)]
    assert passes_and_decodes(jpegs, 100, image_size) > 100


@pytest.mark.slow
@pytest.mark.skipif("TFCLIP_DATA" not in os.environ, reason="needs TFCLIP_DATA")
def test_mutated_photographs_are_refused_or_decode():
    photographs = sorted(glob.glob(f"{os.environ['TFCLIP_DATA']}/flickr8k/*/*.jpg"))[:60]
    assert photographs
    assert passes_and_decodes([Path(p).read_bytes() for p in photographs], 50, None) > 500


def _png(numbers, color, transparent=None):
    """A 16-bit PNG, written from the numbers alone: (H,W,C) uint16."""

    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    height, width = numbers.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in numbers)
    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    single = chunk(b"tRNS", transparent) if transparent else b""
    parts = chunk(b"IHDR", header) + single + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b"")


@pytest.mark.parametrize("color", [0, 2], ids=["grey", "rgb"])
@pytest.mark.parametrize("is_transparent", [False, True])
def test_pngs_of_16_bits_are_what_the_graph_decodes(color, is_transparent):
    from tfclip.inputs.images import decode_picture

    # Blocks of eight, so that a JPEG keeps them apart. The last two differ in the low byte.
    numbers = np.array([[0x7F80, 0xFF01], [0x1234, 0x12FF]], np.uint16)
    numbers = numbers.repeat(16, 0).repeat(16, 1)[..., None].repeat(3 if color else 1, -1)
    values = struct.pack(">H", 0x1234) * numbers.shape[-1]
    content = _png(numbers, color, values if is_transparent else None)
    packed = np.array(Image.open(io.BytesIO(check_picture(content).jpeg)).convert("RGB"))
    corners = packed[::31, ::31].astype(int)
    want = np.array([[0x7F, 0xFF], [0xFF if is_transparent else 0x12, 0x12]])
    assert np.abs(corners - want[..., None]).max() <= 2
    served = decode_picture(content).numpy()[::31, ::31].astype(int)
    assert np.array_equal(served, np.broadcast_to(want[..., None], served.shape))


@pytest.mark.parametrize("name", ["TIFF", "AVIF", "HEIF"])
def test_formats_that_packing_alone_opens_are_converted_and_counted(name):
    if name == "HEIF":
        pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    Image.new("RGB", (32, 16), (200, 40, 90)).save(out, name)
    checked = check_picture(out.getvalue())
    assert checked.converted == name and (checked.width, checked.height) == (32, 16)
    mean = np.array(Image.open(io.BytesIO(checked.jpeg))).mean((0, 1))
    assert np.abs(mean - (200, 40, 90)).max() < 6


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF"])
@pytest.mark.parametrize("frames", [1, 3])
def test_further_frames_and_pages_are_noticed(name, frames):
    out = io.BytesIO()
    red, *others = [Image.new("RGB", (32, 16), c) for c in ("red", "blue", "green")[:frames]]
    red.save(out, name, **({"save_all": True, "append_images": others} if others else {}))
    checked = check_picture(out.getvalue())
    assert checked.has_more_frames == (frames > 1)
    assert Image.open(io.BytesIO(checked.jpeg)).getpixel((9, 9))[0] > 240


def test_a_tiff_of_floating_point_numbers_is_refused():
    out = io.BytesIO()
    Image.new("F", (8, 8), 0.5).save(out, "TIFF")
    with pytest.raises(BadPicture, match="32-bit numbers"):
        check_picture(out.getvalue())
