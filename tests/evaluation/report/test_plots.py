"""Plots that show what was measured, whole, and the curves in them."""

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from tfclip.evaluation.metrics.curves import precision_recall_curve, threshold_curves
from tfclip.evaluation.metrics.multilabel import confusion, micro
from tfclip.evaluation.report.plots import plot_precision_recall, plot_thresholds


def draw(classes=20, pictures=200):
    rng = np.random.default_rng(0)
    truth = rng.random((pictures, classes)) < 0.2
    scores = 0.1 * rng.normal(size=truth.shape) + 0.1 * truth
    return scores, truth, rng.random(truth.shape) < 0.05


def margins(path) -> np.ndarray:
    """The outermost pixels of a picture, from all four sides."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


@pytest.mark.parametrize("at", [-0.3, 0.07, 5.0], ids=["below all", "within", "above all"])
def test_threshold_curves_are_the_pooled_decisions(at):
    scores, truth, ignore = draw()
    thresholds, shares = threshold_curves(scores, truth, ignore, at)
    assert thresholds[-1] == at and (np.diff(thresholds[:-1]) > 0).all()
    for k in (0, 123, len(thresholds) - 1):
        expected = micro(confusion(scores >= thresholds[k], truth, ignore))
        for share, values in shares.items():
            np.testing.assert_equal(values[k], expected[share])


def test_the_area_under_the_precision_recall_curve_is_the_average_precision():
    scores, truth, _ = draw()
    for c, column in enumerate((scores[:, 0], np.round(scores[:, 1], 1))):
        recall, precision = precision_recall_curve(column, truth[:, c])
        area = (np.diff(recall, prepend=0) * precision).sum()
        assert area == pytest.approx(average_precision_score(truth[:, c], column), abs=1e-9)
        assert (np.diff(recall) > 0).all() and recall[-1] == 1


def test_plots_are_whole_pictures(tmp_path):
    scores, truth, ignore = draw()
    truth[:, 3] = False
    names = [f"a class with the rather long name {c}" for c in range(20)]
    plots = tmp_path / "plots"
    title = "1000 pictures of split test, all classes pooled; threshold fitted on trainval"
    plot_thresholds(plots / "t.png", scores, truth, ignore, 0.07, title=title)
    plot_precision_recall(
        plots / "p.png", scores, truth, names, marked=names[:3], title="mAP 0.512"
    )
    wide, truth, _ = draw(classes=100)
    plot_precision_recall(plots / "many.png", wide, truth, [f"class {c}" for c in range(100)])
    for name in ("t", "p", "many"):
        path = plots / f"{name}.png"
        assert min(Image.open(path).size) > 400
        # A label that reaches the edge of the picture is cut.
        assert (margins(path) == 255).all()
        assert (np.asarray(Image.open(path).convert("L")) < 128).sum() > 2000


def test_plots_of_a_class_without_positives(tmp_path):
    plot_precision_recall(tmp_path / "p.png", np.zeros((3, 1)), np.zeros((3, 1), bool), ["cat"])
    assert (margins(tmp_path / "p.png") == 255).all()
