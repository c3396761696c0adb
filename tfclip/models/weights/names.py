"""How a source of pretrained weights is named: a preset, a path, or none."""

from __future__ import annotations

NONE = "none"


def looks_like_path(weights: str) -> bool:
    """Whether `weights` can only be a path, not the name of a preset."""
    return weights.startswith((".", "/", "~")) or "/" in weights and "://" not in weights
