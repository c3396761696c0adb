"""Every format decodes to the pixels Pillow shows: turned, over white, RGB."""

import base64
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tfclip.inputs.images import decode_picture

RNG = np.random.default_rng(0)
RGBA = RNG.integers(0, 256, (21, 34, 4), np.uint8)


def encode(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def palette_picture(colors: int) -> Image.Image:
    picture = Image.fromarray(RNG.integers(0, colors, (12, 10), np.uint8), "P")
    picture.putpalette(RNG.integers(0, 256, 3 * colors, np.uint8).tobytes())
    return picture


def shown_by_pillow(data: bytes) -> np.ndarray:
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if picture.mode == "I;16":
        return np.repeat((np.asarray(picture) >> 8).astype(np.uint8)[..., None], 3, 2)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.asarray(picture.convert("RGB"))


RGB_PICTURE = Image.fromarray(RGBA).convert("RGB")
RGBA_PICTURE = Image.fromarray(RGBA)
GREY = RGB_PICTURE.convert("L")
TURNED = Image.Exif()
TURNED[0x0112] = 7
EXACT = {
    "jpeg": encode(RGB_PICTURE, "JPEG"),
    "jpeg progressive": encode(RGB_PICTURE, "JPEG", progressive=True),
    "jpeg grey": encode(GREY, "JPEG"),
    "jpeg turned": encode(RGB_PICTURE, "JPEG", exif=TURNED),
    "png": encode(RGB_PICTURE, "PNG"),
    "png turned": encode(RGBA_PICTURE, "PNG", exif=TURNED),
    "png alpha": encode(RGBA_PICTURE, "PNG"),
    "png grey": encode(GREY, "PNG"),
    "png grey alpha": encode(RGBA_PICTURE.convert("LA"), "PNG"),
    "png 1 bit": encode(GREY.convert("1"), "PNG"),
    "png 16 bit": encode(Image.fromarray(RGBA[..., 0].astype(np.uint16) * 256 + 77), "PNG"),
    "png one transparent colour": encode(
        RGB_PICTURE, "PNG", transparency=RGB_PICTURE.getpixel((3, 4))
    ),
    "png one transparent grey": encode(GREY, "PNG", transparency=GREY.getpixel((3, 4))),
    "png palette": encode(palette_picture(200), "PNG"),
    "png palette alpha": encode(palette_picture(200), "PNG", transparency=bytes(range(200))),
    "png palette 2 bit": encode(palette_picture(4), "PNG", bits=2),
    "png palette 2 bit alpha": encode(palette_picture(4), "PNG", bits=2, transparency=1),
    "gif": encode(palette_picture(8), "GIF"),
    "gif transparent": encode(palette_picture(8), "GIF", transparency=3),
    "gif animated": encode(
        palette_picture(8),
        "GIF",
        transparency=2,
        save_all=True,
        append_images=[palette_picture(8), palette_picture(8)],
    ),
    "bmp": encode(RGB_PICTURE, "BMP"),
    "bmp grey": encode(GREY, "BMP"),
    "bmp palette": encode(palette_picture(20), "BMP"),
    "bmp 32 bit": encode(RGBA_PICTURE, "BMP"),
    "webp": encode(RGB_PICTURE, "WEBP"),
    "webp lossless": encode(RGB_PICTURE, "WEBP", lossless=True),
    "webp alpha": encode(RGBA_PICTURE, "WEBP", lossless=True, exact=True),
    # TensorFlow writes beyond its memory for one without alpha.
    "webp animated": encode(
        RGB_PICTURE, "WEBP", lossless=True, save_all=True, append_images=[GREY.convert("RGB")] * 2
    ),
    "webp animated alpha": encode(
        RGBA_PICTURE, "WEBP", lossless=True, exact=True, save_all=True, append_images=[RGBA_PICTURE]
    ),
    "webp turned": encode(RGB_PICTURE, "WEBP", lossless=True, exif=TURNED),
}


@pytest.mark.parametrize("name", EXACT)
def test_pixels_equal_pillow(name):
    pixels = decode_picture(tf.constant(EXACT[name])).numpy().astype(int)
    expected = shown_by_pillow(EXACT[name])
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() <= (1 if "alpha" in name else 0)


def test_cmyk_jpeg_is_a_rounding_away():
    data = encode(Image.fromarray(RGBA, "CMYK"), "JPEG")
    pixels = decode_picture(tf.constant(data)).numpy().astype(int)
    assert np.abs(pixels - shown_by_pillow(data)).max() <= 1


def test_the_record_of_a_picture_shows_the_same():
    from tfclip.records.check import check_picture

    smooth = Image.fromarray(RGBA[:4, :4]).resize((90, 70), Image.Resampling.BICUBIC)
    for data in (
        encode(smooth, "PNG", exif=TURNED),
        encode(smooth.convert("RGB"), "JPEG", exif=TURNED, quality=95),
        encode(smooth, "WEBP", lossless=True),
    ):
        record = decode_picture(tf.constant(check_picture(data).jpeg)).numpy().astype(int)
        pixels = decode_picture(tf.constant(data)).numpy()
        assert record.shape == pixels.shape
        assert np.abs(record - pixels).mean() < 2.0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"\0\0\0",
        EXACT["jpeg"][:-40],
        EXACT["png"][:-40],
        EXACT["gif"][:20],
        EXACT["webp"][:30],
        EXACT["bmp"][:60],
        EXACT["bmp palette"][:30] + b"\1" + EXACT["bmp palette"][31:],  # says it is compressed
        encode(GREY.convert("1"), "BMP"),
        b"GIF89a",
        b"BM",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        # JPEG XL, which TensorFlow decodes, and whose size nobody has read.
        base64.b64decode("/woIELASCAgQAFwASxLFgkWAHL0xqnCBCV0qDp901Te/5QM="),
    ],
)
def test_what_no_decoder_takes_raises(data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_picture(tf.constant(data))
