"""The flags in the config.json of a run, and which of them may change when it is resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import replace

from tfclip.models.compute import AUTO, FLOAT32, chosen_compute
from tfclip.training.options.flags import FitFlags

CONFIG_FILE = "config.json"
# The key of the steps after which a run had ended before it was extended.
EXTENDED_AFTER = "extended_after"
# Flags that do not affect the result.
FREE_TO_CHANGE = {
    "run",
    "overwrite",
    "extend",
    "checkpoint_every",
    "feature_cache",
    "val_in_training",
}
# Most user callbacks only observe, so that a change prints a note instead of an error.
FREE_TO_CHANGE |= {"callback"}
# What runs of earlier versions did, which had no such flag.
ADDED_LATER = {"jit_compile": "auto", "compute": FLOAT32, "steps_per_execution": 1}


def resumed_config(flags: FitFlags) -> dict | None:
    """Return the configuration of the run that `flags` resume, None for a new run."""
    path = flags.run / CONFIG_FILE
    if flags.overwrite or not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def with_compute(flags: FitFlags) -> FitFlags:
    """Return flags whose --compute is not auto: a resumed run keeps its own, a new run has what
    `chosen_compute` returns.

    Raises:
        ValueError: this machine cannot compute as asked.
    """
    options, config = flags.freeze, resumed_config(flags)
    stores = options.stores_features and "image" in options.towers
    if options.compute == AUTO and config is not None:
        compute = config.get("flags", {}).get("compute", FLOAT32)
    elif options.compute == AUTO and (flags.model.init is not None or not stores):
        compute = FLOAT32
    else:
        compute = options.compute
    if stores:
        compute = chosen_compute(compute, flags.model.image_tower, flags.model.precision)
    return replace(flags, freeze=replace(options, compute=compute))


def may_validate_in_training(flags: FitFlags) -> bool:
    """Return whether --val may be a split that is trained on: by flag, or because the resumed run
    has this --val, which earlier versions allowed."""
    config = resumed_config(flags)
    is_resumed = config is not None and config.get("flags", {}).get("val") == flags.val
    return flags.data.val_in_training or is_resumed


def differing_flags(before: Mapping, now: Mapping, free: Set[str] = frozenset()) -> list[str]:
    """Return "--seed 0, now 1" for each flag that differs and affects the result.

    Args:
        before, now: flags with the names of `config.json`, as JSON types.
        free: further flags that may differ.
    """
    before, now = {**ADDED_LATER, **before}, {**ADDED_LATER, **now}
    names = (before.keys() | now.keys()) - FREE_TO_CHANGE - free
    return [
        f"--{name.replace('_', '-')} {before.get(name)}, now {now.get(name)}"
        for name in sorted(names)
        if before.get(name) != now.get(name)
    ]
