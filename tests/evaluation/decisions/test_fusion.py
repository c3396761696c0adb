"""Fused scores against loops over views, and the learnt weights against every other choice."""

import itertools

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.metrics import average_precision_score

from tfclip.evaluation.decisions.fusion import Fusion, fuse, group_maxima, learn_fusion

GROUPS = (1, 4, 9)


@pytest.fixture
def scores():
    return np.random.default_rng(0).normal(0.2, 0.05, (7, 14, 3)).astype(np.float32)


def test_each_fusion_is_its_definition(scores):
    best = [scores[:, part].max(axis=1) for part in (slice(0, 1), slice(1, 5), slice(5, 14))]
    np.testing.assert_array_equal(group_maxima(scores, GROUPS), np.stack(best, axis=1))
    expected = {
        Fusion("max"): scores.max(axis=1),
        Fusion("mean"): scores.mean(axis=1),
        Fusion("logsumexp", sharpness=40.0): logsumexp(40 * scores, axis=1, b=1 / 14) / 40,
        Fusion("learnt", weights=(0.5, 0.2, 0.3)): 0.5 * best[0] + 0.2 * best[1] + 0.3 * best[2],
    }
    for fusion, fused in expected.items():
        found = fuse(scores, fusion, GROUPS)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, fused, atol=1e-6)
        assert Fusion.from_dict(fusion.to_dict()) == fusion


def test_one_view_is_itself_whatever_the_fusion(scores):
    for fusion in (Fusion(), Fusion("mean"), Fusion("logsumexp", 3.0), Fusion("learnt", 0, (1.0,))):
        np.testing.assert_allclose(fuse(scores[:, :1], fusion, (1,)), scores[:, 0], atol=1e-6)


def test_logsumexp_lies_between_mean_and_max(scores):
    soft = fuse(scores, Fusion("logsumexp", 5.0), GROUPS)
    assert (soft < scores.max(axis=1)).all() and (soft > scores.mean(axis=1)).all()


def test_learnt_weights_are_the_best_of_all_tenths(scores):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(60, 14, 2)).astype(np.float32)
    present = rng.random((60, 2)) < 0.3
    scores[:, 1:5][np.repeat(present[:, None], 4, axis=1)] += 0.8
    learnt = learn_fusion(scores, present, GROUPS)

    def reached(weights):
        fused = fuse(scores, Fusion("learnt", weights=tuple(weights)), GROUPS)
        return np.mean([average_precision_score(present[:, c], fused[:, c]) for c in range(2)])

    tenths = [t for t in itertools.product(range(11), repeat=3) if sum(t) == 10]
    best = max(reached(np.array(t) / 10) for t in tenths)
    assert reached(learnt.weights) == pytest.approx(best, abs=1e-6)
    assert learnt.weights[1] > 0.3


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Fusion("median"), "unknown fusion 'median'; known, nearest first: mean"),
        (lambda: Fusion("logsumexp"), "sharpness above 0; received 0.0"),
        (lambda: Fusion("learnt", weights=(0.5, 0.6)), "1 in all"),
        (lambda: fuse(np.zeros((1, 5, 1)), Fusion(), (1, 9)), "received 5 views"),
        (
            lambda: fuse(np.zeros((1, 5, 1)), Fusion("learnt", 0, (1.0,)), (1, 4)),
            "1 learnt weights for 2 groups",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, told):
    with pytest.raises(ValueError, match=told):
        make()
