"""The flags in the `config.json` of a run: which of them a resumed run may change."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set

from tfclip.training.options.flags import FitFlags

CONFIG_FILE = "config.json"
# Flags that decide nothing of what is trained.
FREE_TO_CHANGE = {"run", "overwrite", "checkpoint_every", "feature_cache", "val_in_training"}
# A callback of the user's own: a note tells of another one, since most only watch.
FREE_TO_CHANGE |= {"callback"}


def begun_config(flags: FitFlags) -> dict | None:
    """The configuration of the run that `flags` go on with, None for a new one."""
    path = flags.run / CONFIG_FILE
    if flags.overwrite or not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def may_validate_in_training(flags: FitFlags) -> bool:
    """Whether --val may be trained on: the flags say so, or the run that they go on with was begun
    with this --val, which earlier versions did not refuse."""
    begun = begun_config(flags)
    resumed = begun is not None and begun.get("flags", {}).get("val") == flags.val
    return flags.data.val_in_training or resumed


def differing_flags(before: Mapping, now: Mapping, free: Set[str] = frozenset()) -> list[str]:
    """Return "--seed 0, now 1" for each flag that differs and decides what is trained.

    Args:
        before, now: the flags by the names of `config.json`, as JSON types.
        free: further flags that may differ.
    """
    names = (before.keys() | now.keys()) - FREE_TO_CHANGE - free
    return [
        f"--{name.replace('_', '-')} {before.get(name)}, now {now.get(name)}"
        for name in sorted(names)
        if before.get(name) != now.get(name)
    ]
