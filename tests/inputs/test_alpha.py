"""Pictures with alpha over white: every value, large ones in strips, and what memory they take."""

import io
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfclip.inputs import formats
from tfclip.inputs.images import decode_picture


def over_white(pixels):
    """The rule in 64 bits."""
    color, alpha = pixels[..., :-1].astype(np.int64), pixels[..., -1:].astype(np.int64)
    return np.broadcast_to(
        (color * alpha + 255 * (255 - alpha) + 127) // 255, (*pixels.shape[:2], 3)
    )


def decoded(pixels, mode):
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, "PNG", compress_level=1)
    return decode_picture(tf.constant(file.getvalue())).numpy()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_every_colour_with_every_alpha(mode):
    color, alpha = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    pixels = np.stack([color] * (len(mode) - 1) + [alpha], -1).astype(np.uint8)
    np.testing.assert_array_equal(decoded(pixels, mode), over_white(pixels))


@pytest.mark.parametrize(("mode", "height", "width"), [("RGBA", 1511, 1499), ("LA", 2111, 1999)])
def test_large_pictures_are_the_same_in_strips(mode, height, width):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (height, width, len(mode)), np.uint8)
    assert pixels.size > formats._STRIP_BYTES
    np.testing.assert_array_equal(decoded(pixels, mode), over_white(pixels))


PEAK = """
import io, resource, sys
import numpy as np, tensorflow as tf
from PIL import Image
from tfclip.inputs.images import decode_valid
file = io.BytesIO()
Image.new("RGBA", (7000, 7000), (9, 8, 7, 100)).save(file, "PNG", compress_level=1)
small = io.BytesIO()
Image.new("RGBA", (70, 70), (9, 8, 7, 100)).save(small, "PNG")
run = tf.function(lambda data: decode_valid(data, np.array([[0, 0, 1, 1]], np.float32), 64))
run(tf.constant([small.getvalue()]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
views, valid = run(tf.constant([small.getvalue(), file.getvalue()]))
assert valid.numpy().all()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - before) / 1000)
"""


@pytest.mark.slow
def test_a_picture_of_49_megapixels_takes_no_gigabytes():
    """196 MB decoded and 147 MB as RGB: 310 MB were measured; in 32 bits it was 1,135 MB."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 700
