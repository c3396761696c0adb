"""Pictures and texts that nobody should send: damaged, huge, empty, of no format or language."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

MAGICS = (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\xff\xff\0\0WEBPVP8 ")
# One in a hundred takes a megabyte of text or fifty million pixels.
RARE = 0.01


def encoded_pictures(rng: np.random.Generator) -> list[bytes]:
    """Good pictures of every format, to be damaged."""

    def encode(kind: str, mode: str = "RGB", **options) -> bytes:
        size = tuple(int(side) for side in rng.integers(8, 120, 2))
        pixels = rng.integers(0, 256, (6, 6, 4), np.uint8)
        picture = Image.fromarray(pixels).resize(size).convert(mode)
        if options.pop("animated", False):
            options |= {"save_all": True, "append_images": [picture.rotate(90), picture.rotate(45)]}
        file = io.BytesIO()
        picture.save(file, kind, **options)
        return file.getvalue()

    turned = Image.Exif()
    turned[0x0112] = 7
    return [
        encode("JPEG"),
        encode("JPEG", progressive=True, exif=turned),
        encode("JPEG", "L"),
        encode("JPEG", "CMYK"),
        encode("PNG"),
        encode("PNG", "RGBA"),
        encode("PNG", "P"),
        encode("PNG", "1"),
        encode("GIF", "P"),
        encode("GIF", "P", animated=True, transparency=0),
        encode("BMP"),
        encode("BMP", "P"),
        encode("WEBP", "RGBA"),
        encode("WEBP", lossless=True),
        encode("WEBP", animated=True),
    ]


def png(width: int, height: int, rows: int) -> bytes:
    """A grey PNG that declares `height` rows and holds `rows`, all black."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 1) * rows), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def largest_picture() -> bytes:
    """49 million pixels in 50 kB: within the limit, so that they are decoded."""
    return png(7_000, 7_000, 7_000)


def bombs() -> list[bytes]:
    """Small files that ask for much: declared sizes without pixels, and pixels within the limit."""
    gif = bytearray(encoded_pictures(np.random.default_rng(0))[9])
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    frame = bytearray(encoded_pictures(np.random.default_rng(0))[8])
    place = frame.index(b"\x2c", 13 + 3 * 2 ** ((frame[10] & 7) + 1))
    frame[place + 5 : place + 9] = struct.pack("<HH", 65_535, 65_535)
    return [
        png(60_000, 60_000, 10),
        png(2**31 - 1, 2**31 - 1, 0),
        largest_picture(),
        bytes(gif),
        bytes(frame),
        b"BM" + bytes(12) + struct.pack("<IiiHHII", 40, 65_000, -65_000, 1, 24, 0, 0) + bytes(24),
        b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\xff" * 10,
    ]


def pictures(seed: int) -> Iterator[bytes]:
    """Endless: good, truncated, flipped, spliced, random, with a magic number, bombs, empty."""
    rng = np.random.default_rng(seed)
    good, bomb = encoded_pictures(rng), bombs()

    def one() -> bytes:
        return good[rng.integers(len(good))]

    def flipped() -> bytes:
        data = bytearray(one())
        for place in rng.integers(0, len(data), rng.integers(1, 20)):
            data[place] ^= 1 << rng.integers(8)
        return bytes(data)

    def truncated() -> bytes:
        data = one()
        return data[: rng.integers(len(data))]

    def spliced() -> bytes:
        head, tail = one(), one()
        return head[: rng.integers(len(head))] + tail[rng.integers(len(tail)) :]

    kinds = (
        one,
        truncated,
        truncated,
        flipped,
        flipped,
        spliced,
        lambda: rng.bytes(rng.integers(1, 2000)),
        lambda: MAGICS[rng.integers(len(MAGICS))] + rng.bytes(rng.integers(0, 500)),
        lambda: b"\0" * rng.integers(0, 50),
    )
    while True:
        is_rare = rng.random() < RARE
        yield bomb[rng.integers(len(bomb))] if is_rare else kinds[rng.integers(len(kinds))]()


def texts(seed: int) -> Iterator[bytes]:
    """Endless: any code points, bytes that are not UTF-8, NUL, marks without letters, megabytes."""
    rng = np.random.default_rng(seed)

    def any_text() -> bytes:
        points = rng.integers(0, 0x110000, rng.integers(0, 80))
        return "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000).encode()

    words = (b"a photo of a dog.", "Größe ½ … 狗 ﷺ".encode(), b"[CLS] [SEP]", b"<|endoftext|>")
    kinds = (
        any_text,
        any_text,
        lambda: rng.bytes(rng.integers(0, 300)),
        lambda: b"dog\0cat" * rng.integers(1, 20),
        lambda: "e\u0301\u0300\u20e3".encode() * rng.integers(1, 200),
        lambda: b"x" * rng.integers(1, 5000),
        lambda: words[rng.integers(len(words))] * rng.integers(0, 30),
        lambda: b" \t\r\n\xc2\xa0" * rng.integers(0, 100),
    )
    long = (
        b"a" * 2**20,
        b"dog " * 2**18,
        rng.bytes(2**20),
        "\u0301".encode() * 2**19,
        b"!" * 2**20,
    )
    while True:
        is_rare = rng.random() < RARE
        yield long[rng.integers(len(long))] if is_rare else kinds[rng.integers(len(kinds))]()
