"""The multi-label metrics against scikit-learn, tables worked by hand, and plain resampling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tfclip.evaluation.metrics import multilabel
from tfclip.evaluation.metrics.bootstrap import bootstrap_weights, interval

EXACT = 1e-9


def draw(seed, pictures=60, classes=5, levels=None):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(pictures, classes))
    if levels:
        scores = np.round(scores * levels) / levels
    truth = rng.random((pictures, classes)) < 0.3
    truth[0] = True
    return scores, truth


@pytest.mark.parametrize("levels", [None, 3, 1], ids=["distinct", "ties", "mostly ties"])
def test_average_precision_is_scikit_learns(levels):
    scores, truth = draw(1, levels=levels)
    ours = multilabel.average_precision(scores, truth)
    theirs = sk.average_precision_score(truth, scores, average=None)
    np.testing.assert_allclose(ours, theirs, atol=EXACT)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12))
def test_average_precision_is_scikit_learns_on_anything(cells):
    scores = np.array([[float(score)] for score, _ in cells])
    truth = np.array([[present] for _, present in cells])
    ours = multilabel.average_precision(scores, truth)[0]
    if truth.any():
        assert ours == pytest.approx(sk.average_precision_score(truth, scores), abs=EXACT)
    else:
        assert np.isnan(ours)


def test_ignored_cells_are_as_if_the_picture_were_absent():
    scores, truth = draw(2, classes=1)
    ignore = np.random.default_rng(3).random(truth.shape) < 0.3
    kept = ~ignore[:, 0]
    for measure in (multilabel.average_precision, multilabel.average_precision_voc07):
        assert measure(scores, truth, ignore) == measure(scores[kept], truth[kept])
    predicted = scores > 0
    assert multilabel.confusion(predicted, truth, ignore) == multilabel.confusion(
        predicted[kept], truth[kept]
    )


def test_voc07_is_the_table_worked_by_hand():
    # rank      1    2    3    4    5    6    7    8      four positives
    truth = [1, 0, 1, 0, 0, 1, 0, 1]
    # recall  .25  .25  .50  .50  .50  .75  .75  1
    # prec.    1   1/2  2/3  2/4  2/5  3/6  3/7  4/8
    # best precision at recall >= 0, .1, .2: 1;  .3, .4, .5: 2/3;  .6, .7: 1/2;  .8, .9, 1: 1/2
    expected = (3 * 1 + 3 * 2 / 3 + 2 * 1 / 2 + 3 * 1 / 2) / 11
    scores = -np.arange(8.0)[:, None]
    ours = multilabel.average_precision_voc07(scores, np.array(truth)[:, None])
    assert ours[0] == pytest.approx(expected, abs=EXACT)


def test_voc07_counts_a_recall_of_exactly_three_tenths():
    # Ten positives; three are found first, then nine negatives, then the rest: 0.3 is reached at
    # precision 1, although 3/10 and 0.1 * 3 are different floats.
    truth = np.array([1] * 3 + [0] * 9 + [1] * 7)[:, None]
    ours = multilabel.average_precision_voc07(-np.arange(19.0)[:, None], truth)[0]
    assert ours == pytest.approx((4 * 1 + 7 * 10 / 19) / 11, abs=EXACT)


def test_a_class_without_positives_has_no_ap_and_leaves_the_mean_alone():
    scores, truth = draw(4, classes=3)
    truth[:, 1] = False
    for measure in (multilabel.average_precision, multilabel.average_precision_voc07):
        ap = measure(scores, truth)
        assert np.isnan(ap[1]) and not np.isnan(ap[[0, 2]]).any()
        assert multilabel.mean_defined(ap) == pytest.approx(ap[[0, 2]].mean())


def test_everything_ignored_has_no_value_and_no_warning(recwarn):
    scores, truth = draw(5, classes=2)
    everything = np.ones_like(truth)
    assert np.isnan(multilabel.average_precision(scores, truth, everything)).all()
    counts = multilabel.confusion(scores > 0, truth, everything)
    assert all(np.isnan(value) for value in multilabel.macro(counts).values())
    assert not recwarn.list


def test_one_picture_one_class():
    assert multilabel.average_precision([[0.2]], [[True]]) == [1.0]
    assert np.isnan(multilabel.average_precision([[0.2]], [[False]])).all()


def test_rates_are_scikit_learns():
    scores, truth = draw(6)
    predicted = scores > 0.4
    counts = multilabel.confusion(predicted, truth)
    ours = multilabel.rates(counts)
    for c in range(truth.shape[1]):
        t, p = truth[:, c], predicted[:, c]
        assert ours["accuracy"][c] == pytest.approx(sk.accuracy_score(t, p), abs=EXACT)
        assert ours["sensitivity"][c] == pytest.approx(sk.recall_score(t, p), abs=EXACT)
        assert ours["specificity"][c] == pytest.approx(sk.recall_score(~t, ~p), abs=EXACT)
        assert ours["precision"][c] == pytest.approx(sk.precision_score(t, p), abs=EXACT)
        assert ours["f1"][c] == pytest.approx(sk.f1_score(t, p), abs=EXACT)
    for ours, average in ((multilabel.macro(counts), "macro"), (multilabel.micro(counts), "micro")):
        assert ours["f1"] == pytest.approx(sk.f1_score(truth, predicted, average=average))
        assert ours["precision"] == pytest.approx(
            sk.precision_score(truth, predicted, average=average)
        )
        assert ours["sensitivity"] == pytest.approx(
            sk.recall_score(truth, predicted, average=average)
        )


def test_undefined_rates():
    truth = np.array([[1, 0, 1], [1, 0, 0]], bool)
    predicted = np.array([[1, 1, 0], [0, 0, 0]], bool)
    ours = multilabel.rates(multilabel.confusion(predicted, truth))
    # First class: no negatives. Second: no positives. Third: a positive that was missed.
    np.testing.assert_array_equal(ours["specificity"], [np.nan, 0.5, 1])
    np.testing.assert_array_equal(ours["sensitivity"], [0.5, np.nan, 0])
    np.testing.assert_array_equal(ours["precision"], [1, 0, np.nan])
    np.testing.assert_array_equal(ours["f1"], [2 / 3, np.nan, 0])


def test_weights_count_a_picture_as_often_as_it_was_drawn():
    scores, truth = draw(7, pictures=40, levels=2)
    weights = bootstrap_weights(40, 6, seed=0)
    assert (weights.sum(axis=0) == 40).all()
    all_points = multilabel.average_precision(scores, truth, weights=weights)
    voc07 = multilabel.average_precision_voc07(scores, truth, weights=weights)
    counts = multilabel.confusion(scores > 0, truth, weights=weights)
    for r in range(6):
        drawn = np.repeat(np.arange(40), weights[:, r])
        np.testing.assert_allclose(
            all_points[:, r],
            multilabel.average_precision(scores[drawn], truth[drawn]),
            atol=EXACT,
        )
        np.testing.assert_allclose(
            voc07[:, r],
            multilabel.average_precision_voc07(scores[drawn], truth[drawn]),
            atol=EXACT,
        )
        plain = multilabel.confusion(scores[drawn] > 0, truth[drawn])
        for ours, expected in zip(counts, plain, strict=True):
            np.testing.assert_array_equal(ours[:, r], expected)


def test_weighted_average_precision_without_a_drawn_positive_is_undefined():
    weights = np.array([[0], [2]], np.int16)
    for measure in (multilabel.average_precision, multilabel.average_precision_voc07):
        assert np.isnan(measure([[1.0], [0.0]], [[True], [False]], weights=weights)).all()


def test_bootstrap_is_fixed_by_its_seed_and_covers_the_mean():
    first = bootstrap_weights(50, 20, seed=1)
    np.testing.assert_array_equal(first, bootstrap_weights(50, 20, seed=1))
    assert (first != bootstrap_weights(50, 20, seed=2)).any()
    # The standard error of a mean is known: the interval must be about +-1.96 of it.
    values = np.random.default_rng(0).normal(size=400)
    weights = bootstrap_weights(400, 2000, seed=0)
    low, high = interval(values @ weights / 400)
    expected = 1.96 * values.std() / 20
    assert values.mean() - low == pytest.approx(expected, rel=0.1)
    assert high - values.mean() == pytest.approx(expected, rel=0.1)


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="1 of 2 that are NaN"):
        multilabel.average_precision([[np.nan], [1.0]], [[True], [False]])


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="one \\(N,C\\) shape"):
        multilabel.average_precision(np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="weights must be"):
        multilabel.average_precision(np.zeros((2, 3)), np.zeros((2, 3)), weights=np.ones((3, 1)))
