"""--config FILE: the flags of a command from the configuration of a run, or from YAML or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

OPTION = "--config"
RECIPE = "recipe"
# Flags that are given once for each value, in the place of all values behind one.
REPEATED = {"callback"}
# Flags of today by the names that files of earlier runs have for them.
RENAMED = {
    "lock": "freeze",
    "unlock_after": "unfreeze_after",
    "unlocked_learning_rate": "unfrozen_learning_rate",
}


def take_config(argv: Sequence[str]) -> tuple[list[str], Path | None]:
    """Return the words without `--config FILE`, and the file.

    Raises:
        ValueError: there is no file behind it, or two are given.
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
            raise ValueError("--config needs a file: the config.json of a run, or YAML")
        files.append(Path(file))
    if len(files) > 1:
        raise ValueError("--config is given twice; give one file")
    return words, files[0] if files else None


def read_config(path: Path) -> tuple[dict[str, Any], str | None]:
    """Return the flags by name, and the recipe where the file names one.

    The file is the `config.json` of a run, whose `flags` count, or a mapping of names of flags;
    groups of flags (mappings within it) are opened.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no JSON or YAML, or holds no mapping.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at --config {path}")
    text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"--config {path} cannot be read: {error}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"--config {path} must hold names of flags and their values")
    recipe = content.get(RECIPE)
    flags = content.get("flags", {k: v for k, v in content.items() if k != RECIPE})
    return _opened(flags, path), recipe


def _opened(flags: Any, path: Path) -> dict[str, Any]:
    """Flags of all groups by their names, with underscores."""
    if not isinstance(flags, Mapping):
        raise ValueError(f"--config {path} must hold names of flags and their values")
    found: dict[str, Any] = {}
    for name, value in flags.items():
        inner = _opened(value, path) if isinstance(value, Mapping) else {str(name): value}
        for key, one in inner.items():
            key = key.replace("-", "_")
            if key in found:
                raise ValueError(f"--config {path} names {key} twice")
            found[key] = one
    return found


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
    """Return the flags as words of a command line, without those that are given there.

    Args:
        flags: names and values, as `read_config` returns them.
        given: the words of the command line, which count more.
        without: names to leave out: those that are words and no flags.
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
        else:
            words += [f"--{flag}", str(value)]
    return words


def _other_names(name: str) -> set[str]:
    """The names that a flag has in files of other times."""
    return {new for old, new in RENAMED.items() if old == name} | {
        old for old, new in RENAMED.items() if new == name
    }
