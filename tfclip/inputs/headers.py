"""What the header of an encoded picture says, read in the graph: which way up it is, and its size.

TensorFlow's decoders ignore the EXIF orientation; Pillow and every viewer apply it. The size is
read before decoding, so that a small file cannot unpack into all memory. Layouts are from the
specifications: JPEG (ITU T.81 annex B), PNG (W3C), WebP (RFC 9649), GIF89a, BMP (BITMAPINFOHEADER),
TIFF 6.0 section 2, EXIF 2.32 (4.6.4 A, tag 0x0112).
"""

import tensorflow as tf

_ORIENTATION_TAG = 0x0112
_SHORT = 3
_EXIF_PREFIX = b"Exif\0\0"
_MOST_SEGMENTS = 1000


def read_orientation(image_bytes: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation, () int32 in 1..8, of the encoded picture in () string.

    JPEG (first Exif APP1 segment), PNG (eXIf chunk) and WebP (EXIF chunk) are searched. Anything
    absent, damaged or out of range reads as 1, upright; no input raises.
    """
    tiff = tf.case(
        [
            (is_jpeg(image_bytes), lambda: _find_in_jpeg(image_bytes)),
            (_is_png(image_bytes), lambda: _find_chunk(image_bytes, 8, b"eXIf", png=True)),
            (_is_webp(image_bytes), lambda: _find_chunk(image_bytes, 12, b"EXIF", png=False)),
        ],
        default=lambda: tf.constant(b""),
    )
    return tf.cond(tf.equal(tiff, b""), lambda: tf.constant(1), lambda: _orientation_of(tiff))


def count_pixels(image_bytes: tf.Tensor) -> tf.Tensor:
    """Return height x width, () int64, that the header of the picture in () string declares.

    JPEG, PNG, GIF (the screen), BMP and WebP (the canvas); 0 for anything else. A damaged JPEG
    header raises InvalidArgumentError.
    """

    def number(start, width, is_big=False):
        return _number(image_bytes, start, width, is_big)

    def jpeg():
        return tf.reduce_prod(tf.image.extract_jpeg_shape(image_bytes, tf.int64)[:2])

    def bmp():  # A negative height means that the first row is the top one.
        height = number(22, 4)
        return number(18, 4) * tf.minimum(height, 2**32 - height)

    def webp():  # Lossy, lossless (two numbers of 14 bits) or extended (less one).
        lossless = number(21, 4)
        return tf.case(
            [
                (
                    tf.equal(_take(image_bytes, 12, 4), b"VP8 "),
                    lambda: (number(26, 2) % 2**14) * (number(28, 2) % 2**14),
                ),
                (
                    tf.equal(_take(image_bytes, 12, 4), b"VP8L"),
                    lambda: (lossless % 2**14 + 1) * (lossless // 2**14 % 2**14 + 1),
                ),
            ],
            default=lambda: (number(24, 3) + 1) * (number(27, 3) + 1),
        )

    return tf.case(
        [
            (is_jpeg(image_bytes), jpeg),
            (_is_png(image_bytes), lambda: number(16, 4, True) * number(20, 4, True)),
            (_starts_with(image_bytes, b"GIF"), lambda: number(6, 2) * number(8, 2)),
            (_starts_with(image_bytes, b"BM"), bmp),
            (_is_webp(image_bytes), webp),
        ],
        default=lambda: tf.constant(0, tf.int64),
    )


def turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn and mirror `image` (H,W,C) as `orientation` () int32 in 1..8 asks; H and W may swap."""

    def turn() -> tf.Tensor:
        turned = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        upside_down = tf.reduce_any(tf.equal(orientation, [3, 4, 7, 8]))
        mirrored = tf.reduce_any(tf.equal(orientation, [2, 3, 6, 7]))
        return tf.reverse(turned, tf.where(tf.stack([upside_down, mirrored]))[:, 0])

    return tf.cond(tf.equal(orientation, 1), lambda: image, turn)


def is_jpeg(image_bytes: tf.Tensor) -> tf.Tensor:
    """Say whether the bytes, () string, begin like a JPEG: () bool."""
    return _starts_with(image_bytes, b"\xff\xd8\xff")


def _is_png(data: tf.Tensor) -> tf.Tensor:
    return _starts_with(data, b"\x89PNG\r\n\x1a\n")


def _is_webp(data: tf.Tensor) -> tf.Tensor:
    return _starts_with(data, b"RIFF") & tf.equal(_take(data, 8, 4), b"WEBP")


def _find_in_jpeg(data: tf.Tensor) -> tf.Tensor:
    """Walk the segments from the one after SOI; the payload of the Exif one, or an empty string."""

    def is_exif(start):
        return tf.logical_and(
            tf.equal(_take(data, start, 2), b"\xff\xe1"),
            tf.equal(_take(data, start + 4, 6), _EXIF_PREFIX),
        )

    def goes_on(start):
        marker = _number(data, start, 2, True)
        ends = tf.reduce_any(tf.equal(marker, [0xFFDA, 0xFFD9])) | (marker < 0xFFC0)
        return ~(ends | is_exif(start))

    def step(start):
        length = 2 + _number(data, start + 2, 2, True)
        is_fill_byte = tf.equal(_number(data, start, 2, True), 0xFFFF)
        return [start + tf.where(is_fill_byte, tf.ones_like(length), length)]

    start = _walk(goes_on, step, 2)
    payload = _take(data, start + 4, _number(data, start + 2, 2, True) - 2)
    return tf.cond(is_exif(start), lambda: payload, lambda: tf.constant(b""))


def _find_chunk(data: tf.Tensor, first: int, wanted: bytes, *, png: bool) -> tf.Tensor:
    """Walk PNG chunks (size, name, payload, CRC) or RIFF chunks (name, size, payload, padding)."""

    def read_name(start):
        return _take(data, start + 4 if png else start, 4)

    def read_size(start):
        return _number(data, start if png else start + 4, 4, png)

    def goes_on(start):
        name = read_name(start)
        return tf.not_equal(name, wanted) & tf.equal(tf.strings.length(name), 4)

    def step(start):
        size = read_size(start)
        return [start + size + (12 if png else 8 + size % 2)]

    start = _walk(goes_on, step, first)
    return _take(data, start + 8, read_size(start))


def _walk(goes_on, step, first: int) -> tf.Tensor:
    """Follow `step` from byte `first`: () int64. The bound keeps a hostile file from looping."""
    start = tf.constant(first, tf.int64)
    return tf.while_loop(goes_on, step, [start], maximum_iterations=_MOST_SEGMENTS)[0]


def _orientation_of(tiff: tf.Tensor) -> tf.Tensor:
    """Read the tag from the first directory of a TIFF header, with or without the Exif prefix."""
    prefix = tf.where(_starts_with(tiff, _EXIF_PREFIX), len(_EXIF_PREFIX), 0)
    tiff = _take(tiff, prefix, tf.strings.length(tiff))
    is_big = _starts_with(tiff, b"MM\0*")
    directory = _number(tiff, 4, 4, is_big)
    entries = _take(tiff, directory + 2, 12 * _number(tiff, directory, 2, is_big))
    # A directory that is cut short still has the entries before the cut.
    whole = tf.strings.length(entries) // 12
    table = tf.io.decode_raw(tf.strings.substr(entries, 0, 12 * whole), tf.uint8)
    table = tf.reshape(tf.cast(table, tf.int32), [whole, 12])

    def column(byte):
        one, two = table[:, byte], table[:, byte + 1]
        return tf.where(is_big, 256 * one + two, 256 * two + one)

    found = tf.equal(column(0), _ORIENTATION_TAG) & tf.equal(column(2), _SHORT)
    value = tf.reduce_max(tf.concat([[0], tf.where(found, column(8), 0)], 0))
    is_tiff = is_big | _starts_with(tiff, b"II*\0")
    return tf.where(is_tiff & (value >= 1) & (value <= 8), value, 1)


def _take(data: tf.Tensor, start: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    """Up to `length` bytes from `start`; fewer, or none, where the data ends."""
    start, length = tf.cast(start, tf.int64), tf.cast(length, tf.int64)
    total = tf.cast(tf.strings.length(data), tf.int64)
    return tf.strings.substr(data, tf.minimum(start, total), tf.clip_by_value(length, 0, total))


def _starts_with(data: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.equal(_take(data, 0, len(magic)), magic)


def _number(data: tf.Tensor, start: tf.Tensor | int, width: int, is_big) -> tf.Tensor:
    """Read the unsigned number of `width` bytes at `start`, () int64; missing bytes count as 0."""
    padded = tf.strings.join([_take(data, start, width), b"\0" * width])
    digits = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, width), tf.uint8), tf.int64)
    powers = tf.constant([256**power for power in range(width)], tf.int64)
    return tf.reduce_sum(digits * tf.where(is_big, powers[::-1], powers))
