"""Converts option groups to a flat mapping, the form of config.json and recipes, and back."""

from __future__ import annotations

import os
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from tfclip.config_file import RENAMED
from tfclip.naming import unknown

# From the current names of fields to the names in config.json, which do not change.
SAVED_NAMES = {name: saved for saved, name in RENAMED.items()}

Options = TypeVar("Options")


def flatten(options: Any) -> dict[str, Any]:
    """Return the values of an options dataclass and its groups by field name."""
    flat: dict[str, Any] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        flat |= flatten(value) if is_dataclass(value) else {field.name: value}
    return flat


def nest(kind: type[Options], flat: Mapping[str, Any]) -> Options:
    """Return an options dataclass with its groups from a flat mapping.

    Args:
        kind: the dataclass; missing fields have their defaults.
        flat: values by field name, or by the names of `config.json`. Text becomes a path and a list
            a tuple if the field has that type.

    Raises:
        ValueError: an unknown name, a value under both names, or values that a group refuses.
    """
    types = leaf_types(kind)
    values = by_field(flat)
    for name in values:
        if name not in types:
            raise unknown("flag", name, types)
    return _made(kind, {name: _converted(value, types[name]) for name, value in values.items()})


def by_field(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by field name, from field names or names of `config.json`.

    Raises:
        ValueError: a value is given under both names.
    """
    values: dict[str, Any] = {}
    for name, value in flat.items():
        known = RENAMED.get(name, name)
        if known in values:
            raise ValueError(f"{known} and {name} are the same flag; give only one of them")
        values[known] = value
    return values


def leaf_types(kind: type) -> dict[str, Any]:
    """Return the types of all fields, those of groups included, by field name."""
    types: dict[str, Any] = {}
    hints: dict[str, Any] = typing.get_type_hints(kind)
    for name, hint in hints.items():
        group = typing.cast(Any, hint)
        types |= leaf_types(group) if is_dataclass(hint) else {name: hint}
    return types


def _made(kind: type[Options], values: Mapping[str, Any]) -> Options:
    hints = typing.get_type_hints(kind)
    arguments = {}
    for field in fields(typing.cast(Any, kind)):
        if is_dataclass(hints[field.name]):
            arguments[field.name] = _made(hints[field.name], values)
        elif field.name in values:
            arguments[field.name] = values[field.name]
    return kind(**arguments)


def _converted(value: Any, hint: Any) -> Any:
    """Return a value in the type of its field."""
    kind = str(hint)
    if "Path" in kind:
        return Path(value) if isinstance(value, str | os.PathLike) else value
    if "tuple" in kind and isinstance(value, list):
        return tuple(value)
    return str(value) if isinstance(value, os.PathLike) else value
