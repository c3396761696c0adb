"""Pictures of a split with the score of every class, view by view and fused. NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tfclip.evaluation.embeddings import Embeddings
from tfclip.evaluation.fusion import Fusion, fuse
from tfclip.evaluation.labelled import LabelledPictures
from tfclip.inputs.tiles import tile_groups


@dataclass(frozen=True)
class ScoredPictures:
    """The pictures of a split that could be read, and the cosine of each view with each class.

    `view_scores` is (N,T,C) float32, the whole picture first, in the order of the layout `tiles`;
    the rest as in `LabelledPictures`.
    """

    split: str
    class_names: tuple[str, ...]
    keys: tuple[str, ...]
    present: np.ndarray
    difficult: np.ndarray
    view_scores: np.ndarray
    skipped: int
    tiles: str = "1"
    fusion: Fusion = Fusion()

    @cached_property
    def scores(self) -> np.ndarray:
        """The fused cosine of all views: (N,C) float32."""
        return fuse(self.view_scores, self.fusion, tile_groups(self.tiles))

    @property
    def one_view(self) -> np.ndarray:
        """The cosine of the whole picture: (N,C)."""
        return self.view_scores[:, 0]

    @property
    def known(self) -> np.ndarray:
        """The classes that are present and count: (N,C) bool."""
        return self.present & ~self.difficult


def score_pictures(
    embeddings: Embeddings, pictures: LabelledPictures, classes: np.ndarray, tiles: str = "1"
) -> ScoredPictures:
    """Score every picture against the class embeddings (C,D), in every view of a tile layout."""
    rows, views = embeddings.views(pictures, tiles)
    return ScoredPictures(
        pictures.split,
        pictures.class_names,
        tuple(pictures.keys[row] for row in rows),
        pictures.present[rows],
        pictures.difficult[rows],
        views @ classes.T,
        pictures.skipped + len(pictures.keys) - len(rows),
        tiles,
    )


def with_fusion(scored: ScoredPictures, fusion: Fusion) -> ScoredPictures:
    """The same pictures, their views fused in this way."""
    return replace(scored, fusion=fusion)
