"""Thresholds for another objective, from kept scores: what a new measurement would have fitted."""

import numpy as np
import pytest

from tfclip.evaluation.decisions.fit import fit_all
from tfclip.evaluation.decisions.kept_calibration import refitted_thresholds
from tfclip.evaluation.decisions.options import MultilabelOptions
from tfclip.evaluation.decisions.scored_images import ScoredPictures

NAMES = ("cat", "dog", "cow")


def scored():
    rng = np.random.default_rng(5)
    present = rng.random((60, 3)) < (0.4, 0.3, 0.1)
    difficult = present & (rng.random((60, 3)) < 0.1)
    scores = (0.2 + 0.1 * present + rng.normal(0, 0.05, (60, 3))).astype(np.float32)
    keys = tuple(map(str, range(60)))
    return ScoredPictures("val", NAMES, keys, present, difficult, scores[:, None], 0)


def content_of(fitted, options):
    return {
        "class_names": list(NAMES),
        "objective": options.objective,
        "shrink": options.shrink,
        "seed": options.seed,
        "unshrunk_per_class": dict(zip(NAMES, fitted.unshrunk.per_class.tolist(), strict=True)),
    }


def keep(run, part, name="voc"):
    (run / "metrics").mkdir(exist_ok=True)
    arrays = {
        f"calibration_{field}": getattr(part, field) for field in ("scores", "present", "difficult")
    }
    np.savez(run / "metrics" / f"{name}_scores.npz", class_names=NAMES, **arrays)


@pytest.mark.parametrize("shrink", [True, False])
@pytest.mark.parametrize("objective", ["sensitivity:0.9", "precision:0.7", "accuracy"])
def test_refitted_thresholds_are_those_of_a_new_measurement(tmp_path, objective, shrink):
    part, before = scored(), MultilabelOptions(shrink=shrink, seed=3)
    content = content_of(fit_all(part, before, 20.0), before)
    keep(tmp_path, part)
    after = MultilabelOptions(objective=objective, shrink=shrink, seed=3)
    expected = fit_all(part, after, 20.0).thresholds.per_class
    found = refitted_thresholds(tmp_path, content, objective)
    assert list(found.values()) == expected.tolist()
    # The promise is kept on the calibration split itself, where nothing is shrunk.
    if objective.startswith("sensitivity") and not shrink:
        counted = part.present & ~part.difficult
        decided = part.scores >= np.array(list(found.values()), np.float32)
        assert ((decided & counted).sum(0) >= 0.9 * counted.sum(0)).all()


def test_scores_of_another_measurement_are_not_used(tmp_path):
    part, options = scored(), MultilabelOptions()
    content = content_of(fit_all(part, options, 20.0), options)
    with pytest.raises(ValueError, match="keeps no calibration scores"):
        refitted_thresholds(tmp_path, content, "youden")
    other = ScoredPictures(
        "val", NAMES, part.keys, part.present, part.difficult, part.view_scores * 0.9, 0
    )
    keep(tmp_path, other)
    with pytest.raises(ValueError, match="keeps no calibration scores"):
        refitted_thresholds(tmp_path, content, "youden")
    keep(tmp_path, part, "multilabel-own")
    assert refitted_thresholds(tmp_path, content, "youden").keys() == set(NAMES)
    with pytest.raises(ValueError, match="fitted without labels"):
        refitted_thresholds(tmp_path, {**content, "objective": None}, "youden")
