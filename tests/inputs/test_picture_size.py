"""How a picture becomes a square: the pixels of Pillow, as transformers and torchvision use it."""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfclip.inputs.images import crop_region, decode_valid, picture_view, resize_picture
from tfclip.inputs.picture_size import PictureSize
from tfclip.inputs.tiles import tile_boxes
from tfclip.inputs.view_sets import View
from tfclip.models.config import ModelConfig

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def _reference(picture: Image.Image, size: int, resize: str, interpolation: str) -> np.ndarray:
    """CLIPImageProcessor's steps: the shortest edge, then the centre."""
    if resize == "squash":
        return np.asarray(picture.resize((size, size), FILTERS[interpolation]))
    short = min(picture.size)
    sides = [int(size * side / short) for side in picture.size]
    left, top = ((side - size) // 2 for side in sides)
    scaled = picture.resize(sides, FILTERS[interpolation])
    return np.asarray(scaled.crop((left, top, left + size, top + size)))


def _smooth(height, width, seed=0):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (9, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(300, 400), (401, 97), (50, 60), (224, 333), (30, 500)])
def test_pixels_are_pillows(resize, interpolation, shape):
    picture = _smooth(*shape)
    pixels = resize_picture(np.asarray(picture), PictureSize(224, resize, interpolation)).numpy()
    reference = _reference(picture, 224, resize, interpolation)
    difference = np.abs(pixels.astype(int) - reference)
    assert pixels.shape == (224, 224, 3)
    assert difference.mean() < 0.3 and difference.max() <= 3


@pytest.mark.skipif("TFCLIP_DATA" not in os.environ, reason="needs TFCLIP_DATA")
@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_photographs_are_within_one_of_255(resize):
    paths = sorted(Path(os.environ["TFCLIP_DATA"], "voc").rglob("*.jpg"))[:50]
    assert len(paths) == 50
    size = PictureSize(224, resize, "bicubic")
    views, valid = decode_valid([path.read_bytes() for path in paths], tile_boxes("1"), size)
    assert valid.numpy().all()
    for path, view in zip(paths, views[:, 0].numpy(), strict=True):
        with Image.open(path) as picture:
            reference = _reference(picture.convert("RGB"), 224, resize, "bicubic")
        assert np.abs(view.astype(int) - reference).mean() <= 1, path


def test_a_crop_by_area_is_the_middle():
    picture = np.asarray(_smooth(64, 192))
    cropped = resize_picture(picture, PictureSize(32, "crop")).numpy()
    blocks = picture[:, 64:128].reshape(32, 2, 32, 2, 3).astype(float).mean((1, 3))
    np.testing.assert_array_equal(cropped, np.floor(blocks + 0.5).astype("uint8"))


def test_parts_are_squashed_that_nothing_is_lost():
    picture = np.asarray(_smooth(100, 300))
    size = PictureSize(32, "crop", "bicubic")
    box = np.array([0.0, 0.0, 1.0, 0.5], "float32")
    squashed = resize_picture(picture[:, :150], size.squashed()).numpy()
    np.testing.assert_array_equal(crop_region(picture, box, size).numpy(), squashed)
    tile = picture_view(picture, View(tuple(box.tolist())), size).numpy()
    np.testing.assert_array_equal(tile, squashed)
    whole = picture_view(picture, View(), size).numpy()
    np.testing.assert_array_equal(whole, resize_picture(picture, size).numpy())


def test_a_size_is_a_number_that_remembers():
    size = copy.deepcopy(PictureSize(224, "crop", "bicubic"))
    assert size == 224 and (size.resize, size.interpolation) == ("crop", "bicubic")
    with pytest.raises(ValueError, match="nearest"):
        PictureSize(224, "nearest")
    with pytest.raises(ValueError, match="lanczos"):
        ModelConfig(interpolation="lanczos")


def test_a_configuration_from_before_is_written_as_before():
    assert "resize" not in ModelConfig().to_dict()
    config = ModelConfig(resize="crop", interpolation="bicubic")
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert config.picture_size.resize == "crop"
