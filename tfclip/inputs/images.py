"""The one picture pipeline of all models: decode, crop and resize to uint8, in the graph.

Training, evaluation, the Python API and the served graph call these functions, so that a picture
has the same embedding everywhere. They use core ops only: they run in tf.data, eagerly, and in a
SavedModel loaded without tfclip. As in `records.check`, EXIF rotation is applied, alpha is
composited over white, and pictures become RGB.
"""

import numpy as np
import tensorflow as tf

from tfclip.graphs import as_written
from tfclip.inputs.formats import decode_other_format
from tfclip.inputs.headers import (
    count_jpeg_pixels,
    count_other_pixels,
    is_jpeg,
    read_orientation,
    turn_upright,
)
from tfclip.inputs.picture_size import PictureSize, picture_size
from tfclip.inputs.view_sets import WHOLE, View, view_set
from tfclip.records.check import MAX_PIXELS

# More than the cores of most machines, and few enough for the memory of the largest pictures.
_PARALLEL_DECODES = 16
_MOST_UNROLLED = 20
"""The most views of a picture that are traced one by one."""


def decode_record_jpeg(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decode the picture of a record, a baseline RGB JPEG in () string: (H,W,3) uint8.

    Uses the accurate integer inverse DCT, so that the pixels equal Pillow's.
    """
    return tf.io.decode_jpeg(image_bytes, channels=3, dct_method="INTEGER_ACCURATE")


def decode_picture(image_bytes: tf.Tensor) -> tf.Tensor:
    """Decode any JPEG, PNG, GIF (first frame), BMP or WebP, () string: (H,W,3) uint8.

    EXIF orientation is applied, alpha is composited over white, grey becomes RGB. Other bytes raise
    InvalidArgumentError; `decode_valid` handles them.
    """
    image = tf.cond(
        is_jpeg(image_bytes),
        lambda: decode_record_jpeg(image_bytes),
        lambda: _decode_other_format_apart(image_bytes),
    )
    return _upright(image, image_bytes)


# Not inlined: evaluating these ops as skipped would take a tenth of the time of a JPEG.
@tf.function(
    input_signature=[tf.TensorSpec([], tf.string)],
    autograph=False,
    experimental_attributes={"_noinline": True},
)
def _decode_other_format_apart(image_bytes: tf.Tensor) -> tf.Tensor:
    return decode_other_format(image_bytes)


def _upright(image: tf.Tensor, image_bytes: tf.Tensor) -> tf.Tensor:
    return tf.ensure_shape(turn_upright(image, read_orientation(image_bytes)), [None, None, 3])


def resize_picture(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resize `image` (H,W,3) uint8 to (size,size,3) uint8, antialiased.

    A plain integer squashes with area interpolation: a side longer than `size` is shrunk by
    averaging the area under each new pixel; a shorter side is enlarged bilinearly (half-pixel
    centres). A `PictureSize` may select a crop, or Pillow's bilinear or bicubic filter. Halves
    round up.

    >>> resize_picture(tf.zeros([40, 60, 3], tf.uint8), 32).shape
    TensorShape([32, 32, 3])
    """
    size = picture_size(size)
    height, width = tf.unstack(tf.shape(image)[:2])
    is_done = tf.equal(height, int(size)) & tf.equal(width, int(size))
    resize = _resize_by_area if size.interpolation == "area" else _resample
    square = tf.cond(is_done, lambda: image, lambda: resize(image, height, width, size))
    return tf.ensure_shape(square, [int(size), int(size), 3])


def _resize_by_area(
    image: tf.Tensor, height: tf.Tensor, width: tf.Tensor, size: PictureSize
) -> tf.Tensor:
    side = int(size)
    if size.resize == "crop":
        short = tf.minimum(height, width)
        top, left = (height - short) // 2, (width - short) // 2
        image, height, width = image[top : top + short, left : left + short], short, short
    # Raw ops, because tf.image.resize adds a dozen small ops for each picture.
    small = [tf.minimum(height, side), tf.minimum(width, side)]
    shrunk = tf.raw_ops.ResizeArea(images=image[None], size=small)
    square = tf.cond(
        tf.minimum(height, width) < side,
        lambda: tf.raw_ops.ResizeBilinear(
            images=shrunk, size=[side, side], half_pixel_centers=True
        ),
        lambda: shrunk,
    )
    return tf.cast(square[0] + 0.5, tf.uint8)


def _resample(
    image: tf.Tensor, height: tf.Tensor, width: tf.Tensor, size: PictureSize
) -> tf.Tensor:
    """Resize with Pillow's antialiased filters and the crop; Pillow also rounds between its two
    passes.

    transformers and torchvision scale the longer side to int(size * longer / shorter).
    """
    side, sides = int(size), tf.stack([height, width])
    scaled = tf.stack([side, side])
    if size.resize == "crop":
        scaled = side * sides // tf.minimum(height, width)
    square = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=[side, side],
        scale=tf.cast(scaled, tf.float32) / tf.cast(sides, tf.float32),
        translation=-tf.cast((scaled - side) // 2, tf.float32),
        kernel_type="keyscubic" if size.interpolation == "bicubic" else "triangle",
        antialias=True,
    )
    return tf.cast(tf.clip_by_value(square[0] + 0.5, 0.0, 255.0), tf.uint8)


def picture_view(
    image: tf.Tensor, view: View, size: int, image_id: tf.Tensor | int = 0, number: int = 0
) -> tf.Tensor:
    """Cut one view out of `image` (H,W,3) uint8: (size,size,3) uint8.

    Args:
        image: the picture.
        view: the view.
        size: the side of the result.
        image_id: () int64, part of the seed of a random crop.
        number: the position of the view in its set, the other part of the seed.
    """
    if view.crop is not None:
        seed = tf.stack([tf.bitcast(tf.cast(image_id, tf.int64), tf.int32)[0], number])
        part = crop_region(image, random_box(seed, view.crop), size)
    elif view.box == WHOLE:
        part = resize_picture(image, size)
    else:
        part = crop_region(image, tf.constant(view.box), size)
    return tf.reverse(part, [1]) if view.mirrored else part


def training_views(image: tf.Tensor, name: str, size: int, image_id: tf.Tensor) -> tf.Tensor:
    """Return all views in the set `name` of `image` (H,W,3) uint8: (V,size,size,3) uint8."""
    return tf.stack(
        [
            picture_view(image, view, size, image_id, number)
            for number, view in enumerate(view_set(name))
        ]
    )


def crop_region(image: tf.Tensor, box: tf.Tensor, size: int) -> tf.Tensor:
    """Cut `box` (4,) float y0,x0,y1,x1 in 0..1 out of `image` (H,W,3) uint8: (size,size,3) uint8.

    Edges are rounded to the nearest pixel. A box is clipped to the picture, and one without a pixel
    gets the nearest pixel.
    """
    sides = tf.tile(tf.shape(image)[:2], [2])
    edges = tf.cast(tf.round(box * tf.cast(sides, box.dtype)), tf.int32)
    start = tf.clip_by_value(edges[:2], 0, sides[:2] - 1)
    stop = tf.clip_by_value(edges[2:], start + 1, sides[:2])
    part = image[start[0] : stop[0], start[1] : stop[1]]
    return resize_picture(part, picture_size(size).squashed())


def picture_views(image: tf.Tensor, boxes: np.ndarray, size: int) -> tf.Tensor:
    """Cut every box of `boxes` (T,4) float out of `image` (H,W,3) uint8: (T,size,size,3) uint8."""
    views = [View(tuple(box.tolist())) for box in boxes]
    if len(views) <= _MOST_UNROLLED or any(view.box == WHOLE for view in views):
        return tf.stack([picture_view(image, view, size) for view in views])
    # A loop: tracing each of many boxes takes longer than cutting them.
    side = int(size)
    return tf.map_fn(
        lambda box: crop_region(image, box, size),
        tf.constant(boxes, tf.float32),
        fn_output_signature=tf.TensorSpec([side, side, 3], tf.uint8),
    )


def decode_valid(
    image_bytes: tf.Tensor, boxes: np.ndarray, size: int, max_pixels: int = MAX_PIXELS
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode N pictures of which some may be invalid.

    Args:
        image_bytes: (N,) string, N may be 0.
        boxes: (T,4) float32: the views to cut, see `tiles.tile_boxes`.
        size: side of a view.
        max_pixels: a picture whose header declares more is not decoded.

    Returns:
        views (N,T,size,size,3) uint8, zeros where a picture did not decode, and valid (N,) bool.
    """
    shape, count = [len(boxes), size, size, 3], tf.shape(image_bytes)[0]
    is_jpeg_row = is_jpeg(image_bytes)

    # In a graph, only a dataset that drops failed elements survives an error of a decoder.
    def good_views(chosen: tf.Tensor, count_pixels, decode) -> tf.data.Dataset:
        def views_of(row, data):
            # An empty string fails to decode.
            data = tf.where(count_pixels(data) <= max_pixels, data, b"")
            return row, picture_views(_upright(decode(data), data), boxes, size)

        rows = tf.boolean_mask(tf.range(count), chosen), tf.boolean_mask(image_bytes, chosen)
        rows = tf.data.Dataset.from_tensor_slices(rows)
        return rows.map(as_written(views_of), num_parallel_calls=_PARALLEL_DECODES).ignore_errors()

    # One dataset for JPEGs and one for the rest: TensorFlow leaks a kilobyte for each call of a
    # function that fails within a mapped function.
    jpegs = good_views(is_jpeg_row, count_jpeg_pixels, decode_record_jpeg)
    others = good_views(~is_jpeg_row, count_other_pixels, decode_other_format)
    # A row of zeros comes first: it represents the dropped rows, and makes the batch non-empty.
    sentinel = tf.data.Dataset.from_tensors((-1, tf.zeros(shape, tf.uint8)))
    rows = tf.cast(count, tf.int64) + 1
    decoded = sentinel.concatenate(jpegs).concatenate(others).take(rows)
    good, views = decoded.batch(rows).get_single_element()
    place = tf.scatter_nd(good[1:, None], tf.range(1, tf.size(good)), [count])
    views = tf.cond(  # Without dropped rows the order is right, and no copy is needed.
        tf.reduce_all(tf.equal(place, tf.range(1, count + 1))),
        lambda: views[1:],
        lambda: tf.gather(views, place),
    )
    return tf.ensure_shape(views, [None, *shape]), place > 0


def decode_few(
    image_bytes: tf.Tensor, boxes: np.ndarray, size: int, max_pixels: int = MAX_PIXELS
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return what `decode_valid` returns, computed without a graph, whose tracing takes longer."""
    none = tf.zeros([len(boxes), size, size, 3], tf.uint8)
    views, valid = [], []
    for data in tf.unstack(image_bytes):
        jpeg = bool(is_jpeg(data))
        count, decode = (
            (count_jpeg_pixels, decode_record_jpeg)
            if jpeg
            else (count_other_pixels, decode_other_format)
        )
        try:
            data = tf.where(count(data) <= max_pixels, data, b"")
            views.append(picture_views(_upright(decode(data), data), boxes, size))
            valid.append(True)
        except tf.errors.OpError:
            views.append(none)
            valid.append(False)
    return tf.stack(views) if views else none[None][:0], tf.constant(valid, tf.bool)


def random_box(seed: tf.Tensor, scale: tuple[float, float]) -> tf.Tensor:
    """Return a random box (4,) float32 y0,x0,y1,x1 whose area is within `scale`.

    Args:
        seed: (2,) int32; equal seeds give equal boxes.
        scale: the smallest and largest area as fractions of the picture, 0 < smallest <= largest
            <= 1. The ratio of width to height, relative to the picture, is log-uniform from 3/4 to
            4/3 (Szegedy et al. 2015, arXiv 1409.4842).
    """
    area_seed, ratio_seed, place_seed = tf.unstack(tf.random.split(seed, 3))
    area = tf.random.stateless_uniform([], area_seed, *scale)
    half_ratio = tf.exp(
        0.5 * tf.random.stateless_uniform([], ratio_seed, -1, 1) * tf.math.log(4 / 3)
    )
    root = tf.sqrt(area)
    sides = tf.minimum(tf.stack([root / half_ratio, root * half_ratio]), 1.0)
    start = tf.random.stateless_uniform([2], place_seed) * (1.0 - sides)
    return tf.concat([start, start + sides], 0)


def augment(
    image: tf.Tensor,
    seed: tf.Tensor,
    *,
    crop_scale: tuple[float, float] = (1.0, 1.0),
    flip: bool | tf.Tensor = False,
) -> tf.Tensor:
    """Augment `image` (S,S,3) uint8 (S static) by random crop and flip: (S,S,3) uint8.

    Args:
        image: the resized picture.
        seed: (2,) int32.
        crop_scale: range of the area of a random crop (see `random_box`); (1, 1) crops nothing.
        flip: mirror every second picture; bool or () bool tensor. Wrong for captions that say left
            or right.
    """
    # Five seeds, as in earlier versions: with another number equal seeds would give other pictures.
    crop_seed, flip_seed, *_ = tf.unstack(tf.random.split(seed, 5))
    if crop_scale != (1.0, 1.0):
        image = crop_region(image, random_box(crop_seed, crop_scale), image.shape[0])
    if flip is not False:
        mirrored = tf.image.stateless_random_flip_left_right(image, flip_seed)
        image = tf.where(flip, mirrored, image)
    return image
