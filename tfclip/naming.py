"""The error for an unknown name, the same for all registries; lists the nearest names first."""

from collections.abc import Iterable
from difflib import SequenceMatcher


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return all `known` names, the most similar to `name` first.

    Case is ignored, and "-" and "_" count as the same letter. Equally similar names keep their
    order.
    """

    def likeness(other: str) -> float:
        one, two = (text.lower().replace("_", "-") for text in (name, other))
        return SequenceMatcher(None, one, two).ratio()

    return sorted(known, key=likeness, reverse=True)


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """Return (not raise) the error for a `name` that is not among the `known` ones.

    Args:
        kind: what is named, for the message: "recipe", "source", "class".
        name: what was received.
        known: every allowed name.
    """
    names = ", ".join(nearest(name, known)) or "none"
    return ValueError(f"unknown {kind} {name!r}; known, nearest first: {names}")
