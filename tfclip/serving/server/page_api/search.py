"""The search box of the page: an index of pictures, asked with the embeddings of the model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tfclip.evaluation.search.index import open_index
from tfclip.evaluation.search.pictures import read_picture
from tfclip.serving import signatures as names
from tfclip.serving.server.refusals import Refused, invalid

MOST_HITS = 48
# The index and the export compute the same embedding in two graphs.
_LEAST_AGREEMENT = 0.999
# The model of an export may have weights of half precision.
_CHECKED_ROWS = 3

Embed = Callable[[str, np.ndarray], np.ndarray]


class PageSearch:
    """An opened index.

    Args:
        path: an index, or its name in runs/, see `evaluation.search.index.open_index`.

    Raises:
        FileNotFoundError, ValueError: the index or its records are not there, or do not belong
            together.
    """

    def __init__(self, path: Path):
        self._index = open_index(path)
        self._path = path
        self._checked: set[int] = set()
        self._lock = threading.Lock()
        self._index.check_sources()

    def __len__(self) -> int:
        return len(self._index)

    def check(self, version: int, embed: Embed) -> None:
        """Compare the first pictures of the index with what a version makes of them.

        Args:
            version: its number; the comparison is made once for each.
            embed: from a signature's name and its input to embeddings.

        Raises:
            ValueError: the index was made with another model.
        """
        with self._lock:
            if version in self._checked:
                return
            encoded = [read_picture(self._index, row).encoded for row in self._first_rows()]
            rows = [row for row, data in enumerate(encoded) if data is not None]
            contents = np.empty(len(rows), object)
            contents[:] = [encoded[row] for row in rows]
            own = embed(names.ENCODE_IMAGE, contents)
            kept = self._index.view_embeddings(np.array(rows))[:, 0]
            if own.shape != kept.shape or (np.sum(own * kept, 1) < _LEAST_AGREEMENT).any():
                raise ValueError(
                    f"{self._path} was made with another model than that of version {version}; "
                    "make it again from the run that was exported: python -m tfclip.search index "
                    f"RUN {self._index.collection}"
                )
            self._checked.add(version)

    def hits(self, embedding: np.ndarray, top: int) -> list[dict]:
        """Return the pictures nearest to an embedding (D,): row, cosine, key, captions, labels."""
        rows, cosines, _ = self._index.nearest(embedding, top)
        hits = []
        for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True):
            picture = read_picture(self._index, row, pixels=False)
            texts = {"captions": list(picture.captions), "labels": list(picture.labels)}
            hits.append({"row": row, "cosine": round(cosine, 4), "key": picture.key, **texts})
        return hits

    def picture(self, row: int) -> bytes:
        """Return the JPEG of a row.

        Raises:
            Refused: NOT_FOUND, there is no such row, or its file is gone.
        """
        if not 0 <= row < len(self):
            raise Refused("NOT_FOUND", f"the index has {len(self)} pictures; there is no {row}")
        picture = read_picture(self._index, row)
        if picture.jpeg is None:
            raise Refused("NOT_FOUND", f"{picture.key}: {picture.problem}")
        return picture.jpeg

    def _first_rows(self) -> range:
        return range(min(_CHECKED_ROWS, len(self)))


def read_top(content: dict) -> int:
    """Return how many hits a request asks for.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    top = content.get("top", 12)
    if not isinstance(top, int) or isinstance(top, bool) or not 1 <= top <= MOST_HITS:
        raise invalid(f"top must be 1 to {MOST_HITS}")
    return top
