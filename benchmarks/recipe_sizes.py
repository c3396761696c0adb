"""python -m benchmarks.recipe_sizes: count the parameters of all recipes, and keep the numbers.

Run it when a recipe, a tower or a head changes; `fit list` reads what it writes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from tfclip.console import Command, progress, run, say
from tfclip.training.options.recipes import RECIPES
from tfclip.training.setup.recipe_sizes import SIZES, count_parameters, recipe_key


@dataclass(frozen=True)
class SizesFlags:
    """Build the model of every recipe and write the numbers beside the recipes."""


def count(flags: SizesFlags) -> dict:
    """Count, and write the file."""
    counted = {
        recipe_key(recipe): {"recipe": name, **count_parameters(recipe)}
        for name, recipe in progress(RECIPES.items(), total=len(RECIPES), what="counting")
    }
    SIZES.write_text(json.dumps(counted, indent=1) + "\n", encoding="utf-8")
    say(f"{SIZES}: {len(counted)} recipes")
    return counted


if __name__ == "__main__":
    sys.exit(run("benchmarks.recipe_sizes", Command(SizesFlags, count)))
