"""Perceptual hashes: 64- and 256-bit DCT hashes and a 4 x 4 chroma grid, in 81 bytes.

They identify equal files and near-duplicates (recompressed, resized or brightened copies). Other
near-duplicates may be missed. After pHash (Zauner 2010, Implementation and benchmarking of
perceptual image hash functions).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tfclip.records.check import MAX_BYTES, MAX_PIXELS, OPENED

FINGERPRINT = np.dtype(
    [("level", "u1"), ("exact", "<u8"), ("coarse", "<u8"), ("fine", "<u8", 4), ("color", "u1", 32)]
)
"""The hashes of one picture.

`level`: 2; 1 if the picture is too uniform for perceptual hashes, so that only `exact` is set; 0 if
it could not be read.
`exact`: the BLAKE2b digest of the bytes of the file.
`coarse`, `fine`: one bit for each of the 8 x 8 and 16 x 16 lowest DCT frequencies of the
brightness, 1 where it is above their median (and, in `fine`, above the noise of JPEG compression).
`color`: the mean Cb and Cr of a 4 x 4 grid."""
EXACT, ALIKE = 1, 2
"""How a picture repeats another one: the same bytes, or a near-duplicate by perceptual hash."""

# Largest distances of near-duplicates. No two of 6.5 million pairs of different photographs (3,000
# of Flickr8k, 2,000 of CIFAR-10) were within FINE_BITS; all copies with JPEG quality 40, half the
# size or 15 % more brightness were.
COARSE_BITS, FINE_BITS, COLOR_STEPS = 8, 32, 16

_SIDE = 32
_WAVES = np.cos(np.pi * np.outer(np.arange(16), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE))
_LEAST_SPREAD = 6.0  # standard deviation of 0..255; below it the frequencies are noise
_LEAST_WAVE = 50.0
_AT_ONCE = 64
_BLOCK = 1024
_BANDS = np.array_split(np.arange(64), COARSE_BITS + 1)


def fingerprint(image: Path | bytes) -> np.ndarray:
    """Return the hashes of a picture, a () array of `FINGERPRINT`; `level` 0 for an unreadable
    file."""
    hashes = np.zeros((), FINGERPRINT)
    try:
        data = image if isinstance(image, bytes) else _content(image)
        brightness, color = _thumbnail(data)
    # Decoders of untrusted bytes raise many types of errors; packing reports them.
    except Exception:
        return hashes
    hashes["level"] = 1
    hashes["exact"] = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    if brightness.std() >= _LEAST_SPREAD:
        waves = _WAVES @ brightness @ _WAVES.T
        hashes["level"] = 2
        hashes["coarse"] = _bits(waves[:8, :8])[0]
        hashes["fine"] = _bits(waves, _LEAST_WAVE)
        hashes["color"] = color
    return hashes


def _content(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("too large")
    return path.read_bytes()


def _thumbnail(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the brightness, (32, 32) float64, and Cb and Cr of the 4 x 4 grid, (32,) uint8."""
    with Image.open(BytesIO(data), formats=OPENED) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError("too large")
        picture.draft("YCbCr", (4 * _SIDE, 4 * _SIDE))  # decodes a JPEG at a lower resolution
        small: Image.Image = picture if picture.mode in ("RGB", "YCbCr") else picture.convert("RGB")
        exif = picture.getexif()
        small = small.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    if exif:
        small.getexif().update(exif)
        small = ImageOps.exif_transpose(small)
    luma, blue, red = small.convert("YCbCr").split()
    fields = [np.asarray(one.resize((4, 4), Image.Resampling.BOX)).ravel() for one in (blue, red)]
    return np.asarray(luma, np.float64), np.concatenate(fields)


def _bits(waves: np.ndarray, least: float = -np.inf) -> np.ndarray:
    """Return one bit for each frequency, packed into uint64 numbers."""
    values = waves.ravel().copy()
    values[0] = 0.0  # the mean brightness
    return np.packbits(values > max(np.median(values), least)).view("<u8")


def fingerprints(
    pictures: Iterable[Any], picture_of: Callable[[Any], Path | bytes | None], threads: int
) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield every item with the hashes of its picture, in order.

    Args:
        pictures: the items; read lazily.
        picture_of: returns the picture of an item, or None for an item without one.
        threads: the number of threads that decode and hash.
    """
    iterator = iter(pictures)
    nothing = np.zeros((), FINGERPRINT)

    def of(item: Any) -> np.ndarray:
        picture = picture_of(item)
        return nothing if picture is None else fingerprint(picture)

    with ThreadPoolExecutor(threads) as pool:
        while chunk := list(islice(iterator, _AT_ONCE)):
            yield from zip(chunk, pool.map(of, chunk), strict=True)


def first_alike(prints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find for each of N pictures the first earlier one that it repeats.

    Args:
        prints: (N,) `FINGERPRINT`.

    Returns:
        The position of that picture, (N,) int64, -1 for none; and how it is repeated, (N,) uint8:
        `EXACT`, `ALIKE` or 0. Takes a few numbers of memory per picture, and blocks of `_BLOCK`.

    >>> prints = np.zeros(3, FINGERPRINT)
    >>> prints["level"], prints["exact"] = 1, (5, 6, 5)
    >>> [array.tolist() for array in first_alike(prints)]
    [[-1, -1, 0], [0, 0, 1]]
    """
    first = np.full(len(prints), -1, np.int64)
    how = np.zeros(len(prints), np.uint8)
    _note_equal(prints["exact"], np.flatnonzero(prints["level"]), first, how, EXACT)
    hashed = np.flatnonzero((prints["level"] == 2) & (first < 0))
    # Equal hashes are found by sorting, without comparing pairs.
    whole = np.ascontiguousarray(prints[hashed][["coarse", "fine", "color"]])
    packed = np.frombuffer(whole.tobytes(), f"V{whole.dtype.itemsize}")
    if len(hashed):
        _, number = np.unique(packed, return_inverse=True)
        equal = np.zeros(len(prints), np.int64)
        equal[hashed] = number
        _note_equal(equal, hashed, first, how, ALIKE)
    hashed = hashed[first[hashed] < 0]
    # Two hashes that differ in at most COARSE_BITS bits agree in one of COARSE_BITS + 1 bands.
    for band in _BANDS:
        mask = np.uint64(sum(1 << int(bit) for bit in band))
        _note_near(prints, hashed, prints["coarse"][hashed] & mask, first, how)
    return first, how


def _note_equal(
    values: np.ndarray, among: np.ndarray, first: np.ndarray, how: np.ndarray, kind: int
) -> None:
    order = among[np.argsort(values[among], kind="stable")]
    begins = np.ones(len(order), bool)
    begins[1:] = values[order][1:] != values[order][:-1]
    heads = order[np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))]
    first[order[~begins]], how[order[~begins]] = heads[~begins], kind


def _note_near(
    prints: np.ndarray, hashed: np.ndarray, keys: np.ndarray, first: np.ndarray, how: np.ndarray
) -> None:
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order])) + 1
    for start, end in zip([0, *edges], [*edges, len(order)], strict=True):
        bucket = hashed[order[start:end]]  # ascending: the sort is stable
        for low in range(0, len(bucket), _BLOCK):
            later = bucket[low : low + _BLOCK]
            for earlier_low in range(0, low + _BLOCK, _BLOCK):
                _note_block(prints, bucket[earlier_low : earlier_low + _BLOCK], later, first, how)


def _note_block(
    prints: np.ndarray, earlier: np.ndarray, later: np.ndarray, first: np.ndarray, how: np.ndarray
) -> None:
    coarse = prints["coarse"]
    near = np.bitwise_count(coarse[earlier][:, None] ^ coarse[later][None]) <= COARSE_BITS
    near &= earlier[:, None] < later[None]
    one, two = (where[at] for where, at in zip((earlier, later), np.nonzero(near), strict=True))
    fine = np.bitwise_count(prints["fine"][one] ^ prints["fine"][two]).sum(1) <= FINE_BITS
    color = np.abs(prints["color"][one].astype(int) - prints["color"][two]).max(1, initial=0)
    for at, other in zip(*(x[fine & (color <= COLOR_STEPS)] for x in (two, one)), strict=True):
        if first[at] < 0 or other < first[at]:
            first[at], how[at] = other, ALIKE
