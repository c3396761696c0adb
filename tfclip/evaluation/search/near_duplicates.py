"""Groups of near-duplicates in an index: near by their embeddings, and confirmed by their pixels.

How near, is learnt from the index itself: copies of some of its pictures are recompressed, halved
in size and brightened, and nearly all of them are nearer to their original than the limit. Other
pictures of the same kind of scene are as near; the perceptual hash tells them from copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import BytesIO

import numpy as np
from PIL import Image, ImageEnhance

from tfclip.console import progress
from tfclip.records.fingerprint import fingerprint, first_alike

COPIED = 100
"""The number of pictures that copies are made of."""
FOUND = 0.95
"""The fraction of copies that the limit finds."""
_CHUNK = 2048


def altered(jpeg: bytes) -> list[bytes]:
    """Return copies of a picture: JPEG quality 40, half the size, and 15 % brighter."""
    with Image.open(BytesIO(jpeg)) as opened:
        picture = opened.convert("RGB")
    half = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)))
    brighter = ImageEnhance.Brightness(picture).enhance(1.15)
    return [_jpeg(picture, 40), _jpeg(half, 90), _jpeg(brighter, 90)]


def limit_of(cosines: np.ndarray) -> float:
    """Return the limit from the cosines of copies with their originals.

    >>> limit_of(np.array([0.9, 0.99, 0.98, 1.0]))
    0.912
    """
    return round(float(np.quantile(cosines, 1 - FOUND)), 4)


def near_pairs(embeddings: np.ndarray, limit: float) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows (i < j) of (N,D) whose cosine is at least `limit`.

    All pairs are compared, which takes a time that grows with the square of N.
    """
    starts = range(0, len(embeddings), _CHUNK)
    for start in progress(starts, total=len(starts), what="comparing pictures"):
        rows = np.asarray(embeddings[start : start + _CHUNK])
        for other in range(start, len(embeddings), _CHUNK):
            near = rows @ embeddings[other : other + _CHUNK].T >= limit
            for one, two in zip(*np.nonzero(near), strict=True):
                if start + one < other + two:
                    yield start + int(one), other + int(two)


def confirmed_pairs(
    pairs: Iterable[tuple[int, int]], jpeg_of: Callable[[int], bytes | None]
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of pictures that are the same or alike by perceptual hash.

    Args:
        pairs: rows.
        jpeg_of: from a row to its picture, or None where it cannot be read.
    """
    prints: dict[int, np.ndarray] = {}
    for pair in pairs:
        for row in pair:
            if row not in prints:
                prints[row] = fingerprint(jpeg_of(row) or b"")
        first, _ = first_alike(np.stack([prints[row] for row in pair]))
        if first[1] == 0:
            yield pair


def groups_of(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the groups that pairs connect, each in order, the largest first.

    >>> groups_of([(1, 2), (5, 9), (2, 4)])
    [[1, 2, 4], [5, 9]]
    """
    leader: dict[int, int] = {}

    def find(row: int) -> int:
        while leader.setdefault(row, row) != row:
            leader[row] = leader[leader[row]]
            row = leader[row]
        return row

    for one, two in pairs:
        first, second = sorted((find(one), find(two)))
        leader[second] = first
    groups: dict[int, list[int]] = {}
    for row in sorted(leader):
        groups.setdefault(find(row), []).append(row)
    return sorted(groups.values(), key=lambda group: (-len(group), group))


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()
