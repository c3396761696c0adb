"""Fused scores against their definitions, and what can be chosen."""

import numpy as np
import pytest
from scipy.special import logsumexp

from tfclip.evaluation.decisions.fusion import Fusion, check_fusion, fuse, group_maxima
from tfclip.evaluation.decisions.options import MultilabelOptions

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


@pytest.mark.parametrize("name", ["mean", "learnt"])
def test_what_measured_worse_is_read_but_not_offered(name):
    """Thresholds and exports of earlier versions hold it."""
    content = {"name": name} | ({"weights": [0.25, 0.75]} if name == "learnt" else {})
    assert Fusion.from_dict(content).to_dict() == content
    for refused in (check_fusion, lambda fusion: MultilabelOptions(fusion=fusion)):
        with pytest.raises(ValueError, match="no longer available.*allowed: max, logsumexp$"):
            refused(name)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Fusion("median"), "unknown fusion 'median'; known, nearest first: "),
        (lambda: Fusion("logsumexp"), "sharpness above 0; received 0.0"),
        (lambda: Fusion("learnt", weights=(0.5, 0.6)), "with sum 1"),
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
