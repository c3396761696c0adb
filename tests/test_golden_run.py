"""Runs that an earlier commit wrote are loaded, evaluated, resumed and exported with its numbers.

What they are and how they were made: golden_run/README.md. The numbers are those that the commit
printed, stored beside its files. On the machine they come from, weights and logs of the resumed
runs are equal bit for bit. Other CPUs have other vector widths, sum in another order and differ in
the last digits, which eight more steps of Adam make larger. Hence the two tolerances.
"""

import contextlib
import csv
import dataclasses
import io
import json
import shutil
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import tfclip
from tfclip import evaluate, export, fit, predict
from tfclip.training.options.recipes import RECIPES

GOLDEN = Path(__file__).with_name("golden_run")
CASES = json.loads((GOLDEN / "cases.json").read_text(encoding="utf-8"))
AS_STORED, RESUMED = 1e-6, 1e-4
# Not compared: they tell of the machine, or of the moment.
OF_THE_MOMENT = {"seconds", "machine", "model", "steps_per_second", "waiting", "picture"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The archive; no test writes into it."""
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(GOLDEN / "golden_run.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def expected(unpacked):
    return json.loads((unpacked / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture
def golden(unpacked, tmp_path, monkeypatch):
    """A copy to work in: the current directory, as for the commands that made it."""
    folder = shutil.copytree(unpacked, tmp_path / "golden")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["averaged", "locked"])
def test_a_run_of_before_is_read_and_answers_the_same(name, golden, expected):
    """As it was left by a kill: `load`, `evaluate`, `predict`, `export`, stored embeddings."""
    stored = states(golden / name / "embeddings")
    assert len(stored) == {"averaged": 11, "locked": 0}[name]
    assert_embeddings(name, expected[name]["killed"], AS_STORED)
    assert_answers(name, expected[name]["killed"], AS_STORED)
    after = states(golden / name / "embeddings")
    assert {path: after.get(path) for path in stored} == stored, "computed again, not found again"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["averaged", "locked"])
def test_a_run_of_before_is_resumed_to_the_same_end(name, golden, expected, monkeypatch, capfd):
    """By the command that began it; its checkpoint, callbacks, features and log are taken up."""
    features = states(golden / "features")
    assert len(features) == 3
    case = CASES[name]
    recipe = RECIPES["shapes"]
    defaults = {**recipe.defaults, **case["towers"]}
    small = dataclasses.replace(recipe, defaults=defaults, **case["sizes"])
    monkeypatch.setitem(RECIPES, "shapes", small)
    # The run validates on what it trains on, which is said today.
    assert fit.main([*case["fit"], "--val-in-training"]) == 0
    assert "resuming after step 6 of 14" in capfd.readouterr().err
    assert states(golden / "features") == features
    assert_same_log(
        io.StringIO((golden / name / "log.csv").read_text()), io.StringIO(expected[name]["log"])
    )
    ours, theirs = (
        weights(path)
        for path in (
            golden / name / "checkpoints" / "last" / "model.weights.h5",
            golden / f"{name}-last.weights.h5",
        )
    )
    assert ours.keys() == theirs.keys()
    for path, value in theirs.items():
        np.testing.assert_allclose(ours[path], value, rtol=0, atol=RESUMED, err_msg=path)
    answers = expected[name]["ended"]
    assert_embeddings(name, answers, RESUMED)
    if name == "locked":
        # The other has the same code of these commands behind it: that of the run as it was killed.
        assert_answers(name, answers, RESUMED)


def test_an_export_of_before_answers_the_same(golden, expected):
    words = ["exported-averaged/1", *pictures(golden)]
    assert_same(command(predict, words), expected["averaged"]["killed"]["exported"], AS_STORED)


def assert_embeddings(name, answers, tolerance):
    pictured = pictures(Path())
    clip, preprocess = tfclip.load(name)
    tokens = tfclip.tokenize(CASES[name]["texts"], clip)
    images = clip.encode_image(np.stack([preprocess(path) for path in pictured]))
    np.testing.assert_allclose(images, answers["images"], rtol=0, atol=tolerance)
    texts = clip.encode_text(tokens)
    np.testing.assert_allclose(texts, answers["texts"], rtol=0, atol=tolerance)


def assert_answers(name, answers, tolerance):
    run, pictured = Path(name), pictures(Path())
    # Other templates were measured unasked then.
    words = [*CASES[name]["evaluate"], "--all-templates"]
    assert_same(command(evaluate, words), answers["evaluate"], tolerance)
    words = [name, "retrieval", "--records", "records/flickr8k:dev"]
    assert_same(command(evaluate, words), answers["retrieval"], tolerance)
    thresholds = json.loads((run / "thresholds.json").read_text(encoding="utf-8"))
    assert_same(thresholds, answers["thresholds"], tolerance)
    assert_same(command(predict, [name, *pictured]), answers["predict"], tolerance)
    out = f"exported-anew-{name}"
    command(export, [name, "--out", out])
    assert_same(command(predict, [f"{out}/1", *pictured]), answers["exported"], tolerance)


def assert_same(found, expected, tolerance, path=""):
    """All that was answered then is answered now; what was added since may be there too."""
    if isinstance(expected, dict):
        for key in expected.keys() - OF_THE_MOMENT:
            assert key in found, f"{path}.{key} is missing"
            assert_same(found[key], expected[key], tolerance, f"{path}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), path
        if all(isinstance(each, dict) and "label" in each for each in expected):
            # Predictions are listed by decision now; they were in the order of the classes.
            found, expected = (
                sorted(each, key=lambda row: row["label"]) for each in (found, expected)
            )
        for number, pair in enumerate(zip(found, expected, strict=True)):
            assert_same(*pair, tolerance, f"{path}[{number}]")
    elif isinstance(expected, float):
        close = pytest.approx(expected, rel=tolerance, abs=tolerance, nan_ok=True)
        assert found == close, path
    else:
        assert found == expected, path


def assert_same_log(found, expected):
    ours, theirs = list(csv.DictReader(found)), list(csv.DictReader(expected))
    assert [row["epoch"] for row in ours] == ["0", "1", "2"]
    for our, their in zip(ours, theirs, strict=True):
        for column in their.keys() - OF_THE_MOMENT:
            relative = pytest.approx(float(their[column]), rel=RESUMED, abs=RESUMED)
            assert float(our[column]) == relative, column


def command(module, words) -> dict:
    """The result of a command that prints JSON."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert module.main([*map(str, words), "--json"]) == 0
    return json.loads(printed.getvalue().splitlines()[-1])


def pictures(folder: Path) -> list[str]:
    return [f"pictures/{path.name}" for path in sorted((folder / "pictures").iterdir())]


def states(folder: Path) -> dict:
    """When each file was written last."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def weights(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a weights file by their place in it."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found
