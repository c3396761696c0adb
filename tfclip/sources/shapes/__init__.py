"""Synthetic scenes of coloured shapes, written in the formats of the real data sets."""

from tfclip.sources.shapes.source import (
    CLASS_NAMES,
    NEVER_TRAINED,
    PAIRS,
    TRAINED,
    compose,
    draw_shapes,
)

__all__ = ["CLASS_NAMES", "NEVER_TRAINED", "PAIRS", "TRAINED", "compose", "draw_shapes"]
