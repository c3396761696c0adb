"""Names of sources of pretrained weights: a preset, a path, or none."""

from __future__ import annotations

NONE = "none"


def looks_like_path(weights: str) -> bool:
    """Return whether `weights` can only be a path, not the name of a preset."""
    return weights.startswith((".", "/", "~")) or "/" in weights and "://" not in weights
