"""python -m tfclip.fit RECIPE|list: train a dual encoder on packed records."""

import os
import sys
from dataclasses import dataclass
from functools import partial

from tfclip.console import Command, progress, run, say
from tfclip.training.options.flags import FitFlags
from tfclip.training.options.recipes import RECIPES, Recipe
from tfclip.training.options.saved_flags import with_compute
from tfclip.training.setup.preflight import preflight
from tfclip.training.setup.recipe_sizes import recipe_sizes
from tfclip.training.workers.cluster import LAUNCHER, VARIABLE


@dataclass(frozen=True)
class ListFlags:
    """Print every recipe with its towers, parameter counts, loss, optimiser, data and source."""


def fit(name: str, command: list[str], flags: FitFlags) -> dict:
    """Train the recipe `name` and print where the result is."""
    flags = with_compute(RECIPES[name].length_as_given(flags))
    preflight(name, RECIPES[name], flags)
    if flags.execution.workers > 1 and LAUNCHER not in os.environ:
        if VARIABLE in os.environ:
            raise ValueError(
                f"received --workers {flags.execution.workers} and {VARIABLE}, which describes "
                f"workers that run already; omit --workers, or unset {VARIABLE}"
            )
        from tfclip.training.workers.launch import train_on_workers

        result = train_on_workers(command, flags.execution.workers)
    else:
        from tfclip.training.run import train

        result = train(name, flags)
    if result["terminated"]:
        advice = f"step {result['steps']} is saved; run the same command again to resume"
        if LAUNCHER in os.environ:  # the command that started this worker prints the rest
            return result
        if result["signal"] == "SIGINT":
            interrupted = KeyboardInterrupt()
            interrupted.add_note(advice)
            raise interrupted
        say(f"ended by SIGTERM: {advice}")
        return result
    if flags.execution.workers > 1 and LAUNCHER not in os.environ:
        return result  # the chief worker has printed the result
    say(
        f"trained {result['steps']} steps in {result['seconds']:.0f} s; best {result['monitor']} "
        f"{result['best_value']:.4g}; the model is {result['best']}"
    )
    return result


def plan(name: str, flags: FitFlags) -> dict:
    """Return the output of `--dry-run`; nothing is written."""
    flags = with_compute(RECIPES[name].length_as_given(flags))
    preflight(name, RECIPES[name], flags)
    from tfclip.training.setup.plan import plan_run

    return plan_run(name, RECIPES[name], flags)


def list_recipes(flags: ListFlags) -> dict:
    """Print the recipes; their parameter counts are stored in `setup.recipe_sizes`."""
    listed = {}
    for name, recipe in progress(RECIPES.items(), total=len(RECIPES), what="counting parameters"):
        listed[name] = described = describe(recipe)
        image, text = described["image"], described["text"]
        say(
            f"{name}: {described['summary']}\n"
            f"    image: {_encoder(image)}, {described['image_size']} px\n"
            f"    text:  {_encoder(text)}, vocabulary {described['vocabulary_size']:,}, "
            f"context length {described['context_length']}\n"
            f"    {described['parameters']:,} parameters, {described['trained_parameters']:,} of "
            f"them trained; {described['loss']}\n"
            f"    {described['optimizer']}; {described['length']} of {described['batch_size']:,}\n"
            f"    data: {described['data']}; source: {described['source']}"
        )
    say("start one with: python -m tfclip.fit RECIPE --records DIR --run RUN")
    return listed


def _encoder(encoder: dict) -> str:
    """Describe the tower and head of one modality with their parameter counts."""
    frozen = " frozen" if encoder["frozen"] else ""
    head = f"{encoder['head']} head {encoder['head_parameters']:,}"
    return (
        f"{encoder['tower']} {encoder['tower_parameters']:,}{frozen} + "
        f"{head if encoder['head_parameters'] else 'no head'}"
    )


def describe(recipe: Recipe) -> dict:
    """Return a recipe as `fit list` prints it: towers, parameters, loss, optimizer, data."""
    flags, sizes = recipe.flags(), recipe_sizes(recipe)
    adam = flags.optimizer
    encoders = {
        modality: {
            "tower": getattr(flags.model, f"{modality}_tower"),
            "frozen": modality in flags.freeze.towers,
            "head": getattr(flags.model, f"{modality}_head"),
            **sizes[modality],
        }
        for modality in ("image", "text")
    }
    schedule = {"cosine": "cosine to 0", "constant": "constant"}[adam.schedule]
    return {
        "summary": recipe.summary,
        **encoders,
        "parameters": sizes["parameters"],
        "trained_parameters": sizes["trained_parameters"],
        "vocabulary_size": recipe.vocabulary_size,
        "embed_dim": flags.model.embed_dim,
        "image_size": flags.model.image_size,
        "context_length": flags.model.context_length or "as the records need (here 32)",
        "batch_size": flags.batch_size,
        "length": f"{flags.epochs} epochs" if flags.epochs else f"{flags.steps:,} steps",
        "optimizer": f"AdamW({adam.beta_1:g}, {adam.beta_2:g}, {adam.epsilon:g}), learning rate "
        f"{adam.learning_rate:g}, {schedule}, weight decay {adam.weight_decay:g}",
        "loss": f"{flags.objective.loss} contrastive, multi-positive, negatives from the global "
        "batch",
        "data": recipe.data,
        "source": recipe.source,
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    commands = {
        name: Command(
            recipe.defaults_for_command(),
            partial(fit, name, arguments),
            recipe.summary,
            partial(plan, name),
        )
        for name, recipe in RECIPES.items()
    }
    commands["list"] = Command(ListFlags, list_recipes)
    return run("tfclip.fit", commands, argv, kind="recipe")


if __name__ == "__main__":
    sys.exit(main())
