"""Checks shared by the option groups; each error names the flag, the value and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tfclip.naming import unknown


def flag(name: str) -> str:
    """Return the flag of a field, such as "--batch-size" for "batch_size"."""
    return f"--{name.replace('_', '-')}"


def above_zero(options: Any, *names: str) -> None:
    """Require these fields to be above 0 or None.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise ValueError(f"{flag(name)} must be above 0; received {value}")


def not_negative(options: Any, *names: str) -> None:
    """Require these fields to be 0 or more.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        if getattr(options, name) < 0:
            raise ValueError(f"{flag(name)} must be 0 or more; received {getattr(options, name)}")


def decay_rate(options: Any, *names: str) -> None:
    """Require these fields to be 0 or more and below 1.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        if not 0 <= getattr(options, name) < 1:
            raise ValueError(
                f"{flag(name)} must be 0 or more and below 1; received {getattr(options, name)}"
            )


def one_of(options: Any, name: str, known: Iterable[str]) -> None:
    """Require a field to be one of the known names.

    Raises:
        ValueError: it is not; the message lists them, the most similar first.
    """
    known = tuple(known)
    if getattr(options, name) not in known:
        raise unknown(flag(name).removeprefix("--"), getattr(options, name), known)
