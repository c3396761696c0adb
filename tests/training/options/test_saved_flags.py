"""What a run saves of its flags decides how it may go on."""

import json

import pytest

from tfclip.models.compute import chosen_compute, has_engine, instruction
from tfclip.training.options.recipes import RECIPES
from tfclip.training.options.saved_flags import (
    differing_flags,
    may_validate_in_training,
    with_compute,
)


def test_an_old_run_that_validates_on_its_training_records_goes_on(tmp_path):
    given = {"records": ("r",), "run": tmp_path, "val": "r:train"}
    flags = RECIPES["shapes"].flags(**given)
    assert not may_validate_in_training(flags)  # a new run
    saved = {key: value for key, value in flags.to_dict().items() if key != "val_in_training"}
    (tmp_path / "config.json").write_text(json.dumps({"flags": saved}))
    assert may_validate_in_training(flags)
    assert not may_validate_in_training(RECIPES["shapes"].flags(**given | {"val": "r:other"}))
    assert not may_validate_in_training(RECIPES["shapes"].flags(**given, overwrite=True))


def test_a_run_keeps_the_format_of_its_stored_features(tmp_path):
    recipe, given = RECIPES["laptop"], {"records": ("r",), "run": tmp_path}
    new = with_compute(recipe.flags(**given))
    assert new.freeze.compute == chosen_compute("auto", new.model.image_tower)
    # What the tower computes is of no account where it is not frozen, or not measured.
    assert with_compute(RECIPES["shapes"].flags(**given)).freeze.compute == "float32"
    assert with_compute(recipe.flags(**given, unfreeze_after=None)).freeze == new.freeze
    # A run of an earlier version computed in float32, and is resumed without a word.
    exact = with_compute(recipe.flags(**given, compute="float32"))
    saved = exact.to_dict()
    assert "compute" not in saved
    (tmp_path / "config.json").write_text(json.dumps({"flags": saved}))
    resumed = with_compute(recipe.flags(**given))
    assert resumed.freeze.compute == "float32"
    assert differing_flags(saved, resumed.to_dict()) == []
    if instruction() is None or not has_engine():
        return
    other = with_compute(recipe.flags(**given, compute="bfloat16"))
    assert differing_flags(saved, other.to_dict()) == ["--compute float32, now bfloat16"]
    (tmp_path / "config.json").write_text(json.dumps({"flags": other.to_dict()}))
    assert with_compute(recipe.flags(**given)).freeze.compute == "bfloat16"


def test_bfloat16_is_for_stored_features(tmp_path):
    with pytest.raises(ValueError, match="--compute bfloat16, which is for stored outputs"):
        RECIPES["shapes"].flags(records=("r",), run=tmp_path, compute="bfloat16")
