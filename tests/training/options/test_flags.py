"""The flags of fit: what cannot be trained is refused with the flag's name."""

from dataclasses import replace

import pytest
import tyro

from tfclip.training.options.flags import FitFlags
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
        regions: RECIPES["shapes"].flags(regions=regions, region_share=None).shown_regions
        for regions in ("whole", "crop", "context", "mix")
    }
    assert shares == {"whole": 0, "crop": 1, "context": 1, "mix": 2 / 3}
    assert RECIPES["shapes"].flags().shown_regions == 0.85


@pytest.mark.parametrize(
    ("freeze", "after"), [("--freeze", "--unfreeze-after"), ("--lock", "--unlock-after")]
)
def test_frozen_towers_are_named_by_either_word(freeze, after):
    words = ["--records", "r", "--run", "x", freeze, "image,text", after, "5"]
    flags = tyro.cli(FitFlags, args=words)
    assert flags.locked == ("image", "text")
    assert flags.unlock_after == 5
    assert flags.to_dict()["lock"] == "image,text"  # the name in the configuration of a run stays
