"""What the loaders of pretrained image and text towers share: how a source is named, and told."""

from __future__ import annotations

NONE = "none"


def looks_like_path(weights: str) -> bool:
    """Whether `weights` can only be meant as a path, not as a preset's name."""
    return weights.startswith((".", "/", "~")) or "/" in weights and "://" not in weights


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a message of our own."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
