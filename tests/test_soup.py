"""Mixes of two runs: the ends are the runs, the middle is the mean, and the table is measured."""

import json
from pathlib import Path

import numpy as np
import pytest

from tfclip.models.mixing import Line
from tfclip.models.saving import load_model, save_model
from tfclip.models.weights.clip.convert import convert_clip
from tfclip.soup import main

CLIPS = Path(__file__).parent / "models" / "weights" / "clips"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A model, and the same one with its pictures' projection moved."""
    folder = tmp_path_factory.mktemp("runs")
    model, _ = convert_clip(CLIPS / "hugging_face_quick_gelu")
    save_model(folder / "a" / "best", model)
    for variable in model.dual_encoder.image_head.weights:
        noise = np.random.default_rng(0).normal(0, 0.1, variable.shape)
        variable.assign(np.asarray(variable) + noise)
    save_model(folder / "b" / "best", model)
    other, _ = convert_clip(CLIPS / "open_clip_gelu")
    save_model(folder / "other" / "best", other)
    return folder


def test_weights_lie_on_the_line(runs):
    line = Line(runs / "a", runs / "b")
    ends = [load_model(runs / name).dual_encoder.weights for name in "ab"]
    for alpha in (0.0, 0.25, 1.0):
        mixed = line.at(alpha).dual_encoder.weights
        for a, b, value in zip(*ends, mixed, strict=True):
            wanted = (1 - alpha) * np.asarray(a, "float64") + alpha * np.asarray(b, "float64")
            np.testing.assert_allclose(value, wanted, atol=1e-6)


@pytest.mark.slow
def test_the_command_measures_and_writes_the_chosen_mix(runs, voc_records, tmp_path, capsys):
    words = [str(runs / "a"), str(runs / "b"), "--run", str(tmp_path / "mix")]
    words += ["--alpha", "0:1:0.5", "--measure", f"voc={voc_records}:train", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["alpha"] for row in told["rows"]] == [0, 0.5, 1]
    measured = {row["alpha"]: row[f"voc={voc_records}:train"] for row in told["rows"]}
    assert told["alpha"] == max(measured, key=measured.get)
    wanted = Line(runs / "a", runs / "b").at(told["alpha"]).dual_encoder.weights
    for value, other in zip(load_model(tmp_path / "mix").dual_encoder.weights, wanted, strict=True):
        np.testing.assert_allclose(value, other, atol=1e-6)
    assert "<svg" in (tmp_path / "mix" / "soup.html").read_text()
    # The end of the line is what the run itself is measured at.
    from tfclip.evaluation.tasks.map_during_training import SplitScorer

    own = SplitScorer(load_model(runs / "b"), voc_records, "train").map()
    assert measured[1.0] == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--alpha", "0:2:0.5"], "--alpha"),
        (["--alpha", "x"], "--alpha"),
        (["--choose", "0.33"], "--choose"),
        (["--measure", "accuracy=RECORDS:train"], "accuracy"),
        (["--measure", "voc"], "KIND=RECORDS:SPLIT"),
    ],
)
def test_mistakes_are_one_line(runs, voc_records, tmp_path, capsys, words, told):
    words = [word.replace("RECORDS", str(voc_records)) if "=" in word else word for word in words]
    begin = [str(runs / "a"), str(runs / "b"), "--run", str(tmp_path / "mix")]
    if "--measure" not in words:
        begin += ["--measure", f"voc={voc_records}:train"]
    assert main([*begin, *words]) == 2
    assert told in capsys.readouterr().err.strip().splitlines()[-1]


def test_models_that_do_not_fit_are_refused(runs):
    with pytest.raises(ValueError, match="cannot be mixed"):
        Line(runs / "a", runs / "other")
