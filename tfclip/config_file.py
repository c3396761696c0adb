"""--config FILE: reads the flags of a command from a run's configuration, or from YAML or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

OPTION = "--config"
RECIPE = "recipe"
# Flags that are repeated for each value instead of taking several values.
REPEATED = {"callback"}
# Flags whose value is a mapping itself, not a group of flags.
MAPPINGS = {"id_lists"}
# Flags of today by the names that files of earlier runs have for them.
RENAMED = {
    "lock": "freeze",
    "unlock_after": "unfreeze_after",
    "unlocked_learning_rate": "unfrozen_learning_rate",
}
# Recipes of today by the names of earlier runs, by the value of a flag of the run.
RENAMED_RECIPES = {
    "laptop": (
        "image_tower",
        {"squeezenet": "laptop-squeezenet", "efficientnet-lite0": "laptop-lite0"},
    )
}


def recipe_of(content: Mapping[str, Any]) -> str | None:
    """Return the recipe of a run's configuration, by its name of today; None if it names none.

    >>> recipe_of({"recipe": "laptop", "flags": {"image_tower": "squeezenet"}})
    'laptop-squeezenet'
    """
    recipe = content.get(RECIPE)
    flag, names = RENAMED_RECIPES.get(str(recipe), ("", {}))
    flags = content.get("flags")
    return names.get(str(flags.get(flag)), recipe) if isinstance(flags, Mapping) else recipe


def take_config(argv: Sequence[str]) -> tuple[list[str], Path | None]:
    """Return the words without `--config FILE`, and the file.

    Raises:
        ValueError: no file follows `--config`, or it is given twice.
    """
    words, files = [], []
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        if name != OPTION:
            words.append(word)
            continue
        file = value if equals else next(rest, None)
        if not file or file.startswith("--"):
            raise ValueError("--config needs a file: the config.json of a run, or a YAML file")
        files.append(Path(file))
    if len(files) > 1:
        raise ValueError("--config is given twice; give one file")
    return words, files[0] if files else None


def read_config(path: Path) -> tuple[dict[str, Any], str | None]:
    """Return the flags by name, and the recipe if the file names one.

    The file is the `config.json` of a run, of which `flags` is read, or a mapping from names of
    flags to values; nested mappings (groups of flags) are flattened.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON or YAML, or holds no mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at --config {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"--config {path} cannot be read: {reason}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"--config {path} must hold a mapping from names of flags to values")
    recipe = recipe_of(content)
    flags = content.get("flags", {k: v for k, v in content.items() if k != RECIPE})
    flat = _flattened(flags, path)
    if "flags" in content:
        # The run began by replacing another. To repeat its flags must not delete it in turn.
        flat.pop("overwrite", None)
    return flat, recipe


def _flattened(flags: Any, path: Path) -> dict[str, Any]:
    """Return the flags of all groups by name, with underscores."""
    if not isinstance(flags, Mapping):
        raise ValueError(f"--config {path} must hold a mapping from names of flags to values")
    flat: dict[str, Any] = {}
    for name, value in flags.items():
        is_group = isinstance(value, Mapping) and str(name).replace("-", "_") not in MAPPINGS
        inner = _flattened(value, path) if is_group else {str(name): value}
        for key, one in inner.items():
            key = key.replace("-", "_")
            if key in flat:
                raise ValueError(f"--config {path} names {key} twice")
            flat[key] = one
    return flat


def without_defaults(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` without the entries that equal their default.

    An option that was added later is written to a file only where it is set: files written before
    it existed, and the fingerprints made from them, then compare equal.

    Args:
        values: every option by name.
        defaults: the options to omit where `values` holds exactly this value.
    """
    return {
        name: value
        for name, value in values.items()
        if name not in defaults or value != defaults[name]
    }


def words_of(flags: Mapping[str, Any], given: Sequence[str], without: Sequence[str] = ()) -> list:
    """Return the flags as words of a command line, without those that are given there already.

    Args:
        flags: names and values, as `read_config` returns them.
        given: the words of the command line, which take precedence.
        without: names to omit: those of positional arguments.
    """
    named = {word.partition("=")[0] for word in given if word.startswith("--")}
    words = []
    for name, value in flags.items():
        flag = name.replace("_", "-")
        names = {flag, f"no-{flag}", *(one.replace("_", "-") for one in _other_names(name))}
        if {f"--{one}" for one in names} & named or name in without:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list | tuple) and name in REPEATED:
            words += [word for one in value for word in (f"--{flag}", str(one))]
        elif isinstance(value, list | tuple):
            words += [f"--{flag}", *map(str, value)]
        elif isinstance(value, Mapping):
            if value:
                words += [f"--{flag}", *(str(word) for pair in value.items() for word in pair)]
        else:
            words += [f"--{flag}", str(value)]
    return words


def _other_names(name: str) -> set[str]:
    """Return the names of a flag in files of other versions."""
    return {new for old, new in RENAMED.items() if old == name} | {
        old for old, new in RENAMED.items() if new == name
    }
