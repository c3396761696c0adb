"""Reduces the stored embeddings of a teacher to their principal components."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfclip.evaluation.embedding.features.stored_arrays import new_array
from tfclip.records.teachers import EMPTY, WORDS

ROWS_AT_ONCE = 4096


def reduce_teacher(folder: Path, size: int) -> float:
    """Replace the embeddings of pictures and texts in a teacher's folder by `size` components.

    The components are those of both modalities with equal weight, not centred, so that the reduced
    embeddings, again of unit norm, have nearly the same cosines.

    Args:
        folder: has `*.images.npy` (N, V, D), `*.texts.npy` (M, D) and `empty.npy` (D,),
            and perhaps `words.npy` (W, D).
        size: below D.

    Returns:
        The share of the squared length of the embeddings that the components keep.
    """
    modalities = [sorted(folder.glob(f"*.{kind}.npy")) for kind in ("images", "texts")]
    moment = second_moment(modalities[0]) + second_moment(modalities[1])
    components, kept = principal_components(moment, size)
    components = components.astype(np.float32)
    others = [folder / name for name in (EMPTY, WORDS) if (folder / name).is_file()]
    for path in (*sum(modalities, []), *others):
        stored = np.load(path, mmap_mode="r")
        shape = (*stored.shape[:-1], size)
        reduced = new_array(folder, path.stem + ".reduced", str(stored.dtype), shape)
        rows, at = reduced.reshape(-1, size), 0
        for part in parts(stored):
            smaller = part @ components
            length = np.linalg.norm(smaller, axis=1, keepdims=True)
            rows[at : at + len(part)] = smaller / np.maximum(length, 1e-12)
            at += len(part)
        reduced.flush()
        (folder / f"{path.stem}.reduced.npy").replace(path)
    return kept


def second_moment(paths: list[Path]) -> np.ndarray:
    """Return the mean of x x' (D, D) over the rows x of arrays (..., D); 0 without rows."""
    total, count = np.zeros(()), 0
    for path in paths:
        for part in parts(np.load(path, mmap_mode="r")):
            total = total + part.T @ part
            count += len(part)
    return total / max(count, 1)


def principal_components(moment: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    """Return the eigenvectors (D, size) of the largest eigenvalues of a second moment (D, D), and
    their share of all eigenvalues; all D of them if `size` is larger."""
    values, vectors = np.linalg.eigh(moment)
    share = values[::-1][:size].sum() / values.sum()
    return np.ascontiguousarray(vectors[:, ::-1][:, :size]), float(share)


def parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of an array (..., D) as float32 (n, D)."""
    rows = array.reshape(-1, array.shape[-1])
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield np.asarray(rows[start : start + ROWS_AT_ONCE], np.float32)
