"""What a source was opened with goes through JSON and back."""

import json
from pathlib import Path

import pytest

from tfclip.sources.sample import SourceOptions, options_from_json, options_to_json


def test_options_come_back_without_seed_and_splits():
    options = SourceOptions(
        seed=3,
        splits=("train",),
        id_lists={"train": Path("ids.txt")},
        phrases_as_captions=True,
    )
    told = options_to_json(options)
    assert told == {"id_lists": {"train": "ids.txt"}, "phrases_as_captions": True}
    read = options_from_json(json.loads(json.dumps(told)))
    assert read == SourceOptions(id_lists={"train": Path("ids.txt")}, phrases_as_captions=True)
    assert options_from_json(options_to_json(SourceOptions())) == SourceOptions()


def test_an_option_of_another_version_is_refused():
    with pytest.raises(ValueError, match="unknown source options: regions"):
        options_from_json({"regions": "crop"})
