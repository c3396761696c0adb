"""Stored features of a part of a record set, copied from those of the whole set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfclip.evaluation.embedding.features.joined_arrays import JoinedArrays
from tfclip.records.manifest import load_manifest
from tfclip.records.scores.folds import PART_OF


def whole_of(records: Path, split: str) -> tuple[Path, str, np.ndarray] | None:
    """Return the set that this split is a part of, its split, and the rows in it, (N,) int64.

    None if the split is not a part, or if the whole set is missing or has changed.
    """
    part = load_manifest(records).packing.get(PART_OF)
    if not isinstance(part, Mapping):
        return None
    whole = Path(part["records"])
    try:
        if load_manifest(whole).fingerprint() != part["fingerprint"]:
            return None
    except (OSError, ValueError):
        return None
    spans = [np.arange(start, end) for start, end in part["rows"][split]]
    return whole, part["split"], np.concatenate([np.zeros(0, np.int64), *spans])


def cut_texts(
    folder: Path,
    features: np.ndarray | JoinedArrays,
    token_starts: np.ndarray | None,
    text_starts: np.ndarray,
    caption_id: np.ndarray,
    rows: np.ndarray,
) -> None:
    """Write the texts of the records `rows`, and the empty text at the end, into `folder`."""
    counts = np.diff(text_starts)[rows]
    texts = np.append(_ranges(text_starts[rows], counts), text_starts[-1])
    np.save(folder / "text_starts.npy", np.concatenate([[0], np.cumsum(counts)]))
    pick_texts(folder, features, token_starts, caption_id, texts)


def pick_texts(
    folder: Path,
    features: np.ndarray | JoinedArrays,
    token_starts: np.ndarray | None,
    caption_id: np.ndarray,
    texts: np.ndarray,
) -> None:
    """Write the features of `texts`, given by index, into `folder`: pooled, or of all tokens."""
    np.save(folder / "caption_id.npy", caption_id[texts])
    if token_starts is None:
        cut_features(folder / "features.npy", features, texts)
        return
    lengths = np.diff(token_starts)[texts]
    np.save(folder / "token_starts.npy", np.concatenate([[0], np.cumsum(lengths)]))
    cut_features(folder / "features.npy", features, _ranges(token_starts[texts], lengths))


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the concatenation of the ranges start, ..., start + count - 1."""
    before = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()))


def cut_features(
    path: Path, stored: np.ndarray | JoinedArrays, rows: np.ndarray, at_once: int = 4096
) -> None:
    """Write rows of an array, which may be memory-mapped, to a file, `at_once` rows at a time."""
    shape = (len(rows), *stored.shape[1:])
    out = np.lib.format.open_memmap(path, "w+", stored.dtype, shape)
    for at in range(0, len(rows), at_once):
        out[at : at + at_once] = stored[rows[at : at + at_once]]
    out.flush()
