"""Exact nearest neighbours of a query among embeddings, which may be memory-mapped.

Every row is compared, `chunk` rows at a time; rows that may be among the nearest are compared in
float64.
"""

from __future__ import annotations

import numpy as np

CHUNK = 65_536
# Similarities are rounded to this many decimals, far above float64 rounding, so that copies of one
# picture tie wherever they are.
DECIMALS = 12


def nearest_rows(
    embeddings: np.ndarray, query: np.ndarray, top: int, chunk: int = CHUNK
) -> tuple[np.ndarray, np.ndarray]:
    """Return the `top` rows most similar to a query, the most similar first; ties by row number.

    A float32 product, whose error is at most (D + 2) roundings (Higham 2002, 3.5), excludes rows
    that cannot be among them. The remaining rows are compared in float64.

    Args:
        embeddings: (N,D) of unit norm, may be memory-mapped.
        query: (D,), of any norm.
        top: the number of rows; all N if there are fewer.
        chunk: rows in memory at a time; the result does not depend on it.

    Returns:
        rows (K,) int64, and products with the query (K,) float64: cosines if it has unit norm.

    Raises:
        ValueError: the query has another size or is not finite, or top or chunk is below 1.

    >>> rows, cosines = nearest_rows(np.eye(3, dtype=np.float32), np.array([0.6, 0.8, 0.0]), 2)
    >>> rows.tolist(), cosines.tolist()
    ([1, 0], [0.8, 0.6])
    """
    query = np.asarray(query, np.float64)
    if query.shape != embeddings.shape[1:] or not np.isfinite(query).all():
        raise ValueError(f"received a query {query.shape}; allowed: {embeddings.shape[1:]}, finite")
    if top < 1 or chunk < 1:
        raise ValueError(f"received top {top}, chunk {chunk}; allowed: 1 or more")
    rows, cosines = np.empty(0, np.int64), np.empty(0)
    about, width = query.astype(np.float32), embeddings.shape[1]
    slack = 2 * (width + 2) * np.finfo(np.float32).eps * max(1.0, np.linalg.norm(query))
    for start in range(0, len(embeddings), chunk):
        part = embeddings[start : start + chunk]
        rough = part @ about
        least = np.partition(rough, -top)[-top] if len(rough) > top else -np.inf
        if len(cosines) == top:
            least = max(least, cosines[-1])
        near = np.flatnonzero(rough >= least - slack)
        similar = np.round(part[near].astype(np.float64) @ query, DECIMALS)
        rows, cosines = np.append(rows, start + near), np.append(cosines, similar)
        best = np.lexsort((rows, -cosines))[:top]
        rows, cosines = rows[best], cosines[best]
    return rows, cosines


def nearest_pictures(
    embeddings: np.ndarray, views: int, query: np.ndarray, top: int, chunk: int = CHUNK
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the `top` pictures whose most similar view is most similar to a query.

    Among the nearest `top` x `views` rows there are at least `top` pictures, each with its most
    similar view first.

    Args:
        embeddings: (N x views, D), the views of a picture one after another.
        views: the number of views of each picture.
        query, top, chunk: as in `nearest_rows`.

    Returns:
        pictures (K,) int64, products with the query (K,) float64, and the view of each (K,) int64.
    """
    rows, cosines = nearest_rows(embeddings, query, top * views, chunk)
    _, first = np.unique(rows // views, return_index=True)
    first = np.sort(first)[:top]
    return rows[first] // views, cosines[first], rows[first] % views
