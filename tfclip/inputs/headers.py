"""Reads the EXIF orientation and the size of an encoded picture from its header, in the graph.

TensorFlow's decoders ignore the EXIF orientation; Pillow and every viewer apply it. The size is
read before decoding, so that a small file cannot unpack into all of the memory. Layouts are from
the specifications: JPEG (ITU T.81 annex B), PNG (W3C), WebP (RFC 9649), GIF89a, BMP
(BITMAPINFOHEADER), TIFF 6.0 section 2, EXIF 2.32 (4.6.4 A, tag 0x0112).
"""

import re

import numpy as np
import tensorflow as tf

_ORIENTATION_TAG = 0x0112
_SHORT, _LONG = 3, 4
_EXIF_PREFIX = b"Exif\0\0"
_LARGEST_EXIF = 2**16


def read_orientation(image_bytes: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation, () int32 in 1..8, of the encoded picture in () string.

    JPEG (first Exif APP1 segment), PNG (eXIf chunk) and WebP (EXIF chunk) are searched. A missing,
    damaged or out-of-range tag reads as 1 (upright); no input raises an error.
    """
    start = tf.where(
        is_jpeg(image_bytes),
        _after(image_bytes, _EXIF_PREFIX, 0),
        tf.where(
            is_png(image_bytes),
            _after(image_bytes, b"eXIf", 0),
            tf.where(
                is_webp(image_bytes),
                _after(image_bytes, b"EXIF", 4),  # The size of the chunk follows its name.
                tf.strings.length(image_bytes),
            ),
        ),
    )
    tiff = take_bytes(image_bytes, start, _LARGEST_EXIF)
    return tf.cond(tf.equal(tiff, b""), lambda: tf.constant(1), lambda: _orientation_of(tiff))


def count_jpeg_pixels(image_bytes: tf.Tensor) -> tf.Tensor:
    """Return height x width, () int64, of the JPEG in () string; damage is InvalidArgumentError."""
    return tf.reduce_prod(tf.image.extract_jpeg_shape(image_bytes, tf.int64)[:2])


def count_other_pixels(image_bytes: tf.Tensor) -> tf.Tensor:
    """Return height x width, () int64, that the header of the picture in () string declares.

    PNG, GIF (the screen or the first frame, whichever is larger), BMP and WebP (the canvas); 0 for
    anything else.
    """
    return tf.maximum(
        _count_in_header(image_bytes),
        tf.cond(
            is_gif(image_bytes),
            lambda: _count_in_gif_frame(image_bytes),
            lambda: tf.constant(0, tf.int64),
        ),
    )


def gif_frame(image_bytes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where the first frame of the GIF in () string begins and ends, both () int64.

    The frame begins at its image descriptor and ends after its last block; without a frame, both
    are the end of the data. A GIF is a chain of blocks, each with its own length, so that a frame
    is only found by following the chain.
    """
    data = tf.io.decode_raw(image_bytes, tf.uint8)
    total = tf.size(data, tf.int64)

    def at(place: tf.Tensor) -> tf.Tensor:
        """Return the byte at `place`; 0, which ends every chain, after the end of the data."""
        inside = data[tf.minimum(place, total - 1)]
        return tf.where(place < total, tf.cast(inside, tf.int64), 0)

    def behind_blocks(place: tf.Tensor) -> tf.Tensor:
        last = tf.while_loop(lambda p: at(p) > 0, lambda p: (p + 1 + at(p),), [place])[0]
        return tf.minimum(last + 1, total)

    start = tf.while_loop(
        lambda p: tf.equal(at(p), 0x21),  # An extension; the next byte is its kind.
        lambda p: (behind_blocks(p + 2),),
        [13 + gif_table_size(read_number(image_bytes, 10, 1))],
    )[0]
    start = tf.where(tf.equal(at(start), 0x2C), start, total)
    # Image descriptor, local colour table, LZW minimum code size, blocks of pixel data.
    return start, behind_blocks(start + 11 + gif_table_size(at(start + 9)))


def gif_table_size(flags: tf.Tensor) -> tf.Tensor:
    """Return the bytes of the colour table that the flags of a GIF or a frame declare: () int64."""
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2 * tf.ones_like(flags), flags % 8), 0)


def _count_in_gif_frame(image_bytes: tf.Tensor) -> tf.Tensor:
    start, _ = gif_frame(image_bytes)
    return read_number(image_bytes, start + 5, 2) * read_number(image_bytes, start + 7, 2)


def turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn and mirror `image` (H,W,C) as `orientation` () int32 in 1..8 asks; H and W may swap."""

    def turn() -> tf.Tensor:
        turned = tf.cond(orientation >= 5, lambda: _transposed(image), lambda: image)
        upside_down = tf.reduce_any(tf.equal(orientation, [3, 4, 7, 8]))
        mirrored = tf.reduce_any(tf.equal(orientation, [2, 3, 6, 7]))
        return tf.reverse(turned, tf.where(tf.stack([upside_down, mirrored]))[:, 0])

    return tf.cond(tf.equal(orientation, 1), lambda: image, turn)


def _transposed(image: tf.Tensor) -> tf.Tensor:
    """Swap height and width of a picture, (H,W,C) to (W,H,C).

    BatchToSpaceND with H rows as the batch is a transpose. `tf.transpose` of integers makes oneDNN
    write an error about AVX-512 to standard error, once in each process.
    """
    height, width, channels = tf.unstack(tf.shape(image))
    rows = tf.raw_ops.BatchToSpaceND(input=image, block_shape=[height], crops=[[0, 0]])
    return tf.reshape(rows, [width, height, channels])


def is_jpeg(image_bytes: tf.Tensor) -> tf.Tensor:
    """Say whether the bytes, () string, begin like a JPEG: () bool."""
    return _starts_with(image_bytes, b"\xff\xd8\xff")


def is_png(image_bytes: tf.Tensor) -> tf.Tensor:
    """Say whether the bytes, () string, begin like a PNG: () bool."""
    return _starts_with(image_bytes, b"\x89PNG\r\n\x1a\n")


def is_gif(image_bytes: tf.Tensor) -> tf.Tensor:
    """Say whether the bytes, () string, begin like a GIF: () bool."""
    return _starts_with(image_bytes, b"GIF8")


def is_bmp(image_bytes: tf.Tensor) -> tf.Tensor:
    """Say whether the bytes, () string, begin like a BMP: () bool."""
    return _starts_with(image_bytes, b"BM")


def is_webp(image_bytes: tf.Tensor) -> tf.Tensor:
    """Say whether the bytes, () string, begin like a WebP: () bool."""
    has_form = tf.equal(take_bytes(image_bytes, 8, 4), b"WEBP")
    return _starts_with(image_bytes, b"RIFF") & has_form


# Bytes [start, stop) of width and height, little endian; PNG is big endian, so stop comes first.
_SIDES = {
    "png": ((20, 16), (24, 20)),
    "gif": ((6, 8), (8, 10)),
    "bmp": ((18, 22), (22, 26)),
    "webp extended": ((24, 27), (27, 30)),
    "webp lossy": ((26, 28), (28, 30)),
    "webp lossless": ((21, 25), (21, 25)),
}


def _side_weights() -> np.ndarray:
    """Return the powers of 256, (32, 2 formats) int64, that turn 32 header bytes into all sides."""
    spans = [span for sides in _SIDES.values() for span in sides]
    weights = np.zeros([32, len(spans)], np.int64)
    for column, (start, stop) in enumerate(spans):
        places = range(start, stop) if start < stop else range(start - 1, stop - 1, -1)
        for power, place in enumerate(places):
            weights[place, column] = 256**power
    return weights


def _count_in_header(data: tf.Tensor) -> tf.Tensor:
    head = tf.strings.substr(tf.strings.join([take_bytes(data, 0, 32), b"\0" * 32]), 0, 32)
    head = tf.cast(tf.io.decode_raw(head, tf.uint8), tf.int64)
    sides = tf.reduce_sum(head[:, None] * _side_weights(), 0)
    png, gif, bmp, extended, lossy, lossless = tf.unstack(tf.reshape(sides, [-1, 2]))
    # BMP: a negative height means that rows run from top to bottom.
    bmp = tf.minimum(bmp, 2**32 - bmp)
    # Lossy WebP: two 14-bit numbers; lossless: both minus one, packed into 28 bits.
    lossy, lossless = lossy % 2**14, lossless // [1, 2**14] % 2**14 + 1
    kind = take_bytes(data, 12, 4)
    webp = tf.where(
        tf.equal(kind, b"VP8 "),
        lossy,
        tf.where(tf.equal(kind, b"VP8L"), lossless, extended + 1),
    )
    formats = [
        (is_png(data), png),
        (is_gif(data), gif),
        (is_bmp(data), bmp),
        (is_webp(data), webp),
    ]
    sides = tf.add_n([tf.cast(is_it, tf.int64) * sides for is_it, sides in formats])
    return tf.reduce_prod(tf.minimum(sides, 2**31 - 1))  # 2**32 by 2**32 would overflow int64.


def _after(data: tf.Tensor, name: bytes, skip: int) -> tf.Tensor:
    """Return the position `skip` bytes after the first `name`, or past the end: () int32.

    Searching all bytes once costs less than the many small ops of walking from chunk to chunk; a
    false match would also need a valid TIFF header after the name.
    """
    before = tf.strings.regex_replace(data, re.escape(name) + rb"\C*", b"", replace_global=False)
    return tf.strings.length(before) + len(name) + skip


def _orientation_of(tiff: tf.Tensor) -> tf.Tensor:
    """Read the tag from the first directory of a TIFF header, with or without the Exif prefix."""
    prefix = tf.where(_starts_with(tiff, _EXIF_PREFIX), len(_EXIF_PREFIX), 0)
    tiff = take_bytes(tiff, prefix, tf.strings.length(tiff))
    is_big = _starts_with(tiff, b"MM\0*")
    directory = read_number(tiff, 4, 4, is_big)
    entries = take_bytes(tiff, directory + 2, 12 * read_number(tiff, directory, 2, is_big))
    # In a truncated directory the entries before the cut are still read.
    whole = tf.strings.length(entries) // 12
    table = tf.io.decode_raw(tf.strings.substr(entries, 0, 12 * whole), tf.uint8)
    table = tf.reshape(tf.cast(table, tf.int32), [whole, 12])

    def column(byte):
        one, two = table[:, byte], table[:, byte + 1]
        return tf.where(is_big, 256 * one + two, 256 * two + one)

    # EXIF requires one SHORT; some programs write a LONG, whose low bytes are last in big endian.
    kind = column(2)
    is_one = tf.equal(tf.reduce_sum(table[:, 4:8], 1), 1)
    is_orientation = tf.equal(column(0), _ORIENTATION_TAG) & is_one
    is_orientation &= tf.equal(kind, _SHORT) | tf.equal(kind, _LONG)
    values = tf.where(is_big & tf.equal(kind, _LONG), column(10), column(8))
    value = tf.reduce_max(tf.concat([[0], tf.where(is_orientation, values, 0)], 0))
    is_tiff = is_big | _starts_with(tiff, b"II*\0")
    return tf.where(is_tiff & (value >= 1) & (value <= 8), value, 1)


def take_bytes(data: tf.Tensor, start: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    """Return up to `length` bytes of `data` from `start`; fewer where the data ends earlier."""
    start, length = tf.cast(start, tf.int64), tf.cast(length, tf.int64)
    total = tf.cast(tf.strings.length(data), tf.int64)
    return tf.strings.substr(data, tf.minimum(start, total), tf.minimum(length, total))


def read_number(
    data: tf.Tensor, start: tf.Tensor | int, width: int, is_big: tf.Tensor | bool = False
) -> tf.Tensor:
    """Read the unsigned number of `width` bytes at `start`, () int64; missing bytes count as 0."""
    padded = tf.strings.join([take_bytes(data, start, width), b"\0" * width])
    digits = tf.cast(tf.io.decode_raw(tf.strings.substr(padded, 0, width), tf.uint8), tf.int64)
    powers = [256**power for power in range(width)]
    # Reversed in Python: a constant of two numbers that is sliced backwards in the graph looks like
    # a shape to grappler, which then stops fusing convolutions in the whole graph.
    big, little = (tf.constant(each, tf.int64) for each in (powers[::-1], powers))
    return tf.reduce_sum(digits * tf.where(is_big, big, little))


def _starts_with(data: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(data, 0, len(magic)), magic)
