"""Windows of feature maps and of patches: equal to slow loops, and to the whole picture."""

import math

import keras
import numpy as np
import pytest

from tfclip.inputs.tiles import tile_boxes
from tfclip.models import registry
from tfclip.models.towers.windows import TowerWindows

BOXES = tile_boxes("dense")


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)


def cells(box, side):
    """The rows and columns of a map that a window touches."""
    y0, x0, y1, x1 = map(float, box)
    rows = range(math.floor(y0 * side + 1e-4), math.ceil(y1 * side - 1e-4))
    return rows, range(math.floor(x0 * side + 1e-4), math.ceil(x1 * side - 1e-4))


def pooled(one_map, box, kind):
    """Pool one window of a map (H,W,C) place by place."""
    rows, columns = cells(box, one_map.shape[0])
    places = [one_map[y, x] for y in rows for x in columns]
    mean = sum(places) / len(places)
    if kind == "mean":
        return mean
    return np.concatenate([mean, np.max(places, axis=0)])


def inputs_of(tower, *layers):
    wanted = [layer.input for layer in tower.layers if isinstance(layer, layers)]
    return keras.Model(tower.input, wanted)


def test_a_convolutional_tower_pools_each_window_of_its_map(pictures):
    tower = registry.image_tower("small-convolutional").build(image_size=64, widths=(4, 8))
    kind = keras.layers.GlobalMaxPooling2D
    (pooling,) = (layer for layer in tower.layers if isinstance(layer, kind))
    maps = keras.Model(tower.input, pooling.input).predict(pictures, verbose=0)
    expected = [[pooled(one_map, box, "both") for box in BOXES] for one_map in maps]
    windows = np.asarray(TowerWindows(tower, "small-convolutional")(pictures, BOXES))
    assert windows.shape == (2, 14, 16)
    np.testing.assert_allclose(windows, expected, atol=1e-5)
    np.testing.assert_allclose(windows[:, 0], tower(pictures), atol=1e-5)


@pytest.mark.slow
def test_statistics_of_inner_maps_are_pooled_over_the_same_windows(pictures):
    tower = registry.image_tower("efficientnet-lite0").build(image_size=64, pooling="statistics")
    maps = inputs_of(tower, keras.layers.GlobalAveragePooling2D).predict(pictures, verbose=0)
    last = [m for m in maps if m.shape[-1] == 1280] + [m for m in maps if m.shape[-1] != 1280]
    expected = [
        [np.concatenate([pooled(m[row], box, "both") for m in last]) for box in BOXES]
        for row in range(2)
    ]
    windows = np.asarray(TowerWindows(tower, "efficientnet-lite0")(pictures, BOXES))
    np.testing.assert_allclose(windows, expected, atol=1e-4)
    np.testing.assert_allclose(windows[:, 0], tower(pictures, training=False), atol=1e-5)


def test_quarters_are_those_of_the_window(pictures):
    tower = registry.image_tower("squeezenet").build(image_size=64, pooling="statistics")
    fire9 = keras.Model(tower.input, tower.get_layer("fire9").output)
    maps = fire9.predict(pictures, verbose=0)
    windows = np.asarray(TowerWindows(tower, "squeezenet")(pictures, BOXES))
    side = maps.shape[1]
    for row in range(2):
        for at, box in enumerate(BOXES):
            rows, columns = cells(box, side)
            window = maps[row, rows.start : rows.stop, columns.start : columns.stop]
            # Halves, of which both have the middle of an odd side; one place is each half.
            halves = [
                ((0, -(-len(each) // 2)), (len(each) // 2, len(each) // 2 + -(-len(each) // 2)))
                for each in (rows, columns)
            ]
            quarters = [
                window[y0:y1, x0:x1].mean(axis=(0, 1))
                for y0, y1 in halves[0]
                for x0, x1 in halves[1]
            ]
            np.testing.assert_allclose(
                windows[row, at, 1024 : 1024 + 4 * 512], np.concatenate(quarters), atol=1e-4
            )
    np.testing.assert_allclose(windows[:, 0], tower(pictures, training=False), atol=1e-5)


def test_towers_side_by_side_have_the_windows_of_each(pictures):
    both = registry.image_tower("small-convolutional+squeezenet").build(image_size=64)
    windows = np.asarray(TowerWindows(both, "both")(pictures, BOXES))
    parts = [
        np.asarray(TowerWindows(both.get_layer(name), name)(pictures, BOXES))
        for name in ("small_convolutional", "squeezenet")
    ]
    np.testing.assert_allclose(windows, np.concatenate(parts, axis=-1), atol=1e-5)


SMALL = {"image_size": 64, "patch_size": 16, "width": 16, "heads": 2}


@pytest.mark.parametrize("class_token", [False, True])
def test_mean_tokens_are_averaged_over_the_patches_of_a_window(pictures, class_token):
    tower = registry.image_tower("vit-b16").build(
        **SMALL, blocks=2, pooling="mean", class_token=class_token
    )
    tokens = keras.Model(tower.input, tower.get_layer("norm").output).predict(pictures, verbose=0)
    first, grid = tokens[:, : int(class_token)], tokens[:, int(class_token) :].reshape(2, 4, 4, 16)
    expected = []
    for row in range(2):
        for box in BOXES:
            rows, columns = cells(box, 4)
            places = [*first[row], *(grid[row, y, x] for y in rows for x in columns)]
            expected.append(sum(places) / len(places))
    windows = np.asarray(TowerWindows(tower, "vit-b16")(pictures, BOXES))
    np.testing.assert_allclose(windows.reshape(-1, 16), expected, atol=1e-5)
    np.testing.assert_allclose(windows[:, 0], tower(pictures), atol=1e-5)


def test_a_class_token_attends_to_the_patches_of_its_window(pictures):
    """Slow reference: one class token at a time, on the patches of its window alone."""
    tower = registry.image_tower("vit-b16").build(**SMALL, blocks=4)
    rng = np.random.default_rng(1)
    for variable in tower.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.1, variable.shape))
    windows = np.asarray(TowerWindows(tower, "vit-b16")(pictures, BOXES))
    last = tower.get_layer("block_3")  # a quarter of the blocks
    tokens = keras.Model(tower.input, last.input).predict(pictures, verbose=0)
    for at, box in enumerate(BOXES):
        rows, columns = cells(box, 4)
        inside = [1 + 4 * y + x for y in rows for x in columns]
        alone = last(tokens[:, [0, *inside]], training=False)[:, 0]
        expected = tower.get_layer("norm")(alone)
        np.testing.assert_allclose(windows[:, at], expected, atol=1e-5)
    np.testing.assert_allclose(windows[:, 0], tower(pictures), atol=1e-5)
    assert np.abs(windows[:, 1] - windows[:, 4]).max() > 1e-2


@pytest.mark.parametrize(
    ("name", "options"),
    [("clip-mixer-b32", {"blocks": 1, "width": 8}), ("squeezenet", {"pooling": "none"})],
)
def test_towers_without_a_map_are_refused(name, options):
    tower = registry.image_tower(name).build(image_size=64, **options)
    with pytest.raises(ValueError, match=rf"{name}.*allowed.*1, 1\+4, 1\+9 or 1\+4\+9"):
        TowerWindows(tower, name)
