"""Tile layouts: every group covers the picture, and neighbours overlap."""

import numpy as np
import pytest

from tfclip.inputs.tiles import DENSE, TILE_LAYOUTS, group_boxes, tile_boxes, tile_groups


@pytest.mark.parametrize(("tiles", "side"), [(1, 1.0), (4, 0.6), (9, 0.4)])
def test_a_group_covers_the_picture_and_overlaps(tiles, side):
    boxes = group_boxes(tiles)
    assert boxes.shape == (tiles, 4) and boxes.dtype == np.float32
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], side, atol=1e-6)
    y, x = np.mgrid[0.005:1:0.01, 0.005:1:0.01]
    inside = [(a <= y) & (y < c) & (b <= x) & (x < d) for a, b, c, d in boxes]
    covered = np.sum(inside, axis=0)
    assert covered.min() == 1 and covered.max() == {1: 1, 4: 4, 9: 4}[tiles]


def test_a_layout_is_its_groups_with_the_whole_picture_first():
    for layout in TILE_LAYOUTS:
        groups, boxes = tile_groups(layout), tile_boxes(layout)
        assert layout in ("+".join(map(str, groups)), DENSE) and len(boxes) == sum(groups)
        np.testing.assert_array_equal(boxes[0], [0, 0, 1, 1])
    expected = [[0, 0, 0.6, 0.6], [0, 0.4, 0.6, 1], [0.4, 0, 1, 0.6], [0.4, 0.4, 1, 1]]
    np.testing.assert_array_equal(tile_boxes("1+4")[1:], np.array(expected, np.float32))


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match="unknown tile layout '1x4'; known, nearest first: 1"):
        tile_boxes("1x4")
