"""`tfclip.train`: trains a recipe from Python, with the flags of `fit` as arguments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from tfclip.training import run as one_run
from tfclip.training.options.recipes import recipe as recipe_of_name
from tfclip.training.options.saved_flags import with_compute
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
    """Train a recipe in this process and write a run directory, like `tfclip fit`.

    The same call resumes an interrupted run. The first Ctrl-C saves after the current step and
    returns; a second one raises KeyboardInterrupt.

    Args:
        recipe: one of `tfclip.available_models()`.
        records: training records, DIR or DIR:SPLIT, or a sequence of them.
        run: the run directory to write.
        callbacks: Keras callbacks, called as by `Model.fit`. Checkpoints include their attributes
            that are numbers, text, arrays, or lists and dicts of these.
        **flags: the flags of `tfclip fit`, with underscores, such as `batch_size=64`.

    Examples:
        >>> import tfclip
        >>> result = tfclip.train(
        ...     "shapes", records="records/shapes", run="runs/new", steps=2, batch_size=4)
        >>> result["steps"]
        2
        >>> model, preprocess = tfclip.load(result["run"])

    Returns:
        The output of `tfclip fit --json` with `run`, `best` (the folder of the best model),
        `steps`, `seconds`, `monitor`, `best_value`, `logs` of the last epoch, `terminated` (whether
        it was interrupted) and others.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: the flags, the records or the run directory
            are invalid.
        CommandFailed: the loss became NaN; earlier checkpoints are kept.
    """
    chosen = recipe_of_name(recipe)
    several = (records,) if isinstance(records, str | os.PathLike) else records
    if flags.get("workers", 1) != 1:
        raise ValueError(
            f"received workers={flags['workers']}; only the command starts worker processes. Run "
            f"python -m tfclip.fit {recipe} --workers {flags['workers']}"
        )
    all_flags = with_compute(chosen.flags(records=tuple(map(str, several)), run=Path(run), **flags))
    preflight(recipe, chosen, all_flags)
    return one_run.train(recipe, all_flags, callbacks)
