"""How many parameters the model of each recipe has: counted once and kept beside this file."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from tfclip.training.options.recipes import Recipe

SIZES = Path(__file__).with_suffix(".json")
"""Written by `python -m benchmarks.recipe_sizes`, and held against the models by a test."""


def recipe_key(recipe: Recipe) -> str:
    """Return a name for what decides the parameters of a recipe: another recipe has another."""
    decides = [
        {name: str(value) for name, value in recipe.defaults.items()},
        *(recipe.image_options, recipe.text_options),
        *(recipe.image_head_options, recipe.text_head_options),
        recipe.vocabulary_size,
    ]
    text = json.dumps(decides, sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recipe_sizes(recipe: Recipe) -> dict:
    """Return the kept numbers of parameters of a recipe, or build its model and count them.

    Returns:
        `parameters`, `trained_parameters`, and by modality `tower_parameters` and
        `head_parameters`.
    """
    kept = json.loads(SIZES.read_text(encoding="utf-8")) if SIZES.is_file() else {}
    return kept.get(recipe_key(recipe)) or count_parameters(recipe)


def count_parameters(recipe: Recipe) -> dict:
    """Build the model of a recipe and count; seconds for a large one."""
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.training.setup.build_model import model_config

    flags = recipe.flags()
    context = flags.model.context_length or 32
    config = model_config(flags, recipe.options(flags), context, recipe.vocabulary_size)
    model = DualEncoder(config)
    model.freeze(flags.freeze.towers)
    return {
        **{
            modality: {
                f"{part}_parameters": getattr(model, f"{modality}_{part}").count_params()
                for part in ("tower", "head")
            }
            for modality in ("image", "text")
        },
        "parameters": model.count_params(),
        "trained_parameters": sum(math.prod(v.shape) for v in model.trainable_variables),
    }
