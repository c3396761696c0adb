"""Copies of a picture are found whatever was done to them, and other pictures are not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from tfclip.records.fingerprint import ALIKE, EXACT, FINGERPRINT, fingerprint, first_alike


def encoded(picture, kind="JPEG", **options) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def scene(seed: int) -> Image.Image:
    """Some coloured ellipses on a shaded ground."""
    rng = np.random.default_rng(seed)
    corners = Image.fromarray(rng.integers(60, 220, (3, 4, 3), np.uint8))
    picture = corners.resize((300, 200), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y, w, h = rng.integers(0, 200, 4).tolist()
        draw.ellipse(
            (x, y, x + w // 2 + 5, y + h // 2 + 5), tuple(rng.integers(0, 256, 3).tolist())
        )
    return picture


def turned(picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    return encoded(picture.transpose(Image.Transpose.ROTATE_90), exif=exif, quality=95)


CHANGES = {
    "recompressed": lambda p: encoded(p, quality=40),
    "halved": lambda p: encoded(p.resize((150, 100), Image.Resampling.LANCZOS), quality=80),
    "enlarged": lambda p: encoded(p.resize((660, 440)), "WEBP"),
    "squashed": lambda p: encoded(p.resize((224, 224)), "PNG"),
    "brighter": lambda p: encoded(ImageEnhance.Brightness(p).enhance(1.1), quality=90),
    "turned": turned,
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_altered_copy_is_alike(change):
    prints = [fingerprint(encoded(scene(seed), quality=95)) for seed in range(8)]
    prints += [fingerprint(CHANGES[change](scene(seed))) for seed in range(8)]
    first, how = first_alike(np.array(prints))
    assert first.tolist() == [-1] * 8 + list(range(8))
    assert how.tolist() == [0] * 8 + [ALIKE] * 8


def test_other_pictures_are_not_alike():
    same_place = [Image.new("RGB", (64, 64), "white") for _ in range(3)]
    for picture, color in zip(same_place, ["red", "green", "blue"], strict=True):
        ImageDraw.Draw(picture).ellipse((16, 16, 48, 48), color)
    mirrored = scene(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    plain = [Image.new("RGB", (40, 40), color) for color in ("red", "blue", "navy")]
    pictures = [scene(0), mirrored, *same_place, *plain, *(scene(seed) for seed in range(1, 40))]
    prints = np.array([fingerprint(encoded(p, quality=95)) for p in pictures])
    assert first_alike(prints)[0].tolist() == [-1] * len(pictures)
    assert prints["level"].tolist() == [2] * 5 + [1] * 3 + [2] * 39


def test_equal_files_are_exact_also_when_plain_and_unreadable_ones_are_nothing(tmp_path):
    plain, one = encoded(Image.new("RGB", (9, 9))), encoded(scene(0))
    (tmp_path / "one.jpg").write_bytes(one)
    files = [plain, b"", one, plain, tmp_path / "one.jpg", b"", tmp_path / "none", one[:300]]
    prints = np.array([fingerprint(file) for file in files])
    first, how = first_alike(prints)
    assert first.tolist() == [-1, -1, -1, 0, 2, -1, -1, -1]
    assert how.tolist() == [0, 0, 0, EXACT, EXACT, 0, 0, 0]


def test_the_search_finds_what_comparing_all_pairs_finds():
    """Random fingerprints in clusters, against a plain loop with the definition."""
    from tfclip.records import fingerprint as made

    rng = np.random.default_rng(0)
    prints = np.zeros(400, FINGERPRINT)
    prints["level"], prints["exact"] = 2, np.arange(1, 401)
    for at in range(400):
        of = rng.integers(at) if at and rng.random() < 0.6 else None
        if of is None:
            prints[at]["coarse"] = rng.integers(2**63)
            prints[at]["fine"] = rng.integers(2**63, size=4)
            continue
        prints[at] = prints[of]
        if rng.random() < 0.1:  # the same file
            continue
        prints[at]["exact"] = at + 1
        for _ in range(rng.integers(13)):
            prints[at]["coarse"] ^= np.uint64(1 << int(rng.integers(64)))
        for _ in range(rng.integers(60)):
            prints[at]["fine"][rng.integers(4)] ^= np.uint64(1 << int(rng.integers(64)))
        prints[at]["color"] += rng.integers(0, 22, dtype=np.uint8)
    first, how = first_alike(prints)
    expected = np.zeros(400, np.uint8)
    for at in range(400):
        for other in range(at):
            one, two = prints[at], prints[other]
            if one["exact"] == two["exact"]:
                expected[at] = EXACT
                break
            bits = bin(int(one["coarse"]) ^ int(two["coarse"])).count("1")
            fine = sum(
                bin(int(a) ^ int(b)).count("1")
                for a, b in zip(one["fine"], two["fine"], strict=True)
            )
            color = np.abs(one["color"].astype(int) - two["color"].astype(int)).max()
            if bits <= made.COARSE_BITS and fine <= made.FINE_BITS and color <= made.COLOR_STEPS:
                expected[at] = ALIKE
    assert set(expected) == {0, EXACT, ALIKE}
    np.testing.assert_array_equal(how > 0, expected > 0)
    np.testing.assert_array_equal(how == EXACT, expected == EXACT)
    assert all(first[at] < at for at in np.flatnonzero(how))
