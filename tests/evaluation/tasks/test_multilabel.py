"""`evaluate voc`: its figures from the scores by scikit-learn and by hand, and what it refuses."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from tfclip.console import json_text
from tfclip.evaluation.datasets.multilabel_images import (
    LabelledPictures,
    labelled_records,
    labelled_source,
)
from tfclip.evaluation.datasets.views import WHOLE_PICTURE
from tfclip.evaluation.decisions.options import MultilabelOptions
from tfclip.evaluation.decisions.scored_images import embed_labelled
from tfclip.evaluation.embedding.cache import ModelEmbeddings
from tfclip.evaluation.embedding.embed import class_embeddings
from tfclip.evaluation.tasks.map_during_training import SplitScorer
from tfclip.evaluation.tasks.multilabel import evaluate_multilabel
from tfclip.sources.registry import open_source
from tfclip.sources.sample import Sample, Source
from tfclip.sources.shapes import CLASS_NAMES, NEVER_TRAINED


@pytest.fixture(scope="module")
def pictures(voc_records) -> dict[str, LabelledPictures]:
    return {split: labelled_records(voc_records, split) for split in ("test", "trainval")}


@pytest.fixture(scope="module")
def measured(tiny_model, pictures):
    return evaluate_multilabel(
        ModelEmbeddings(tiny_model),
        pictures["test"],
        pictures["trainval"],
        MultilabelOptions(tiles="1+4", shrink=False, seed=3),
        never_trained=NEVER_TRAINED,
    )


def mean_ap(scores, truth, columns=slice(None)) -> float:
    ap = [
        sk.average_precision_score(truth[:, c], scores[:, c])
        for c in np.arange(truth.shape[1])[columns]
        if truth[:, c].any()
    ]
    return float(np.mean(ap))


def test_map_is_scikit_learns_with_difficult_objects_as_objects(measured):
    figures, test = measured.figures, measured.test
    assert test.difficult.any() and (test.present & test.difficult).sum() == test.difficult.sum()
    scores = test.view_scores.max(axis=1)
    assert figures["map"] == pytest.approx(mean_ap(scores, test.present), abs=1e-9)
    whole = mean_ap(test.view_scores[:, 0], test.present)
    assert figures["map_one_view"] == pytest.approx(whole, abs=1e-9)
    unseen = np.isin(CLASS_NAMES, NEVER_TRAINED)
    assert figures["never_trained"] == [name for name in CLASS_NAMES if name in NEVER_TRAINED]
    assert figures["map_unseen"] == pytest.approx(mean_ap(scores, test.present, unseen), abs=1e-9)
    assert figures["map_seen"] == pytest.approx(mean_ap(scores, test.present, ~unseen), abs=1e-9)


def test_shares_are_scikit_learns_without_the_difficult_cells(measured):
    figures, test = measured.figures, measured.test
    kept = ~test.difficult
    macro = []
    for c, name in enumerate(CLASS_NAMES):
        row = figures["per_class"][name]
        truth = test.present[kept[:, c], c]
        predicted = test.scores[kept[:, c], c] >= measured.thresholds["per_class"][name]
        assert row["threshold"] == measured.thresholds["per_class"][name]
        assert row["positives"] == test.present[:, c].sum()
        assert row["accuracy"] == pytest.approx(sk.accuracy_score(truth, predicted))
        if truth.any():
            assert row["sensitivity"] == pytest.approx(sk.recall_score(truth, predicted))
            assert row["specificity"] == pytest.approx(
                sk.recall_score(truth, predicted, pos_label=0)
            )
            assert row["f1"] == pytest.approx(sk.f1_score(truth, predicted, zero_division=0))
            macro.append(row["f1"])
    assert figures["macro"]["f1"] == pytest.approx(np.mean(macro))
    predicted = test.scores >= np.array(list(measured.thresholds["per_class"].values()))
    truth = test.present[kept]
    assert figures["micro"]["f1"] == pytest.approx(sk.f1_score(truth, predicted[kept]))
    overall = test.scores[kept] >= measured.thresholds["global"]
    assert figures["global"]["micro"]["accuracy"] == pytest.approx(np.mean(overall == truth))


def test_thresholds_are_the_best_on_the_calibration_split(measured):
    calibration = measured.calibration
    for c, name in enumerate(CLASS_NAMES):
        kept = ~calibration.difficult[:, c]
        truth, scores = calibration.present[kept, c], calibration.scores[kept, c]
        predicted = scores >= scores[:, None]
        best = (2 * (predicted & truth).sum(1) / (predicted.sum(1) + truth.sum())).max()
        chosen = scores >= measured.thresholds["per_class"][name]
        assert sk.f1_score(truth, chosen) == pytest.approx(best)


def test_the_softmax_variant_thresholds_the_softmax_over_classes(measured, tiny_model):
    scale = float(tiny_model.dual_encoder.temperature())
    probabilities = softmax(scale * measured.test.scores.astype(np.float64), axis=1)
    kept = ~measured.test.difficult
    predicted = probabilities >= measured.thresholds["softmax_global"]
    expected = sk.f1_score(measured.test.present[kept], predicted[kept])
    assert measured.figures["softmax"]["global"]["micro"]["f1"] == pytest.approx(expected)
    fitted = np.array(list(measured.thresholds["softmax_per_class"].values()))
    expected = sk.recall_score(measured.test.present[kept], (probabilities >= fitted)[kept])
    assert measured.figures["softmax"]["micro"]["sensitivity"] == pytest.approx(expected)


def test_intervals_hold_their_figures_and_only_they_depend_on_the_seed(
    measured, tiny_model, pictures
):
    figures = measured.figures
    for name, (low, high) in figures["intervals"].items():
        mean, _, share = name.partition("_")
        figure = figures[name] if mean == "map" else figures[mean][share]
        assert low < figure < high
        assert high - low < 0.35
    other = evaluate_multilabel(
        ModelEmbeddings(tiny_model),
        pictures["test"],
        pictures["trainval"],
        MultilabelOptions(tiles="1+4", shrink=False, seed=4),
        never_trained=NEVER_TRAINED,
    ).figures
    assert other["intervals"]["map"] != figures["intervals"]["map"]
    of_seed = {"intervals": None, "seed": None, "oracle": None}
    assert json_text(other | of_seed) == json_text(figures | of_seed)


def test_the_raw_devkit_gives_the_scores_of_its_records(tiny_model, drawn_sets, pictures, measured):
    source = open_source("voc", drawn_sets / "voc")
    raw = {split: labelled_source(source, split) for split in ("test", "trainval")}
    for split, other in pictures.items():
        assert raw[split].keys == other.keys
        np.testing.assert_array_equal(raw[split].present, other.present)
        np.testing.assert_array_equal(raw[split].difficult, other.difficult)
    classes = class_embeddings(tiny_model, CLASS_NAMES, ("a photo of a {}.",))
    scored = embed_labelled(ModelEmbeddings(tiny_model), raw["test"]).score(classes)
    np.testing.assert_allclose(scored.scores, measured.test.one_view, atol=1e-6)


def test_a_class_without_positives_has_no_ap_and_is_named(tiny_model, pictures):
    test, calibration = pictures["test"], pictures["trainval"]
    gone = {"present": test.present.copy(), "difficult": test.difficult.copy()}
    for cells in gone.values():
        cells[:, 2] = False
    unknown = {"present": calibration.present.copy(), "difficult": calibration.difficult.copy()}
    for cells in unknown.values():
        cells[:, 5] = False
    found = evaluate_multilabel(
        ModelEmbeddings(tiny_model),
        dataclasses.replace(test, **gone),
        dataclasses.replace(calibration, **unknown),
    )
    figures = found.figures
    assert figures["without_positives"] == [CLASS_NAMES[2]]
    assert np.isnan(figures["per_class"][CLASS_NAMES[2]]["ap"])
    others = np.arange(20) != 2
    expected = mean_ap(found.test.scores, gone["present"], others)
    assert figures["map"] == pytest.approx(expected, abs=1e-9)
    assert figures["global_threshold_for"] == [CLASS_NAMES[5]]
    assert found.thresholds["per_class"][CLASS_NAMES[5]] == found.thresholds["global"]
    assert '"ap": null' in json_text(figures)


def test_it_says_which_never_trained_classes_it_calibrated_on(tiny_model, pictures):
    known = dataclasses.replace(tiny_model, trained_on={"never_trained": ["red star", "a dog"]})
    figures = evaluate_multilabel(
        ModelEmbeddings(known), pictures["test"], pictures["trainval"]
    ).figures
    assert figures["never_trained"] == figures["never_trained_in_calibration"] == ["red star"]
    figures = evaluate_multilabel(
        ModelEmbeddings(tiny_model), pictures["test"], pictures["trainval"]
    ).figures
    assert figures["never_trained"] == [] and "map_unseen" not in figures


def test_splits_that_share_pictures_are_refused(tiny_model, voc_records, pictures):
    train = labelled_records(voc_records, "train")
    with pytest.raises(ValueError, match="20 pictures of split train are in split trainval too"):
        evaluate_multilabel(ModelEmbeddings(tiny_model), train, pictures["trainval"])
    other = dataclasses.replace(pictures["test"], class_names=tuple(reversed(CLASS_NAMES)))
    with pytest.raises(ValueError, match="different class names"):
        evaluate_multilabel(ModelEmbeddings(tiny_model), other, pictures["trainval"])


def made_source(**labels) -> Source:
    samples = {"test": [Sample("made/1", Path("made.jpg"), split="test", **labels)]}
    return Source("made", {"test": 1}, lambda split: iter(samples[split]), ("cat", "dog"))


def test_a_split_without_annotations_is_refused():
    assert labelled_source(made_source(difficult=("dog",)), "test").difficult.tolist() == [
        [False, True]
    ]
    with pytest.raises(ValueError, match="test has no annotations"):
        labelled_source(made_source(), "test")
    with pytest.raises(ValueError, match="unknown class 'cow'; known, nearest first: "):
        labelled_source(made_source(labels=("cow",)), "test")
    with pytest.raises(
        ValueError, match="unknown split of made 'tset'; known, nearest first: test"
    ):
        labelled_source(made_source(), "tset")


def test_records_without_classes_are_refused(flickr8k_records):
    with pytest.raises(ValueError, match="have no class names; pack labelled ones"):
        labelled_records(flickr8k_records, "dev")


def test_the_scorer_for_training_is_the_one_view_map_with_the_weights_of_the_moment(
    tiny_model, voc_records, measured
):
    scorer = SplitScorer(tiny_model, voc_records, "test")
    assert scorer.map() == pytest.approx(measured.figures["map_one_view"], abs=1e-6)
    head = tiny_model.dual_encoder.image_head.dense.kernel
    before = head.numpy()
    try:
        head.assign(np.random.default_rng(0).normal(size=before.shape))
        changed = scorer.map()
        assert changed != pytest.approx(measured.figures["map_one_view"], abs=1e-6)
    finally:
        head.assign(before)
    assert scorer.map() == pytest.approx(measured.figures["map_one_view"], abs=1e-6)


def test_several_splits_are_one(voc_records):
    from tfclip.evaluation.datasets.multilabel_images import labelled_records

    whole = labelled_records(voc_records, "train+val")
    parts = [labelled_records(voc_records, split) for split in ("train", "val")]
    assert whole.split == "train+val"
    assert whole.keys == parts[0].keys + parts[1].keys
    np.testing.assert_array_equal(whole.present, np.concatenate([p.present for p in parts]))
    seen = list(whole.views(16, WHOLE_PICTURE).as_numpy_iterator())
    assert [row for row, _ in seen] == list(range(len(whole.keys)))
    alone = [
        views for part in parts for _, views in part.views(16, WHOLE_PICTURE).as_numpy_iterator()
    ]
    np.testing.assert_array_equal([views for _, views in seen], alone)
