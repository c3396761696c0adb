"""The served graph's fusion and probabilities against their NumPy counterparts."""

import numpy as np
import pytest
import tensorflow as tf

from tfclip.evaluation.decisions.calibration import Isotonic, Platt
from tfclip.evaluation.decisions.calibration_fit import fit_calibration
from tfclip.evaluation.decisions.fusion import Fusion, fuse
from tfclip.inputs.tiles import tile_groups
from tfclip.serving.classifier import Classifier
from tfclip.serving.scoring import fuse_views, label_probabilities

LABELS = ("a", "b", "c")
TEXTS = (("a",), ("b",), ("c",))


@pytest.mark.parametrize(
    "fusion",
    [
        Fusion(),
        Fusion("mean"),
        Fusion("logsumexp", 30.0),
        Fusion("learnt", weights=(0.5, 0.2, 0.3)),
    ],
    ids=lambda fusion: fusion.name,
)
def test_fused_views_are_those_of_numpy(fusion):
    scores = np.random.default_rng(0).normal(0.2, 0.1, (5, 14, 3)).astype(np.float32)
    classifier = Classifier(LABELS, TEXTS, tiles="1+4+9", fusion=fusion)
    served = tf.function(lambda s: fuse_views(s, classifier))(scores)
    assert served.dtype == tf.float32
    np.testing.assert_allclose(served, fuse(scores, fusion, tile_groups("1+4+9")), atol=1e-6)
    assert fuse_views(scores[:0], classifier).shape == (0, 3)


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_probabilities_are_those_of_numpy(kind):
    rng = np.random.default_rng(0)
    truth = rng.random((300, 3)) < (0.1, 0.5, 0.02)
    scores = (rng.normal(0.2, 0.03, truth.shape) + 0.03 * truth).astype(np.float32)
    fitted = fit_calibration(kind, scores, truth)
    classifier = Classifier(LABELS, TEXTS, calibration=fitted)
    asked = np.concatenate([scores, rng.uniform(-1, 1, (50, 3)).astype(np.float32)])
    served = label_probabilities(tf.constant(asked), classifier, tf.constant(50.0))
    np.testing.assert_allclose(served, fitted.probabilities(asked), atol=2e-5)
    assert label_probabilities(tf.constant(asked[:0]), classifier, 1.0).shape == (0, 3)


def test_probabilities_of_curves_without_a_slope():
    flat = Platt(np.zeros(3), np.array([-1.0, 0.0, 2.0]))
    one = Isotonic(np.full((3, 1), 0.2), np.array([[0.1], [0.5], [0.9]]))
    for fitted in (flat, one):
        classifier = Classifier(LABELS, TEXTS, calibration=fitted)
        asked = np.array([[0.1, 0.2, 0.3]], np.float32)
        served = label_probabilities(tf.constant(asked), classifier, 1.0)
        np.testing.assert_allclose(served, fitted.probabilities(asked), atol=1e-6)


def test_without_a_calibration_they_are_a_softmax():
    classifier = Classifier(LABELS, TEXTS)
    served = label_probabilities(tf.constant([[0.1, 0.2, 0.3]]), classifier, tf.constant(10.0))
    expected = np.exp([1.0, 2.0, 3.0]) / np.exp([1.0, 2.0, 3.0]).sum()
    np.testing.assert_allclose(served[0], expected, atol=1e-6)


def test_learnt_weights_must_fit_the_tiles():
    with pytest.raises(ValueError, match="2 learnt weights do not fit the tiles 1\\+4\\+9"):
        Classifier(LABELS, TEXTS, tiles="1+4+9", fusion=Fusion("learnt", weights=(0.5, 0.5)))
