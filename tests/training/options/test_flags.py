"""The flags of fit: what cannot be trained is refused with the flag's name."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tyro

from tfclip.config_file import words_of
from tfclip.fit import main
from tfclip.training.options.flags import FitFlags
from tfclip.training.options.flat import flatten, leaf_types, nest
from tfclip.training.options.recipes import RECIPES


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"lock": "images"}, "image"),
        ({"unlock_after": 5}, "--freeze"),
        ({"lock": "image", "unlock_after": 1100, "region_share": 0.0}, "--steps 1100"),
        ({"lock": "image"}, "--regions.*--no-cache-features"),
        ({"lock": "image", "region_share": 0.0, "flip": True}, "--flip.*--views"),
        ({"lock": "text", "region_share": 0.0, "phrases": 2}, "--phrases"),
        ({"lock": "text", "region_share": 0.0, "max_phrases": 1}, "--max-phrases"),
        ({"regions": "crops"}, "unknown regions 'crops'; known, nearest first: crop"),
        ({"regions": "whole"}, "--region-share 0.85 needs --regions"),
        ({"max_phrases": 0}, "--max-phrases"),
        ({"views": "7"}, "known"),
        ({"loss": "triplet"}, "sigmoid"),
        ({"image_head": "lineer"}, "linear"),
        ({"average": 1.0}, "--average"),
        ({"layer_decay": 0.0}, "--layer-decay"),
        ({"phrases": 3}, "1 or 2"),
        ({"patience": 0}, "--patience"),
        ({"jit_compile": "on", "micro_batch": 4}, "--jit-compile on .* --micro-batch"),
        ({"jit_compile": "on", "replicas": 2}, "--jit-compile on needs a single replica"),
        ({"steps_per_execution": 11}, "--steps-per-execution 11; allowed: 1 to 10"),
        ({"steps_per_execution": 2, "workers": 2}, "--workers 2; omit one of them"),
        ({"val_images": 500}, "--val-images 500 needs --val"),
        ({"val_images": 5, "val": "records:dev"}, "--val-images 5; allowed: .* or more"),
        ({"schedule": "step"}, "cosine"),
        ({"feature_precision": "int8"}, "float16"),
    ],
)
def test_what_cannot_be_trained_is_refused(given, told):
    with pytest.raises(ValueError, match=told):
        RECIPES["shapes"].flags(**given)


def test_steps_that_are_given_go_before_the_epochs_of_a_recipe():
    laptop = RECIPES["laptop"]
    assert laptop.flags().with_steps(6000).steps == 192
    assert laptop.flags(steps=30).with_steps(6000).steps == 30
    given = replace(laptop.flags(), steps=30)  # as the command line gives them
    assert laptop.length_as_given(given).with_steps(6000).steps == 30
    assert laptop.flags(epochs=2).with_steps(6000).steps == 24


def test_epochs_become_steps():
    flags = RECIPES["shapes"].flags(epochs=3, batch_size=64).with_steps(1000)
    assert (flags.steps, flags.epochs) == (46, None)
    with pytest.raises(ValueError, match="--batch-size 64.*10 training pictures"):
        RECIPES["shapes"].flags(epochs=3, batch_size=64).with_steps(10)


def test_each_way_to_show_regions_has_a_share_by_default():
    shares = {
        regions: RECIPES["shapes"]
        .flags(regions=regions, region_share=None)
        .sampling.share_of_regions
        for regions in ("whole", "crop", "context", "mix")
    }
    assert shares == {"whole": 0, "crop": 1, "context": 1, "mix": 2 / 3}
    assert RECIPES["shapes"].flags().sampling.share_of_regions == 0.85


@pytest.mark.parametrize(
    ("freeze", "after"), [("--freeze", "--unfreeze-after"), ("--lock", "--unlock-after")]
)
def test_frozen_towers_are_named_by_either_word(freeze, after):
    words = ["--records", "r", "--run", "x", freeze, "image,text", after, "5"]
    flags = tyro.cli(FitFlags, args=words, config=(tyro.conf.OmitArgPrefixes,))
    assert flags.freeze.towers == ("image", "text")
    assert flags.freeze.unfreeze_after == 5
    assert flags.to_dict()["lock"] == "image,text"  # the name in the configuration of a run stays


def test_every_flag_of_a_group_has_a_name_of_its_own():
    flags = RECIPES["laptop"].flags()
    assert flatten(flags).keys() == leaf_types(FitFlags).keys()
    groups = [one for one in vars(flags).values() if hasattr(one, "__dataclass_fields__")]
    names = [name for group in groups for name in flatten(group)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", RECIPES)
def test_flags_are_read_back_from_what_a_run_saves(name):
    flags = RECIPES[name].flags(records=("r",), run=Path("x"))
    saved = json.loads(json.dumps(flags.to_dict()))
    assert {"lock", "unlock_after", "unlocked_learning_rate"} <= saved.keys()
    assert not any(isinstance(value, dict) for value in saved.values())
    assert nest(FitFlags, saved) == flags


def test_a_flag_is_taken_under_the_name_of_today_and_of_earlier_runs():
    old = RECIPES["shapes"].flags(lock="image", region_share=0.0, unlock_after=5)
    new = RECIPES["shapes"].flags(freeze="image", region_share=0.0, unfreeze_after=5)
    assert old == new and new.freeze.towers == ("image",)
    with pytest.raises(ValueError, match="same flag"):
        RECIPES["shapes"].flags(freeze="image", lock="image")
    with pytest.raises(ValueError, match="unknown flag 'imagesize'.*image_size"):
        RECIPES["shapes"].flags(imagesize=5)


def test_the_common_flags_stand_first_in_help_and_the_others_in_named_groups(capsys):
    assert main(["shapes", "--help"]) == 0
    text = capsys.readouterr().out
    places = [text.index(flag) for flag in ("--records", "--run ", "--val ", "--batch-size")]
    assert places == sorted(places)
    for group in ("model", "optimizer", "data", "sampling", "freeze", "evaluation", "execution"):
        assert text.index(f" {group} options") > places[-1]


def test_help_and_mistakes_load_no_tensorflow():
    script = (
        "import sys; from tfclip.fit import main; main(['laptop', '--help']); "
        "main(['laptop', '--records', 'nowhere', '--run', 'x']); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


@pytest.mark.parametrize("in_file", ["lock", "freeze"])
@pytest.mark.parametrize("given", ["--lock", "--freeze"])
def test_the_command_line_wins_over_a_file_under_either_name(in_file, given):
    words = words_of({in_file: "text", "seed": 3}, ["--run", "x", given, "image"])
    assert words == ["--seed", "3"]
