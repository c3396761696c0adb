"""Sensitivity and specificity of every threshold, against counting."""

import json

import numpy as np
import pytest

from tfclip.serving.operating_points import (
    OPERATING_POINTS,
    operating_points,
    read_operating_points,
)

LABELS = ("red circle", "blue square")


@pytest.fixture
def measured():
    rng = np.random.default_rng(0)
    present = rng.random((60, 2)) < 0.3
    difficult = rng.random((60, 2)) < 0.1
    # Many ties: scores of two decimals.
    return np.round(rng.normal(0, 0.1, (60, 2)) + 0.1 * present, 2), present, difficult


def test_the_shares_are_those_of_counting(measured):
    scores, present, difficult = measured
    points = operating_points(LABELS, *measured)
    assert points["pictures"] == 60
    for column, name in ((0, LABELS[0]), (1, LABELS[1]), (slice(None), None)):
        shares = points["per_class"][name] if name else points["all"]
        counted = ~difficult[:, column]
        for place, threshold in enumerate(points["thresholds"]):
            predicted = scores[:, column] >= threshold
            positive, negative = present[:, column] & counted, ~present[:, column] & counted
            sensitivity = predicted[positive].mean()
            specificity = (~predicted)[negative].mean()
            assert shares["sensitivity"][place] == pytest.approx(sensitivity, abs=1e-4)
            assert shares["specificity"][place] == pytest.approx(specificity, abs=1e-4)


def test_a_class_without_pictures_has_none(measured):
    scores, present, difficult = measured
    points = operating_points(LABELS, scores, present & False, difficult)
    assert points["all"]["sensitivity"] is None and points["all"]["specificity"]


def test_the_kept_scores_of_a_run_are_read(measured, tmp_path):
    assert read_operating_points(tmp_path, LABELS) is None
    (tmp_path / "metrics").mkdir()
    path = tmp_path / "metrics" / "voc_scores.npz"
    path.write_bytes(b"damage")
    assert read_operating_points(tmp_path, LABELS) is None
    scores, present, difficult = measured
    np.savez(
        path,
        class_names=LABELS,
        calibration_scores=scores,
        calibration_present=present,
        calibration_difficult=difficult,
    )
    assert read_operating_points(tmp_path, LABELS) == operating_points(LABELS, *measured)
    assert read_operating_points(tmp_path, LABELS[::-1])["per_class"].keys() == set(LABELS)
    assert read_operating_points(tmp_path, ("other",)) is None
    # Thresholds of another set: its scores are read.
    other = tmp_path / "metrics" / "multilabel-mine_scores.npz"
    names = ("other", "more")
    with np.load(path) as kept:
        np.savez(other, **{**kept, "class_names": names})
    (tmp_path / "thresholds.json").write_text('{"set": "multilabel-mine"}')
    assert read_operating_points(tmp_path, LABELS) is None
    assert read_operating_points(tmp_path, names) == operating_points(names, *measured)


def test_they_are_written_beside_the_model_card(measured, tiny_model, tmp_path):
    from tfclip.serving.saved_model import write_saved_model

    points = operating_points(LABELS, *measured)
    version = write_saved_model(tiny_model, tmp_path, points=points)
    assert json.loads((version / OPERATING_POINTS).read_text()) == points
