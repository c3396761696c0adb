"""The scores of every class for the pictures of a split, by view and fused. NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tfclip.evaluation.datasets.multilabel_images import LabelledPictures
from tfclip.evaluation.decisions.fusion import Fusion, fuse
from tfclip.evaluation.embedding.cache import Embeddings
from tfclip.inputs.tiles import tile_groups


@dataclass(frozen=True)
class ScoredPictures:
    """The readable pictures of a split and the cosine of each view with each class.

    `view_scores` is (N,T,C) float32, the whole picture first, in the order of the layout `tiles`;
    the other attributes are those of `LabelledPictures`.
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
        """The fused cosines of all views: (N,C) float32."""
        return fuse(self.view_scores, self.fusion, tile_groups(self.tiles))

    @property
    def one_view(self) -> np.ndarray:
        """The cosine of the whole picture: (N,C)."""
        return self.view_scores[:, 0]

    @property
    def truth(self) -> np.ndarray:
        """The classes that are present and not only difficult: (N,C) bool."""
        return self.present & ~self.difficult


@dataclass(frozen=True)
class EmbeddedPictures:
    """The readable pictures of a split, embedded, to be scored against any classes.

    `rows` (N,) are their indices in `pictures`; `views` (N,T,D) is float32 of unit norm.
    """

    pictures: LabelledPictures
    rows: np.ndarray
    views: np.ndarray
    tiles: str

    def score(self, classes: np.ndarray) -> ScoredPictures:
        """Score every view against the class embeddings (C,D)."""
        pictures, rows = self.pictures, self.rows
        return ScoredPictures(
            pictures.split,
            pictures.class_names,
            tuple(pictures.keys[row] for row in rows),
            pictures.present[rows],
            pictures.difficult[rows],
            self.views @ classes.T,
            pictures.skipped + len(pictures.keys) - len(rows),
            self.tiles,
        )


def embed_labelled(
    embeddings: Embeddings, pictures: LabelledPictures, tiles: str = "1"
) -> EmbeddedPictures:
    """Embed every picture that decodes, in every view of a tile layout."""
    return EmbeddedPictures(pictures, *embeddings.views(pictures, tiles), tiles)


def with_fusion(scored: ScoredPictures, fusion: Fusion) -> ScoredPictures:
    """Return the same pictures with another fusion of their views."""
    return replace(scored, fusion=fusion)
