"""The multi-label measurement where little is left: ties, one picture, one class, only difficult.

The embeddings are made by hand, so that every cosine is known.
"""

import numpy as np
import pytest

from tfclip.console import json_text
from tfclip.evaluation.datasets.multilabel_images import LabelledPictures
from tfclip.evaluation.decisions.options import MultilabelOptions
from tfclip.evaluation.embedding.prompts import TEMPLATES
from tfclip.evaluation.report.text_tables import multilabel_table
from tfclip.evaluation.tasks.multilabel import evaluate_multilabel

NAMES = ("cat", "dog", "cow")


class MadeEmbeddings:
    """A class is an axis; a picture's cosine with each class is given."""

    logit_scale = 20.0

    def __init__(self, cosines, names=NAMES):
        self.trained_on = {}
        self._cosines, self._names = cosines, names

    def texts(self, texts):
        hits = [[name in text for name in self._names] for text in texts]
        return np.array([[*hit, False] for hit in hits], np.float32)

    def views(self, pictures, tiles):
        cosines = np.asarray(self._cosines[pictures.split], np.float32)
        rest = np.sqrt(np.maximum(0, 1 - (cosines**2).sum(axis=1, keepdims=True)))
        whole = np.concatenate([cosines, rest], axis=1)[:, None]
        views = {"1": 1, "1+4": 5, "1+4+9": 14}[tiles]
        return np.arange(len(cosines)), np.repeat(whole, views, axis=1).astype(np.float32)


def labelled(split, present, difficult=None, names=NAMES):
    present = np.array(present, bool)
    difficult = np.zeros_like(present) if difficult is None else np.array(difficult, bool)
    keys = tuple(f"{split}/{row}" for row in range(len(present)))
    return LabelledPictures(split, names, keys, present, difficult, None)


def drawn(split, count, seed):
    rng = np.random.default_rng(seed)
    present = rng.random((count, 3)) < 0.3
    return labelled(split, present), 0.1 * rng.normal(size=present.shape) + 0.2 * present


def test_the_oracle_is_a_bound_and_the_shares_stand_side_by_side():
    (test, on_test), (calibration, on_calibration) = drawn("test", 80, 0), drawn("cal", 60, 1)
    cosines = {"test": on_test, "cal": on_calibration}
    figures = evaluate_multilabel(MadeEmbeddings(cosines), test, calibration).figures
    oracle = figures["oracle"]
    for other in (figures, figures["unshrunk"], figures["global"], figures["softmax"]):
        assert other["macro"]["f1"] <= oracle["macro"]["f1"] + 1e-12
    gap = oracle["macro"]["f1"] - figures["macro"]["f1"]
    assert oracle["macro_f1_gap"] == pytest.approx(gap) and gap >= 0
    low, high = oracle["macro_f1_gap_interval"]
    assert low <= gap <= high
    told = multilabel_table(figures)
    assert "oracle (fitted on test)" in told and "softmax, per class" in told


def test_confused_classes_are_counted_picture_by_picture():
    (test, on_test), (calibration, on_calibration) = drawn("test", 50, 2), drawn("cal", 60, 3)
    cosines = {"test": on_test, "cal": on_calibration}
    found = evaluate_multilabel(MadeEmbeddings(cosines), test, calibration)
    thresholds = [found.thresholds["per_class"][name] for name in NAMES]
    shares = found.figures["confusion"]["shares"]
    for shown in range(3):
        for other in range(3):
            rows = [
                row
                for row in range(50)
                if test.present[row, shown] and not test.present[row, other]
            ]
            wrong = [row for row in rows if found.test.scores[row, other] >= thresholds[other]]
            if shown == other:
                assert np.isnan(shares[shown][other])
            else:
                assert shares[shown][other] == pytest.approx(len(wrong) / len(rows))


def test_pictures_without_a_predicted_class_are_counted():
    """Rate, precision and recall of "none of these", by hand."""
    present = [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    difficult = np.zeros((6, 3))
    difficult[4, 2] = True  # its only class is difficult: whether "none" is right is undefined
    # The thresholds fitted on `cal` are 0.5: predicted are cat in 0 and 2.
    cosines = {
        "test": [[0.7, 0, 0], [0.1, 0, 0], [0.7, 0, 0], [0, 0.1, 0], [0, 0, 0.2], [0.2, 0, 0.3]],
        "cal": [[0.6, 0, 0], [0, 0.6, 0], [0, 0, 0.6], [0.4, 0.4, 0.4]] * 5,
    }
    calibration = labelled("cal", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]] * 5)
    figures = evaluate_multilabel(
        MadeEmbeddings(cosines), labelled("test", present, difficult), calibration
    ).figures
    none = figures["none_of_these"]
    assert none["pictures"] == 3
    assert none["rate"] == pytest.approx(4 / 6)  # 1, 3, 4, 5
    assert none["precision"] == pytest.approx(2 / 3)  # of 1, 3, 5; not 3
    assert none["sensitivity"] == pytest.approx(2 / 3)  # of 1, 2, 5; not 2
    for name, (low, high) in none["intervals"].items():
        assert low < none[name] < high
    table = multilabel_table(figures)
    (line,) = (line for line in table.splitlines() if "none of these" in line)
    assert "0.667" in line
    assert "of the 3 that show none, found" in table


def test_views_that_are_alike_fuse_to_themselves_and_gain_nothing():
    (test, on_test), (calibration, on_calibration) = drawn("test", 40, 4), drawn("cal", 40, 5)
    embeddings = MadeEmbeddings({"test": on_test, "cal": on_calibration})
    for fusion in ("max", "logsumexp"):
        options = MultilabelOptions(tiles="1+4+9", fusion=fusion)
        figures = evaluate_multilabel(embeddings, test, calibration, options).figures
        assert figures["map_gain_by_tiles"] == pytest.approx(0, abs=1e-6)


def test_other_templates_are_measured_when_asked_for():
    (test, on_test), (calibration, on_calibration) = drawn("test", 40, 4), drawn("cal", 40, 5)
    embeddings = MadeEmbeddings({"test": on_test, "cal": on_calibration})
    figures = evaluate_multilabel(embeddings, test, calibration).figures
    assert "by_templates" not in figures and "templates  " not in multilabel_table(figures)
    figures = evaluate_multilabel(
        embeddings, test, calibration, MultilabelOptions(all_templates=True)
    ).figures
    assert list(figures["by_templates"]) == list(TEMPLATES)
    single = {"map": figures["map"], "interval": figures["intervals"]["map"]}
    assert figures["by_templates"]["single"] == single
    assert "mAP by templates" in multilabel_table(figures)


def test_one_picture_of_one_class_with_all_scores_tied():
    test = labelled("test", [[True]], names=("cat",))
    calibration = labelled("cal", [[True], [False]], names=("cat",))
    embeddings = MadeEmbeddings({"test": [[0.5]], "cal": [[0.5], [0.5]]}, ("cat",))
    result = evaluate_multilabel(embeddings, test, calibration)
    figures = result.figures
    assert figures["map"] == 1 and figures["shrinkage"] == 0
    # Nothing tells the two apart: everything is predicted, which is best for F1.
    assert figures["macro"]["f1"] == 1 and figures["macro"]["specificity"] != 0
    assert "null" in json_text(figures)
    assert "cat" in multilabel_table(figures)


def test_a_test_split_of_only_difficult_objects_has_no_shares():
    test = labelled("test", [[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 1, 0]])
    calibration, cosines = drawn("cal", 30, 6)
    embeddings = MadeEmbeddings({"test": [[0.3, 0, 0], [0, 0.3, 0]], "cal": cosines})
    figures = evaluate_multilabel(embeddings, test, calibration).figures
    assert figures["map"] == 1.0  # difficult objects are objects there
    assert np.isnan(figures["map_voc07"]) and np.isnan(figures["macro"]["f1"])
    assert figures["per_class"]["cat"]["difficult"] == 1
    assert "0.300" not in multilabel_table(figures).splitlines()[1]


def test_negatives_alone_keep_their_promise_on_pictures_alike():
    rng = np.random.default_rng(0)
    present = rng.random((3000, 3)) < 0.2
    cosines = {
        "test": 0.1 * rng.normal(size=present.shape) + 0.2 * present,
        "pictures": 0.1 * rng.normal(size=(2000, 3)),
    }
    unknown = labelled("pictures", np.zeros((2000, 3)))
    options = MultilabelOptions(false_positives=0.05)
    test = labelled("test", present)
    result = evaluate_multilabel(MadeEmbeddings(cosines), test, unknown, options)
    promised = result.figures["negatives"]
    assert promised["promised_false_positive_rate"] == 0.05
    for name in NAMES:
        assert promised["per_class"][name] == pytest.approx(0.05, abs=0.02)
    assert result.figures["macro"]["sensitivity"] > 0.5
    assert result.thresholds["calibration"] is None and "oracle" not in result.figures
    assert "exceeds the bound" not in multilabel_table(result.figures)
    other = cosines | {"test": cosines["test"] + 0.05}
    figures = evaluate_multilabel(MadeEmbeddings(other), test, unknown, options).figures
    assert "The measured rate exceeds the bound: the pictures of test differ" in multilabel_table(
        figures
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"fusion": "median"}, "unknown fusion"),
        ({"tiles": "2x2"}, "unknown tile layout"),
        ({"probabilities": "beta"}, "unknown probabilities"),
        ({"false_positives": 1.0}, "allowed: above 0, below 1"),
        ({"fusion": "learnt"}, "allowed: max, logsumexp"),
        ({"seed": -1}, "received seed -1"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked, told):
    with pytest.raises(ValueError, match=told):
        MultilabelOptions(**asked)
