"""Heatmaps: where windows score, against planted scores, and drawn over the picture."""

import io

import numpy as np
import pytest
from PIL import Image

from tfclip.serving.prediction.heatmap import (
    GRID,
    SPREAD,
    draw_heatmap,
    highest_place,
    score_maps,
    window_boxes,
)


def covers(boxes, x, y):
    return (boxes[:, 0] <= y) & (y <= boxes[:, 2]) & (boxes[:, 1] <= x) & (x <= boxes[:, 3])


@pytest.mark.parametrize("place", [(0.2, 0.3), (0.8, 0.2), (0.5, 0.5), (0.7, 0.7)])
def test_the_highest_place_is_where_the_windows_score(place):
    boxes = window_boxes()
    inside = covers(boxes, *place)
    assert inside.any() and not inside.all()
    cosines = np.stack([np.where(inside, 0.3, 0.1), np.where(inside, 0.1, 0.3)], axis=1)
    maps = score_maps(cosines)
    x, y = highest_place(maps[0])
    assert abs(x - place[0]) < 0.15 and abs(y - place[1]) < 0.15
    assert maps[1].argmax() != maps[0].argmax()


def test_a_map_is_the_sum_of_bells_around_the_windows():
    boxes = window_boxes().astype(np.float64)
    cosines = np.random.default_rng(0).normal(size=(len(boxes), 1))
    sizes = np.round(boxes[:, 2] - boxes[:, 0], 3)
    found = score_maps(cosines)[0]
    for row, column in ((0, 0), (5, 17), (GRID - 1, 12)):
        x, y = (column + 0.5) / GRID, (row + 0.5) / GRID
        expected = 0.0
        for (y0, x0, y1, x1), size, (cosine,) in zip(boxes, sizes, cosines, strict=True):
            distance = np.hypot(x - (x0 + x1) / 2, y - (y0 + y1) / 2) / (SPREAD * (y1 - y0))
            rest = cosine - cosines[sizes == size, 0].mean()
            expected += rest * np.exp(-(distance**2) / 2)
        assert found[row, column] == pytest.approx(expected)


def test_equal_scores_point_nowhere():
    np.testing.assert_allclose(score_maps(np.full((len(window_boxes()), 2), 0.2)), 0, atol=1e-12)


def test_red_is_drawn_where_the_map_is_high(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (300, 200), "white").save(file, "JPEG")
    one_map = np.zeros((GRID, GRID))
    one_map[16:20, 16:20] = 1.0
    draw_heatmap(file.getvalue(), one_map, "dog 0.3", tmp_path / "new" / "map.png")
    drawn = np.asarray(Image.open(tmp_path / "new" / "map.png")).astype(int)
    redness = drawn[..., 0] - drawn[..., 1]
    y, x = (redness > 80).nonzero()
    assert drawn.shape == (200, 300, 3) and len(y) > 100
    assert abs(y.mean() / 200 - 0.75) < 0.05 and abs(x.mean() / 300 - 0.75) < 0.05
