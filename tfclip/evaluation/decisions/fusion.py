"""Fuses the scores of a picture's views into one score. NumPy.

`serving.scoring` does the same in the served graph; a test compares the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfclip.naming import unknown

FUSIONS = ("max", "logsumexp")
"""The names that can be chosen."""
# Still read from thresholds and exports of earlier versions.
_RETIRED = ("mean", "learnt")


@dataclass(frozen=True)
class Fusion:
    """The function that makes one score of the scores of all views.

    Attributes:
        name: "max" (the best view) or "logsumexp" (the soft maximum log(mean(exp(sharpness *
            score))) / sharpness); from earlier versions also "mean" (of all views) and "learnt" (a
            weighted sum of the best views of the groups of tiles).
        sharpness: of "logsumexp", above 0; the temperature of the model.
        weights: of "learnt", one per group, 0 or more, with sum 1.
    """

    name: str = "max"
    sharpness: float = 0.0
    weights: tuple[float, ...] = ()

    def __post_init__(self):
        if self.name not in (*FUSIONS, *_RETIRED):
            raise unknown("fusion", self.name, FUSIONS)
        if self.name == "logsumexp" and not self.sharpness > 0:
            raise ValueError(f"logsumexp needs a sharpness above 0; received {self.sharpness}")
        if self.name == "learnt" and (
            min(self.weights, default=-1) < 0 or abs(sum(self.weights) - 1) > 1e-6
        ):
            raise ValueError(
                f"learnt weights must be 0 or more with sum 1; received {self.weights}"
            )

    def to_dict(self) -> dict:
        """Return the settings as JSON types."""
        content: dict[str, Any] = {"name": self.name}
        if self.name == "logsumexp":
            content["sharpness"] = self.sharpness
        return content | ({"weights": list(self.weights)} if self.name == "learnt" else {})

    @classmethod
    def from_dict(cls, content: Mapping) -> "Fusion":
        """Return the fusion that `to_dict` described."""
        return cls(
            str(content["name"]),
            float(content.get("sharpness", 0)),
            tuple(map(float, content.get("weights", ()))),
        )


def check_fusion(name: str) -> None:
    """Raise ValueError for a fusion that cannot be chosen."""
    if name in _RETIRED:
        raise ValueError(
            f"fusion {name} is no longer available because it measured worse than the others; "
            f"allowed: {', '.join(FUSIONS)}"
        )
    if name not in FUSIONS:
        raise unknown("fusion", name, FUSIONS)


def fuse(view_scores: np.ndarray, fusion: Fusion, groups: Sequence[int]) -> np.ndarray:
    """Fuse the scores (N,T,C) of T views into (N,C), of the same dtype.

    Args:
        view_scores: cosines, the views in the order of `groups`.
        fusion: the function.
        groups: the number of tiles in each group, T in all, see `inputs.tiles.tile_groups`.

    Raises:
        ValueError: the groups or the learnt weights do not match the views.

    >>> fuse(np.array([[[0.1], [0.3], [0.2]]]), Fusion("max"), groups=(1, 2))
    array([[0.3]])
    """
    if sum(groups) != view_scores.shape[1]:
        raise ValueError(
            f"received {view_scores.shape[1]} views; groups {groups} need {sum(groups)}"
        )
    if fusion.name == "max":
        return view_scores.max(axis=1)
    if fusion.name == "mean":
        return view_scores.mean(axis=1)
    if fusion.name == "logsumexp":
        highest = view_scores.max(axis=1, keepdims=True)
        sums = np.exp(fusion.sharpness * (view_scores - highest)).mean(axis=1)
        return highest[:, 0] + np.log(sums) / fusion.sharpness
    if len(fusion.weights) != len(groups):
        raise ValueError(f"{len(fusion.weights)} learnt weights for {len(groups)} groups of tiles")
    weights = np.array(fusion.weights, view_scores.dtype)
    return np.einsum("ngc,g->nc", group_maxima(view_scores, groups), weights)


def group_maxima(view_scores: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """Return the best score (N,G,C) within each group of tiles of (N,T,C)."""
    return np.maximum.reduceat(view_scores, np.cumsum([0, *groups[:-1]]), axis=1)
