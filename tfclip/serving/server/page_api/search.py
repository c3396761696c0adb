"""The search box of the page: an index of pictures, asked with the embeddings of the model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.evaluation.search.index import nearest_rows, open_index, read_record
from tfclip.records import schema
from tfclip.records.manifest import load_manifest
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
        path: NAME.npy, see `evaluation.search.index`.

    Raises:
        FileNotFoundError, ValueError: the index or its records are not there, or do not belong
            together.
    """

    def __init__(self, path: Path):
        self._index = open_index(path)
        self._path = path
        self._checked: set[int] = set()
        self._lock = threading.Lock()
        if load_manifest(self._index.records).fingerprint() != self._index.fingerprint:
            raise ValueError(
                f"the records at {self._index.records} were packed anew since {path} was made; "
                f"make it again with: python -m tfclip.search index {self._index.run} "
                f"{self._index.records}"
            )

    def __len__(self) -> int:
        return len(self._index.rows)

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
            rows = min(_CHECKED_ROWS, len(self))
            contents = np.empty(rows, object)
            contents[:] = [self.picture(row) for row in range(rows)]
            own = embed(names.ENCODE_IMAGE, contents)
            kept = self._index.rows["embedding"][:rows]
            if own.shape != kept.shape or (np.sum(own * kept, 1) < _LEAST_AGREEMENT).any():
                raise ValueError(
                    f"{self._path} was made with another model than that of version {version}; "
                    "make it again from the run that was exported: python -m tfclip.search index "
                    f"RUN {self._index.records}"
                )
            self._checked.add(version)

    def hits(self, embedding: np.ndarray, top: int) -> list[dict]:
        """Return the pictures nearest to an embedding (D,): row, cosine, key, captions, labels."""
        rows, cosines = nearest_rows(self._index.rows["embedding"], embedding, top)
        hits = []
        for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True):
            record = self._record(row)
            texts = {
                name: [text.decode("utf-8", "replace") for text in record[key].numpy()]
                for name, key in (("captions", schema.CAPTION), ("labels", schema.LABEL))
            }
            key = record[schema.KEY].numpy().decode("utf-8", "replace")
            hits.append({"row": row, "cosine": round(cosine, 4), "key": key, **texts})
        return hits

    def picture(self, row: int) -> bytes:
        """Return the JPEG of a row.

        Raises:
            Refused: NOT_FOUND, there is no such row.
        """
        if not 0 <= row < len(self):
            raise Refused("NOT_FOUND", f"the index has {len(self)} pictures; there is no {row}")
        return self._record(row)[schema.IMAGE].numpy()

    def _record(self, row: int) -> dict:
        place = self._index.rows[row]
        shard = self._index.records / self._index.shards[place["shard"]]
        return schema.parse(tf.constant(read_record(shard, int(place["offset"]))))


def read_top(content: dict) -> int:
    """Return how many hits a request asks for.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    top = content.get("top", 12)
    if not isinstance(top, int) or isinstance(top, bool) or not 1 <= top <= MOST_HITS:
        raise invalid(f"top must be 1 to {MOST_HITS}")
    return top
