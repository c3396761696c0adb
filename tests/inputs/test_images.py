"""Resizing against Pillow, crops and tiles by hand, corrupt pictures among good ones."""

import ctypes
import functools
import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfclip.inputs import images
from tfclip.inputs.tiles import tile_boxes

RNG = np.random.default_rng(0)


def picture(height: int, width: int) -> np.ndarray:
    """Something like a photograph: coarse and fine detail."""
    coarse = Image.fromarray(RNG.integers(0, 256, (5, 6, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + RNG.integers(-40, 40, smooth.shape), 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def jpeg(pixels: np.ndarray) -> bytes:
    return encoded(pixels, "JPEG", quality=95)


def difference(one, two) -> float:
    return np.abs(np.asarray(one).astype(int) - np.asarray(two).astype(int)).mean()


def shares(old: int, new: int) -> np.ndarray:
    """How much of each old pixel lies under each new one, (new, old), rows summing to 1."""
    edges = np.arange(new + 1) * old / new
    pixels = np.arange(old)
    low, high = np.maximum(edges[:-1, None], pixels), np.minimum(edges[1:, None], pixels + 1)
    return np.maximum(high - low, 0) * new / old


@pytest.mark.parametrize("height, width", [(375, 500), (96, 300), (65, 64), (640, 64)])
def test_shrinking_is_the_mean_of_the_area(height, width):
    pixels = picture(height, width)
    exact = np.einsum(
        "ah,bw,hwc->abc", shares(height, 64), shares(width, 64), pixels, optimize=True
    )
    shrunk = images.resize_picture(tf.constant(pixels), 64)
    assert shrunk.dtype == tf.uint8 and shrunk.shape == (64, 64, 3)
    assert np.abs(shrunk.numpy() - exact).max() <= 0.501  # halves round up


@pytest.mark.parametrize("filter_, most", [("BOX", 2.5), ("BILINEAR", 2.5), ("LANCZOS", 4.0)])
def test_shrinking_is_close_to_pillows_filters(filter_, most):
    pixels = picture(375, 500)
    other = Image.fromarray(pixels).resize((64, 64), Image.Resampling[filter_])
    naive = tf.image.resize(pixels, [64, 64])
    shrunk = images.resize_picture(tf.constant(pixels), 64)
    assert difference(shrunk, other) < most < difference(naive, other)


def test_shrinking_leaves_no_alias():
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = images.resize_picture(tf.constant(stripes), 60).numpy().astype(int)
    naive = tf.image.resize(stripes, [60, 60]).numpy()
    assert np.ptp(shrunk) < np.ptp(naive) / 2


def test_enlarging_equals_bilinear():
    pixels = picture(20, 31)
    expected = np.floor(tf.image.resize(pixels, [64, 64]).numpy() + 0.5)
    np.testing.assert_array_equal(images.resize_picture(tf.constant(pixels), 64), expected)


def test_a_narrow_picture_shrinks_one_way_and_grows_the_other():
    pixels = picture(200, 10)
    rows = pixels.reshape(50, 4, 10, 3).mean(1)
    expected = np.floor(tf.image.resize(rows, [50, 50]).numpy() + 0.5)
    assert difference(images.resize_picture(tf.constant(pixels), 50), expected) < 0.01


def test_the_right_size_is_left_alone():
    pixels = picture(48, 48)
    np.testing.assert_array_equal(images.resize_picture(tf.constant(pixels), 48), pixels)


def test_views_are_crops_of_the_full_picture():
    pixels = picture(100, 200)
    views = images.picture_views(tf.constant(pixels), tile_boxes("1+4"), 30)
    crops = [pixels, pixels[:60, :120], pixels[:60, 80:], pixels[40:, :120], pixels[40:, 80:]]
    for view, crop in zip(views, crops, strict=True):
        np.testing.assert_array_equal(view, images.resize_picture(tf.constant(crop), 30))


@pytest.mark.parametrize(
    "box, crop",
    [
        ((-1.0, -1.0, 2.0, 2.0), np.s_[:, :]),
        ((0.25, 0.5, 0.75, 1.0), np.s_[10:30, 10:20]),
        ((0.5, 0.5, 0.5, 0.5), np.s_[20:21, 10:11]),
        ((1.0, 1.0, 1.0, 1.0), np.s_[39:40, 19:20]),
    ],
)
def test_boxes_are_cut_at_the_sides_and_never_empty(box, crop):
    pixels = picture(40, 20)
    cut = images.crop_region(tf.constant(pixels), tf.constant(box), 16)
    np.testing.assert_array_equal(cut, images.resize_picture(tf.constant(pixels[crop]), 16))


def test_random_boxes_keep_to_their_areas_and_seeds():
    seeds = tf.stack([tf.range(300), tf.fill([300], 7)], 1)
    boxes = tf.map_fn(
        lambda s: images.random_box(s, (0.3, 0.8)), seeds, fn_output_signature=tf.float32
    ).numpy()
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0 and boxes.max() <= 1 + 1e-6
    assert 0.29 < (height * width).min() < 0.35 and 0.75 < (height * width).max() < 0.81
    assert 0.74 < (width / height).min() < 0.8 and 1.25 < (width / height).max() < 1.34
    np.testing.assert_array_equal(images.random_box(seeds[5], (0.3, 0.8)), boxes[5])


def test_augmenting_is_a_function_of_the_seed():
    pixels = tf.constant(picture(40, 40))

    def vary(seed, **options):
        return images.augment(pixels, tf.constant([seed, 1]), **options).numpy()

    everything = {"crop_scale": (0.5, 1.0), "flip": True}
    np.testing.assert_array_equal(vary(3, **everything), vary(3, **everything))
    assert difference(vary(3, **everything), vary(4, **everything)) > 1
    assert vary(3, **everything).dtype == np.uint8
    np.testing.assert_array_equal(vary(3), pixels)
    flips = [np.array_equal(vary(s, flip=True), pixels[:, ::-1]) for s in range(40)]
    same = [np.array_equal(vary(s, flip=True), pixels) for s in range(40)]
    assert 10 < sum(flips) < 30 and sum(flips) + sum(same) == 40


@functools.cache
def decoder(tiles: str, size: int):
    """`decode_valid` as one graph: each call without one would trace its data sets anew."""
    return tf.function(
        lambda encoded: images.decode_valid(encoded, tile_boxes(tiles), size),
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )


def test_many_boxes_are_cut_as_each_alone():
    pixels = tf.constant(picture(50, 40))
    boxes = np.array(
        [(y, x, y + 0.3, x + 0.4) for y in np.arange(0, 0.7, 0.1) for x in (0, 0.25, 0.5)]
    )
    expected = [images.crop_region(pixels, tf.constant(box, tf.float32), 16) for box in boxes]
    cut = tf.function(lambda: images.picture_views(pixels, boxes.astype("float32"), 16))
    np.testing.assert_array_equal(cut(), expected)


def bomb() -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 60_000, 60_000)


def test_corrupt_pictures_leave_their_neighbours_alone():
    good = [picture(50, 40), picture(30, 70)]
    data = [b"", jpeg(good[0]), b"\0\0", b"text", jpeg(good[0])[:400], bomb(), jpeg(good[1]), b"BM"]
    boxes = tile_boxes("1+4")
    views, valid = decoder("1+4", 24)(tf.constant(data))
    assert views.shape == (8, 5, 24, 24, 3) and views.dtype == tf.uint8
    np.testing.assert_array_equal(valid, [False, True, False, False, False, False, True, False])
    for row in (1, 6):
        alone = images.picture_views(images.decode_picture(tf.constant(data[row])), boxes, 24)
        np.testing.assert_array_equal(views[row], alone)
    assert not views.numpy()[~valid.numpy()].any()


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [2, 3], [3]])
def test_formats_that_are_mixed_keep_their_places(order):
    formats = [encoded(picture(30, 20), kind) for kind in ("JPEG", "JPEG", "PNG", "BMP")]
    data = [formats[place] for place in order]
    views, valid = decoder("1", 24)(tf.constant(data))
    assert valid.numpy().all()
    for view, each in zip(views, data, strict=True):
        alone = images.resize_picture(images.decode_picture(tf.constant(each)), 24)
        np.testing.assert_array_equal(view[0], alone)


def test_nothing_is_kept_of_what_does_not_decode():
    beginnings = [b"text", b"\x89PNG\r\n\x1a\n", b"GIF89a\1\0\1\0", b"\xff\xd8\xff\xe0"]
    data = tf.constant([damaged + bytes([n]) for damaged in beginnings for n in range(8)])

    def bytes_after(calls: int) -> int:
        for _ in range(calls):
            assert not decoder("1", 16)(data)[1].numpy().any()
        return allocated_bytes()

    before = bytes_after(20)
    assert bytes_after(50) - before < 400 * 300  # 300 of each; it was a kilobyte.


def allocated_bytes() -> int:
    """What malloc has given away, without large blocks; skips where that cannot be known."""

    class Mallinfo2(ctypes.Structure):
        _fields_ = [(f"field_{place}", ctypes.c_size_t) for place in range(10)]

    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        pytest.skip("needs glibc 2.33")
    mallinfo2.restype = Mallinfo2
    return mallinfo2().field_7  # uordblks


def test_all_good_and_none_at_all():
    data = [jpeg(picture(20 + n, 30)) for n in range(20)]
    views, valid = decoder("1", 16)(tf.constant(data))
    assert valid.numpy().all()
    for view, encoded in zip(views, data, strict=True):
        whole = images.resize_picture(images.decode_record_jpeg(encoded), 16)
        np.testing.assert_array_equal(view[0], whole)
    views, valid = decoder("1", 16)(tf.constant([], tf.string))
    assert views.shape == (0, 1, 16, 16, 3) and valid.shape == (0,)
    _, valid = decoder("1", 16)(tf.constant([b"", b"no"]))
    assert not valid.numpy().any()


def test_too_many_pixels_are_invalid():
    data = tf.constant([jpeg(picture(40, 50)), jpeg(picture(20, 30))])
    for decode in (images.decode_valid, images.decode_few):
        _, valid = decode(data, tile_boxes("1"), 16, max_pixels=1000)
        np.testing.assert_array_equal(valid, [False, True])


def test_a_few_pictures_without_a_graph_are_the_same():
    formats = [encoded(picture(30, 20), kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP")]
    data = tf.constant([b"", *formats, b"text", formats[0][:400], bomb(), formats[1]])
    expected, which = decoder("1+4", 24)(data)
    views, valid = images.decode_few(data, tile_boxes("1+4"), 24)
    np.testing.assert_array_equal(valid, which)
    np.testing.assert_array_equal(views, expected)
    views, valid = images.decode_few(tf.constant([], tf.string), tile_boxes("1"), 24)
    assert views.shape == (0, 1, 24, 24, 3) and valid.shape == (0,)


def test_a_map_gives_what_an_eager_call_gives():
    data = [jpeg(picture(40, 50)), jpeg(picture(200, 31))]

    def load(encoded):
        image = images.decode_picture(encoded)
        return images.augment(images.resize_picture(image, 32), [1, 2], crop_scale=(0.5, 1.0))

    mapped = tf.data.Dataset.from_tensor_slices(data).map(load)
    for one, encoded in zip(mapped, data, strict=True):
        np.testing.assert_array_equal(one, load(tf.constant(encoded)))
