"""Decodes PNG, GIF, BMP and WebP to RGB as Pillow does: over white, with palettes applied.

TensorFlow's decoders do not: for three channels they drop the alpha channel, show the hidden
colour of a GIF's transparent index, and ignore the palette of a BMP.
"""

import tensorflow as tf

from tfclip.inputs.headers import (
    gif_frame,
    gif_table_size,
    is_bmp,
    is_gif,
    is_png,
    is_webp,
    read_number,
    take_bytes,
)

_BMP_RGB, _BMP_BITFIELDS = 0, 3
_MOST_BYTES = 2**31 - 1
# Bits of the flags of an extended WebP (RFC 9649, section 2.7).
_WEBP_ANIMATION, _WEBP_ALPHA = 2, 16
# Larger pictures with alpha are composited over white in strips of this size.
_STRIP_BYTES = 8_000_000
_BYTES = [bytes([value]) for value in range(256)]


def decode_other_format(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decode a PNG, GIF, BMP or WebP, () string, to (H,W,3) uint8; of an animation the first frame.

    Any other bytes, and BMPs that are compressed or have fewer than 8 bits a pixel, raise
    InvalidArgumentError.
    """
    return tf.case(
        [
            (is_png(image_bytes), lambda: _decode_png(image_bytes)),
            (is_gif(image_bytes), lambda: _decode_gif(image_bytes)),
            (is_bmp(image_bytes), lambda: _decode_bmp(image_bytes)),
        ],
        default=lambda: _decode_webp(image_bytes),
    )


def _decode_png(data: tf.Tensor) -> tf.Tensor:
    # A single transparent colour (tRNS) is only read with channels=4; in files without one, that
    # garbles palettes and grey of fewer than 8 bits.
    header = tf.strings.regex_replace(data, rb"IDAT\C*", b"", replace_global=False)
    has_transparent_color = tf.strings.regex_full_match(header, rb"\C*tRNS\C*")
    image = tf.cond(
        has_transparent_color,
        lambda: tf.io.decode_png(data, channels=4),
        lambda: tf.io.decode_png(data),
    )
    return _to_rgb(image)


def _decode_webp(data: tf.Tensor) -> tf.Tensor:
    # TensorFlow would also decode JPEG XL, whose size was not checked: an empty string fails.
    data = tf.where(is_webp(data), data, b"")
    flags = read_number(data, 20, 1)
    is_extended = tf.equal(take_bytes(data, 12, 4), b"VP8X")
    is_animated = is_extended & tf.equal(flags // _WEBP_ANIMATION % 2, 1)
    # TensorFlow decodes an animation as four channels into a buffer for three, and writes past its
    # end, unless the header declares alpha.
    has_alpha = tf.equal(flags // _WEBP_ALPHA % 2, 1)
    marked = tf.gather(_BYTES, tf.where(has_alpha, flags, flags + _WEBP_ALPHA) % 256)
    data = tf.cond(
        is_animated,
        lambda: tf.strings.join(
            [take_bytes(data, 0, 20), marked, take_bytes(data, 21, _MOST_BYTES)]
        ),
        lambda: data,
    )
    return _to_rgb(tf.io.decode_image(data, expand_animations=False))


def _to_rgb(image: tf.Tensor) -> tf.Tensor:
    """Composite grey or RGB, with or without alpha, (H,W,1..4) uint8, over white: (H,W,3) uint8."""
    image = tf.ensure_shape(image, [None, None, None])
    has_alpha = tf.equal(tf.shape(image)[2] % 2, 0)
    is_large = tf.size(image) > _STRIP_BYTES
    color = tf.cond(
        has_alpha,
        lambda: tf.cond(is_large, lambda: _strips_over_white(image), lambda: _over_white(image)),
        lambda: image,
    )
    return tf.broadcast_to(color, tf.concat([tf.shape(image)[:2], [3]], 0))


def _over_white(image: tf.Tensor) -> tf.Tensor:
    """Composite over white. No sum exceeds 255 * 255 + 127, which fits into uint16."""
    color, alpha = tf.cast(image[..., :-1], tf.uint16), tf.cast(image[..., -1:], tf.uint16)
    return tf.cast((color * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _strips_over_white(image: tf.Tensor) -> tf.Tensor:
    """Apply `_over_white` to a few rows at a time, so that intermediate tensors stay small."""
    height = tf.shape(image)[0]
    rows = tf.maximum(_STRIP_BYTES // (tf.size(image) // height), 1)
    count = (height + rows - 1) // rows
    _, strips = tf.while_loop(
        lambda place, _: place < count,
        lambda place, done: (
            place + 1,
            done.write(place, _over_white(image[place * rows : (place + 1) * rows])),
        ),
        (0, tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=[None, None, None])),
        parallel_iterations=1,
    )
    return strips.concat()


def _decode_gif(data: tf.Tensor) -> tf.Tensor:
    """Decode with the transparent entry of the colour table made white and opaque.

    The decoder unpacks every frame before it takes the first, so the file is cut after that one.

    GIF89a: the graphic control extension (0x21 0xF9 0x04, flags, delay, index, 0) stands before
    the image descriptor (0x2C, place, size, flags), either with a table of its own or without.
    """
    _, end = gif_frame(data)
    data = tf.strings.join([take_bytes(data, 0, end), b";"])
    flags = read_number(data, 10, 1)
    extensions = 13 + gif_table_size(flags)
    parts = tf.strings.split(
        take_bytes(data, extensions, _MOST_BYTES), sep=b"\x21\xf9\x04", maxsplit=1
    )
    control = extensions + tf.cast(tf.strings.length(parts[0]), tf.int64) + 3
    descriptor_flags = read_number(data, control + 14, 1)
    has_own_table = tf.equal(read_number(data, control + 5, 1), 0x2C) & (descriptor_flags >= 128)
    table = tf.where(has_own_table, control + 15, 13)
    entry = table + 3 * read_number(data, control + 3, 1)
    is_transparent = tf.equal(tf.size(parts), 2) & tf.equal(read_number(data, control, 1) % 2, 1)

    def whiten() -> tf.Tensor:
        with_entry = _overwrite(data, entry, b"\xff\xff\xff")
        return _overwrite(with_entry, control, b"\0")

    return tf.io.decode_image(
        tf.cond(is_transparent, whiten, lambda: data), channels=3, expand_animations=False
    )


def _overwrite(data: tf.Tensor, start: tf.Tensor, new: bytes) -> tf.Tensor:
    rest = take_bytes(data, start + len(new), _MOST_BYTES)
    return tf.strings.join([take_bytes(data, 0, start), new, rest])


def _decode_bmp(data: tf.Tensor) -> tf.Tensor:
    # Compressed pixels would be read as uncompressed ones; an empty string fails instead.
    compression = read_number(data, 30, 4)
    is_plain = tf.equal(compression, _BMP_RGB) | tf.equal(compression, _BMP_BITFIELDS)
    image = tf.io.decode_bmp(tf.where(is_plain, data, b""))

    def apply_palette() -> tf.Tensor:
        first = 14 + read_number(data, 14, 4)
        entries = tf.strings.join([take_bytes(data, first, 1024), b"\0" * 1024])
        palette = tf.io.decode_raw(tf.strings.substr(entries, 0, 1024), tf.uint8)
        blue_green_red = tf.gather(tf.reshape(palette, [256, 4]), tf.cast(image[..., 0], tf.int32))
        return blue_green_red[..., 2::-1]

    # The fourth byte of a pixel is padding.
    return tf.cond(tf.equal(tf.shape(image)[2], 1), apply_palette, lambda: image[..., :3])
