"""`tfclip.train`: train a recipe from Python, with the flags of the command as arguments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from tfclip.training import run as one_run
from tfclip.training.options.recipes import recipe as recipe_of_name
from tfclip.training.setup.preflight import preflight

Reference = str | os.PathLike


def train(
    recipe: str,
    *,
    records: Reference | Sequence[Reference],
    run: Reference,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **flags: Any,
) -> dict:
    """Train a recipe and write a run directory, as `tfclip fit` does, in this process.

    The same call resumes a run that was interrupted. The first Ctrl-C saves after the current step
    and returns; a second one raises KeyboardInterrupt.

    Args:
        recipe: one of `tfclip.available_models()`.
        records: training records, DIR or DIR:SPLIT, or several of them.
        run: the run directory to write.
        callbacks: Keras callbacks, called as `Model.fit` would call them. Their attributes that are
            numbers, text, arrays, and lists or dicts of these are saved with each checkpoint.
        **flags: the flags of `tfclip fit`, with underscores: `batch_size=64`.

    Example:
        >>> import tfclip
        >>> result = tfclip.train(
        ...     "shapes", records="records/shapes", run="runs/new", steps=2, batch_size=4)
        >>> result["steps"]
        2
        >>> model, preprocess = tfclip.load(result["run"])

    Returns:
        What `tfclip fit --json` prints: `run`, `best` (the best model's folder), `steps`,
        `seconds`, `monitor`, `best_value`, `logs` of the last epoch, and whether it was
        `terminated`.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: for flags that cannot be trained with.
        CommandFailed: when the loss became NaN; what was saved before is kept.
    """
    chosen = recipe_of_name(recipe)
    several = (records,) if isinstance(records, str | os.PathLike) else records
    if flags.get("workers", 1) != 1:
        raise ValueError(
            "workers are processes that the command starts; run python -m tfclip.fit "
            f"{recipe} --workers {flags['workers']}"
        )
    made = chosen.flags(records=tuple(map(str, several)), run=Path(run), **flags)
    preflight(recipe, chosen, made)
    return one_run.train(recipe, made, callbacks)
