"""Check that a picture can be decoded, and convert it to a baseline RGB JPEG. Uses Pillow alone."""

import os
import re
import stat
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import ExifTags, Image, ImageChops

from tfclip.sources.safe_paths import stand_in

try:
    from pillow_heif import register_heif_opener
except ImportError:
    _HEIF = False
else:
    register_heif_opener()
    _HEIF = True

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
"""The formats read here and in the served graph. Pillow reads more, some by starting other
programs."""
CONVERTED = ("TIFF", "AVIF", "HEIF")
"""Further formats read when packing; the served graph does not decode them."""
MAX_BYTES = 100_000_000
MAX_PIXELS = 50_000_000
"""Larger pictures are refused before decoding, here and in the served graph: 50 megapixels take
150 MB as RGB."""
OPENED = (*FORMATS, *CONVERTED) if _HEIF else (*FORMATS, *CONVERTED[:-1])
"""All formats read with the installed packages."""
QUALITY = 95
_BIT_DEPTH = 24
"""The offset of the bit depth in a PNG file."""

_ORIENTATION = ExifTags.Base.Orientation
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# In the coded data of a JPEG, FF is followed by 00 (a stuffed FF), by a restart marker, or by more
# FF (fill bytes); anything else ends it.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END_OF_IMAGE = 0xD9
_NEXT_SEGMENTS = frozenset([0xC4, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)])


class BadPicture(ValueError):
    """A picture that cannot be used; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A valid picture as RGB JPEG with its size, and the size of the original picture.

    Sizes are in pixels, as displayed (after the EXIF rotation).
    """

    jpeg: bytes
    width: int
    height: int
    original_width: int
    original_height: int
    converted: str = ""
    """The original format, if it is one of `CONVERTED`; otherwise ""."""
    has_more_frames: bool = False
    """Whether the file holds further frames or pages, which are left out."""


def check_picture(image: Path | bytes, image_size: int | None = None) -> Checked:
    """Decode a picture completely and return it as an RGB JPEG.

    A baseline RGB JPEG without rotation is returned unchanged, byte for byte. Everything else (PNG,
    GIF, BMP, WebP, TIFF, AVIF, HEIC with the extra `[heic]`; CMYK, grey, 16 bit, transparent,
    rotated, progressive, the first frame of an animation) is encoded with quality 95, rotated as
    EXIF says, with transparency over white.

    Args:
        image: a file or its content.
        image_size: pictures whose short side is longer are shrunk to it (pixels, antialiased);
            pictures are never enlarged. None keeps every size.

    Raises:
        BadPicture: a missing, empty, too large, truncated or damaged file, or another format.
    """
    data = image if isinstance(image, bytes) else _content(image)
    if not data:
        raise BadPicture("empty file")
    try:
        return _checked(data, image_size)
    except BadPicture:
        raise
    except Image.UnidentifiedImageError:
        if _is_heic(data) and not _HEIF:
            raise BadPicture("HEIC, which needs pillow-heif: pip install 'tfclip[heic]'") from None
        if instead := stand_in(data):
            raise BadPicture(f"not a picture: {instead}") from None
        raise BadPicture("not a picture (JPEG, PNG, GIF, BMP, WebP, TIFF, AVIF or HEIC)") from None
    except Image.DecompressionBombError:
        raise BadPicture(f"more than {MAX_PIXELS:,} pixels") from None
    # Decoders of untrusted bytes raise nearly anything: struct.error, zlib.error, SyntaxError...
    except Exception as error:
        raise BadPicture(f"damaged: {' '.join(str(error).split())[:200]}") from None


def _content(path: Path) -> bytes:
    try:
        # O_NONBLOCK: a named pipe without a writer must not block.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise BadPicture("no such file") from None
    except (OSError, ValueError) as error:
        raise BadPicture(f"unreadable: {getattr(error, 'strerror', error)}") from None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise BadPicture("no such file")
        if status.st_size > MAX_BYTES:
            raise BadPicture(f"more than {MAX_BYTES:,} bytes")
        return os.read(file, status.st_size)
    except OSError as error:
        raise BadPicture(f"unreadable: {error.strerror}") from None
    finally:
        os.close(file)


def _checked(data: bytes, image_size: int | None) -> Checked:
    with Image.open(BytesIO(data), formats=OPENED) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise BadPicture(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")
        orientation = _orientation(picture)
        if orientation > 4:
            width, height = height, width
        target = _shrunk(width, height, image_size)
        is_jpeg = picture.format in ("JPEG", "MPO")
        keep = picture.mode == "RGB" and orientation == 1 and target == (width, height)
        # A scaled decode (1/2, 1/4, 1/8) reads all the coded data, so it finds the same damage as a
        # full decode in less time. The pixels are not needed here, so 1/8 is enough.
        if is_jpeg and keep and is_plain_jpeg(data):
            picture.draft("L", (1, 1))
            picture.load()
            return Checked(data, width, height, width, height)
        if is_jpeg and target != (width, height):
            across, down = _turned(target, orientation)
            picture.draft(None, (2 * across, 2 * down))
        has_more_frames = not is_jpeg and _has_more_frames(picture)
        picture.load()
        rgb = _rgb(picture, data)
        converted = str(picture.format) if picture.format in CONVERTED else ""
    if orientation != 1:
        rgb = rgb.transpose(_TURNS[orientation])
    if rgb.size != target:
        # Antialiased, sharper than bilinear, and 2.5 times as fast as Lanczos.
        rgb = rgb.resize(target, Image.Resampling.HAMMING)
    out = BytesIO()
    rgb.save(out, "JPEG", quality=QUALITY)
    return Checked(out.getvalue(), *target, width, height, converted, has_more_frames)


def _has_more_frames(picture: Image.Image) -> bool:
    try:
        return bool(getattr(picture, "is_animated", False))
    except Exception:  # damage behind the first frame, which alone is used
        return True


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size[::-1] if orientation > 4 else size


def _shrunk(width: int, height: int, image_size: int | None) -> tuple[int, int]:
    """Return the size with the short side at most `image_size`, in the same proportions."""
    short = min(width, height)
    if image_size is None or short <= image_size:
        return width, height
    return max(1, round(width * image_size / short)), max(1, round(height * image_size / short))


def _orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; invalid values count as upright."""
    block = picture.info.get("exif")
    if not block:
        return 1
    exif = Image.Exif()
    try:
        exif.load(block)
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block does not make a picture unusable
        return 1
    return value if value in _TURNS else 1


def _rgb(picture: Image.Image, data: bytes) -> Image.Image:
    """Return the picture as 8-bit RGB, with transparency over white."""
    if picture.format == "PNG" and data[_BIT_DEPTH] == 16 and "transparency" in picture.info:
        return _transparent_16_bit(picture, data)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    if picture.format == "TIFF" and picture.mode in ("F", "I"):
        raise BadPicture("a TIFF of 32-bit numbers, whose value range is unknown")
    if picture.mode.startswith("I"):  # 16-bit grey: take the high byte, as PNG decoders do
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _transparent_16_bit(picture: Image.Image, data: bytes) -> Image.Image:
    """Return 8-bit RGB of a 16-bit PNG in which one grey value or colour is transparent (tRNS).

    Pillow compares only the high byte with that value. Here the low byte is compared too, so that
    only pixels with all 16 bits of the value are transparent.
    """
    values = picture.info["transparency"]
    if picture.mode == "RGB":
        with Image.open(BytesIO(data), formats=("PNG",)) as again:
            # The little-endian unpacker returns the low bytes of big-endian numbers.
            again.tile = [tile._replace(args="RGB;16L") for tile in again.tile]
            again.load()
            high, low = list(picture.split()), list(again.split())
    else:
        numbers, values = picture.tobytes("raw", "I;16B"), (values,)
        high = [Image.frombytes("L", picture.size, numbers[0::2])]
        low = [Image.frombytes("L", picture.size, numbers[1::2])]
    mask = Image.new("L", picture.size, 255)
    for value, first, second in zip(values, high, low, strict=True):
        for band, byte in ((first, value >> 8), (second, value & 255)):
            equal = [255 * (number == byte) for number in range(256)]
            mask = ImageChops.darker(mask, band.point(equal))
    rgb = Image.merge("RGB", high if len(high) == 3 else high * 3)
    rgb.paste("white", mask=mask)
    return rgb


def _is_heic(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"hevc", b"msf1")


def is_plain_jpeg(data: bytes) -> bool:
    """Return whether the data is a complete sequential Huffman-coded JPEG with a single scan.

    Decoders differ on other JPEGs: Pillow accepts a stray marker in the coded data and a missing
    end-of-image marker; TensorFlow refuses both.

    Raises:
        BadPicture: a stray marker in the coded data, or no end-of-image marker.
    """
    at, frame = 2, None
    while data[at : at + 1] == b"\xff":
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = marker
        at += 2 + length
        if marker == 0xDA:
            break
    end = _END_OF_SCAN.search(data, at)
    if end is None:
        raise BadPicture("damaged: the JPEG has no end-of-image marker")
    marker = data[end.start() + 1]
    if marker != _END_OF_IMAGE and marker not in _NEXT_SEGMENTS:
        raise BadPicture(f"damaged: marker FF{marker:02X} within the picture")
    return frame in (0xC0, 0xC1) and marker == _END_OF_IMAGE
