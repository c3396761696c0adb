"""The benchmark of training steps: what it compares is the same on both sides, and it runs."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.train_step import PACKAGES, TrainStepFlags, main
from benchmarks.train_step_rows import DEFAULT_ROWS, ROWS, random_batch, row
from tfclip.training.options.recipes import RECIPES

needs_pytorch = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in PACKAGES), reason="needs [peers]"
)
# Another length of the texts changes no parameter.
SAME_TOWERS = ("liteclip-128", "simple-clip-100")
IN_PYTORCH = [n for n, chosen in ROWS.items() if chosen.theirs is None and n not in SAME_TOWERS]


def test_every_row_is_a_recipe_and_the_defaults_are_those_with_aims():
    assert set(DEFAULT_ROWS) <= set(ROWS)
    assert {chosen.ours.recipe for chosen in ROWS.values()} <= set(RECIPES)
    aims = {name: chosen.aim for name, chosen in ROWS.items() if chosen.aim}
    assert (
        aims.items()
        == {
            "efficientnet-b0": 1.25,
            "resnet-50": 1.15,
            "liteclip": 1.3,
            "mixer-s16": 1.1,
            "teensy-5m": 1.1,
            "clip-vit-b32": 1.1,
        }.items()
    )
    assert set(aims) <= set(DEFAULT_ROWS)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"batch": 1}, "--batch 1; allowed: 2 or more"),
        ({"steps": 0}, "--steps 0"),
        ({"rounds": 0}, "--rounds 0"),
        ({"threads": 0}, "--threads 0"),
        ({"recipes": ("litecilp",)}, "unknown row 'litecilp'; known, nearest first: liteclip"),
    ],
)
def test_a_mistake_is_refused(given, told):
    with pytest.raises(ValueError, match=told):
        TrainStepFlags(**given)


def test_missing_packages_are_told_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["--recipes", "teensy-5m"]) == 2
    error = capsys.readouterr().err
    assert "missing: torch, torchvision, timm, transformers; run pip install" in error


def test_both_sides_get_the_same_texts_whatever_the_padding():
    short, padded = (random_batch(row(name).ours, 16, 900) for name in ("liteclip", "liteclip-128"))
    assert short["image"].shape == (16, 224, 224, 3) and short["image"].dtype == np.uint8
    assert short["token_ids"].shape == (16, 24) and padded["token_ids"].shape == (16, 128)
    np.testing.assert_array_equal(short["text_mask"].sum(1), padded["text_mask"].sum(1))
    for batch in (short, padded):
        lengths = batch["text_mask"].sum(1)
        assert lengths.min() >= 8 and lengths.max() <= 24
        assert (batch["token_ids"].argmax(1) == lengths - 1).all()
        assert not batch["token_ids"][~batch["text_mask"]].any()


@pytest.mark.slow
@needs_pytorch
def test_the_towers_of_both_sides_have_the_same_number_of_parameters():
    code = (
        "import sys, json; from benchmarks.train_step_rows import row\n"
        "if sys.argv[1] == 'pytorch':\n"
        "    from benchmarks.train_step_pytorch import TwoTowers, parameters\n"
        "    count = lambda system: parameters(TwoTowers(system))\n"
        "else:\n"
        "    from benchmarks.train_step_tfclip import build, parameters\n"
        "    count = lambda system: parameters(build(system, 2)[0], system)\n"
        "print(json.dumps({name: count(row(name).ours) for name in sys.argv[2:]}))"
    )
    counts = []
    for side in ("tfclip", "pytorch"):
        command = [sys.executable, "-c", code, side, *IN_PYTORCH]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        counts.append(json.loads(ended.stdout.splitlines()[-1]))
    assert counts[0] == counts[1]
    assert list(counts[0]) == IN_PYTORCH
    for name, towers in counts[0].items():
        assert set(towers) == ({"image", "text"} if row(name).ours.tokens else {"image"})


@pytest.mark.slow
@needs_pytorch
def test_the_command_times_both_sides():
    command = [sys.executable, "-m", "benchmarks.train_step", "--json", "--batch", "2"]
    ended = subprocess.run(
        [*command, "--rounds", "2", "--recipes", "teensy-4m"], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    figures = result["rows"]["teensy-4m"]
    assert figures["same_towers"] and figures["parameters"]["ours"] == {"image": 3_834_360}
    assert len(figures["ratios"]) == 2 and min(figures["ratios"]) > 0
    assert "teensy's Mixer of 6 blocks" in ended.stderr
