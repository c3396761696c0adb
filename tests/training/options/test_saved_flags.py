"""What a run saves of its flags decides how it may go on."""

import json

from tfclip.training.options.recipes import RECIPES
from tfclip.training.options.saved_flags import may_validate_in_training


def test_an_old_run_that_validates_on_its_training_records_goes_on(tmp_path):
    given = {"records": ("r",), "run": tmp_path, "val": "r:train"}
    flags = RECIPES["shapes"].flags(**given)
    assert not may_validate_in_training(flags)  # a new run
    saved = {key: value for key, value in flags.to_dict().items() if key != "val_in_training"}
    (tmp_path / "config.json").write_text(json.dumps({"flags": saved}))
    assert may_validate_in_training(flags)
    assert not may_validate_in_training(RECIPES["shapes"].flags(**given | {"val": "r:other"}))
    assert not may_validate_in_training(RECIPES["shapes"].flags(**given, overwrite=True))
