"""python -m tfclip.fit RECIPE|list: train a dual encoder on packed records."""

import sys
from dataclasses import dataclass
from functools import partial

from tfclip.console import Command, progress, run, say
from tfclip.training.flags import FitFlags
from tfclip.training.recipes import RECIPES


@dataclass(frozen=True)
class ListFlags:
    """Print every recipe with its towers, parameter counts, loss, optimiser, data and source."""


def fit(name: str, flags: FitFlags) -> dict:
    """Train the recipe `name` and say where the result lies."""
    from tfclip.training.run import train

    result = train(name, flags)
    say(
        f"trained {result['steps']} steps in {result['seconds']:.0f} s; best {result['monitor']} "
        f"{result['best_value']:.4g}; the model is {result['best']}"
    )
    return result


def list_recipes(flags: ListFlags) -> dict:
    """Build each recipe's model once to count its parameters."""
    from tfclip.models.registry import image_tower, text_tower

    listed = {}
    for name, recipe in progress(RECIPES.items(), total=len(RECIPES), what="counting parameters"):
        defaults = recipe.flags()
        image = image_tower(defaults.image_tower).build(
            image_size=defaults.image_size, **recipe.image_options
        )
        text = text_tower(defaults.text_tower).build(
            vocabulary_size=recipe.vocabulary_size,
            context_length=defaults.context_length or 32,
            **recipe.text_options,
        )
        listed[name] = {
            "summary": recipe.summary,
            "image_tower": {"name": defaults.image_tower, "parameters": image.count_params()},
            "text_tower": {"name": defaults.text_tower, "parameters": text.count_params()},
            "embed_dim": defaults.embed_dim,
            "batch_size": defaults.batch_size,
            "optimizer": f"AdamW {defaults.learning_rate:g}, decay {defaults.weight_decay:g}",
            "loss": "softmax contrastive, multi-positive, negatives from the global batch",
            "source": recipe.source,
        }
    for name, entry in listed.items():
        image, text = entry["image_tower"], entry["text_tower"]
        say(
            f"{name}: {entry['summary']}\n"
            f"    {image['name']} {image['parameters']:,} + {text['name']} {text['parameters']:,} "
            f"parameters (vocabulary {RECIPES[name].vocabulary_size:,}), heads to "
            f"{entry['embed_dim']}\n"
            f"    {entry['loss']}; {entry['optimizer']}, batch {entry['batch_size']}\n"
            f"    source: {entry['source']}"
        )
    return listed


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    commands = {
        name: Command(recipe.defaults_for_command(), partial(fit, name), recipe.summary)
        for name, recipe in RECIPES.items()
    }
    commands["list"] = Command(ListFlags, list_recipes)
    return run("tfclip.fit", commands, argv, kind="recipe")


if __name__ == "__main__":
    sys.exit(main())
