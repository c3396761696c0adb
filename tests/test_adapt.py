"""`tfclip.adapt` on a run: what evaluate, predict and export then use."""

import json
import shutil

import numpy as np
import pytest

from tfclip.adapt import main
from tfclip.evaluate import main as evaluate
from tfclip.evaluation.decisions.adapted_classes import read_adapted
from tfclip.models.model_directory import model_fingerprint
from tfclip.serving.classifier import Classifier


@pytest.fixture(scope="module")
def run(tiny_run, voc_records, tmp_path_factory):
    place = tmp_path_factory.mktemp("adapted") / "run"
    shutil.copytree(tiny_run, place)
    words = [str(place), "--records", str(voc_records), "--split", "train", "--templates", "single"]
    assert main(words) == 0
    return place


def test_the_classes_are_used_as_texts_are(run, tiny_model):
    from tfclip.serving.served_model import ServedModel

    adapted = read_adapted(run, "own", model_fingerprint(run))
    names = adapted.class_names[::-1]
    classifier = Classifier.from_thresholds(run / "thresholds.json", run, names)
    np.testing.assert_array_equal(classifier.embeddings, adapted.embeddings[::-1])
    assert len(classifier.thresholds) == len(names) and classifier.calibration is not None
    served = ServedModel(tiny_model, classifier)
    np.testing.assert_array_equal(served._class_embeddings, adapted.embeddings[::-1])


def test_thresholds_of_another_objective_come_from_held_out_scores(run):
    adapted = read_adapted(run, "own", model_fingerprint(run))
    found = Classifier.from_thresholds(run / "thresholds.json", run, objective="sensitivity:1")
    counted = adapted.present & ~adapted.difficult
    for c, threshold in enumerate(found.thresholds):
        if counted[:, c].sum() >= 5:
            # Shrunk thresholds may miss a positive; those of the class itself do not.
            assert (adapted.held_out[counted[:, c], c] >= threshold).mean() > 0.5


def test_evaluate_measures_them_on_other_pictures_alone(run, voc_records, capsys):
    place = run.parent / "measured"
    shutil.copytree(run, place)
    records = ["--records", str(voc_records), "--adapted", "own"]
    words = [str(place), "multilabel", *records, "--calibrate", "train", "--split"]
    assert evaluate([*words, "val", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["adapted"] == "own"
    adapted = read_adapted(place, "own", model_fingerprint(place))
    with np.load(place / "metrics" / "multilabel-voc-own_scores.npz") as kept:
        np.testing.assert_array_equal(kept["calibration_scores"], adapted.held_out)
        embedded = kept["test_scores"]
    assert embedded.shape[1] == len(adapted.class_names)
    assert json.loads((place / "thresholds.json").read_text())["adapted"] == "own"
    words[words.index("--calibrate") + 1] = "val"
    assert evaluate([*words, "train"]) == 2
    assert "measure on others" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--split", "tset"], "unknown split"),
        (["--name", "a/b"], "letters, digits"),
        (["--objective", "f3"], "unknown objective"),
        (["--templates", "singel"], "nearest first: single"),
    ],
)
def test_mistakes_in_one_line(tiny_run, voc_records, capsys, words, said):
    assert main([str(tiny_run), "--records", str(voc_records), *words]) == 2
    assert said in capsys.readouterr().err


def test_classes_of_another_model_are_refused(run, capsys):
    with pytest.raises(ValueError, match="another model"):
        read_adapted(run, "own", "0" * 64)
    with pytest.raises(FileNotFoundError, match="no adapted classes"):
        read_adapted(run, "other", model_fingerprint(run))
