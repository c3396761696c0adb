"""The parameter counts of the recipes, stored in recipe_sizes.json next to this file."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from tfclip.training.options.recipes import Recipe

SIZES = Path(__file__).with_suffix(".json")
"""Written by `python -m benchmarks.recipe_sizes`; a test compares it with the models."""


def recipe_key(recipe: Recipe) -> str:
    """Return a hash of everything that determines the parameters of a recipe."""
    content = [
        {name: str(value) for name, value in recipe.defaults.items()},
        *(recipe.image_options, recipe.text_options),
        *(recipe.image_head_options, recipe.text_head_options),
        recipe.vocabulary_size,
    ]
    text = json.dumps(content, sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recipe_sizes(recipe: Recipe) -> dict:
    """Return the stored parameter counts of a recipe, or count them if they are not stored.

    Returns:
        `parameters`, `trained_parameters`, and by modality `tower_parameters` and
        `head_parameters`.
    """
    stored = json.loads(SIZES.read_text(encoding="utf-8")) if SIZES.is_file() else {}
    return stored.get(recipe_key(recipe)) or count_parameters(recipe)


def count_parameters(recipe: Recipe) -> dict:
    """Build the model of a recipe and count its parameters; takes seconds for a large one."""
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
