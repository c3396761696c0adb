"""Names of sources of pretrained weights: a preset, a path, or none."""

from __future__ import annotations

NONE = "none"


def random_head(origin: object, modality: str) -> str:
    """Return the note that the projection of a checkpoint is not used for "image" or "text"."""
    return (
        f"{origin}: the {modality} head is random: the projection of the checkpoint is not used; "
        "python -m tfclip.convert converts the whole model"
    )


def looks_like_path(weights: str) -> bool:
    """Return whether `weights` can only be a path, not the name of a preset."""
    return weights.startswith((".", "/", "~")) or "/" in weights and "://" not in weights
