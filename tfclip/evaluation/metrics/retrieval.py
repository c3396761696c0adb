"""Retrieval metrics in both directions with several captions per picture, in bounded memory."""

import numpy as np

RECALLS = (1, 5, 10)
TIE = 1e-12
"""Similarities that differ by less count as equal; float64 rounding is a thousand times smaller."""


def retrieval_metrics(
    image_embeddings: np.ndarray,
    text_embeddings: np.ndarray,
    image_of_text: np.ndarray,
    text_id: np.ndarray | None = None,
    *,
    chunk: int = 1024,
) -> dict:
    """Return recall@1/5/10 and median rank of N pictures and M captions (Hodosh et al. 2013).

    Image to text: the rank of a picture's best own caption among the captions of other pictures.
    Text to image: the rank of the caption's picture. Ranks start at 1, and ties rank ahead of the
    correct answer, so constant embeddings retrieve nothing. A picture without captions is a
    candidate, but no query.

    Captions with the same `text_id` are one text, such as "a photo of a dog." for all dogs: every
    one of its pictures is a correct answer, and among the incorrect texts of a picture it counts
    once.

    Args:
        image_embeddings: (N,D) float, unit norm.
        text_embeddings: (M,D) float, unit norm.
        image_of_text: (M,) int, the picture of each caption.
        text_id: (M,) int, equal for identical captions; by default all captions differ.
        chunk: at most chunk x chunk similarities are held in memory; the result is the same.

    Returns:
        `image_to_text` and `text_to_image`, each with `r1`, `r5`, `r10` (0..1) and `median_rank`;
        `images` and `captions`.

    Raises:
        ValueError: there is nothing to retrieve, shapes or indices do not match, or embeddings are
            not finite.

    >>> figures = retrieval_metrics(np.eye(2), np.eye(2), np.array([0, 1]))
    >>> figures["text_to_image"]["r1"], figures["text_to_image"]["median_rank"]
    (1.0, 1.0)
    """
    images, texts = np.asarray(image_embeddings), np.asarray(text_embeddings)
    owner = np.asarray(image_of_text)
    _check(images, texts, owner, chunk)
    if text_id is None:
        text_of = np.arange(len(texts))
    else:
        if np.shape(text_id) != owner.shape:
            raise ValueError(f"received text ids {np.shape(text_id)}; allowed: {owner.shape}")
        # Sort the captions so that identical ones are adjacent.
        text_of = np.unique(text_id, return_inverse=True)[1]
        order = np.argsort(text_of, kind="stable")
        texts, owner, text_of = texts[order], owner[order], text_of[order]
    shared = len(texts) > 0 and text_of[-1] + 1 < len(texts)
    own = np.concatenate(
        [
            np.einsum("nd,nd->n", images[owner[part]], texts[part], dtype=np.float64)
            for part in _parts(len(texts), chunk)
        ]
    )
    best = np.full(len(images), -np.inf)
    np.maximum.at(best, owner, own)
    if shared:
        _raise_to_best_picture(own, images, texts, owner, text_of, chunk)
    pairs = _pairs(owner, text_of)
    image_ranks, text_ranks = np.ones(len(images), np.int64), np.ones(len(texts), np.int64)
    for rows in _parts(len(images), chunk):
        some_images = images[rows].astype(np.float64)
        first, last = np.searchsorted(pairs[:, 0], [rows.start, rows.stop])
        ranges = pairs[first:last]
        open_text = np.full(len(some_images), -np.inf)
        for columns in _parts(len(texts), chunk):
            similar = some_images @ texts[columns].astype(np.float64).T
            # The captions of the same picture do not compete with one another.
            similar[_right(ranges, rows, columns)] = -np.inf
            text_ranks[columns] += np.sum(similar >= own[columns] - TIE, axis=0)
            if shared:
                similar, open_text = _once(similar, open_text, text_of, columns)
            image_ranks[rows] += np.sum(similar >= best[rows, None] - TIE, axis=1)
    return {
        "image_to_text": _summary(image_ranks[np.isfinite(best)]),
        "text_to_image": _summary(text_ranks),
        "images": len(images),
        "captions": len(texts),
    }


def _raise_to_best_picture(
    own: np.ndarray,
    images: np.ndarray,
    texts: np.ndarray,
    owner: np.ndarray,
    text_of: np.ndarray,
    chunk: int,
) -> None:
    """Set `own` of captions that several pictures share to the highest similarity among these.

    Args:
        own: (M,), changed in place.
        images, texts, owner, text_of, chunk: with identical captions adjacent.
    """
    starts = np.flatnonzero(np.diff(text_of, prepend=-1))
    ends = np.append(starts[1:], len(text_of))
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        pictures = np.unique(owner[start:end])
        if len(pictures) == 1:
            continue
        for part in _parts(len(pictures), chunk):
            some = images[pictures[part]].astype(np.float64)
            for columns in _parts(end - start, chunk):
                at = slice(start + columns.start, start + columns.stop)
                nearest = (some @ texts[at].astype(np.float64).T).max(axis=0)
                own[at] = np.maximum(own[at], nearest)


def _pairs(owner: np.ndarray, text_of: np.ndarray) -> np.ndarray:
    """Return (P,3), sorted by picture: a picture and the range [start, end) of one of its texts."""
    counts = np.bincount(text_of)
    ends = np.cumsum(counts)
    pairs = np.unique(np.stack([owner, text_of], 1), axis=0)
    picture, text = pairs[:, 0], pairs[:, 1]
    return np.stack([picture, ends[text] - counts[text], ends[text]], 1)


def _right(pairs: np.ndarray, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and column indices of correct answers in the block."""
    start = np.maximum(pairs[:, 1], columns.start) - columns.start
    lengths = np.maximum(np.minimum(pairs[:, 2], columns.stop) - columns.start - start, 0)
    before = np.cumsum(lengths) - lengths
    place = np.repeat(start - before, lengths) + np.arange(int(lengths.sum()))
    return np.repeat(pairs[:, 0] - rows.start, lengths), place


def _once(
    similar: np.ndarray, open_text: np.ndarray, text_of: np.ndarray, columns: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Merge the columns of identical captions into one with the highest similarity.

    Args:
        similar: (R,C) of the block.
        open_text: (R,) highest similarity so far of a text that began in an earlier block, or -inf.
        text_of, columns: the text of every caption, and the columns of the block.

    Returns:
        (R,T) for the texts that end in this block, and `open_text` for the next block.
    """
    texts = text_of[columns]
    nearest = np.maximum.reduceat(similar, np.flatnonzero(np.diff(texts, prepend=-1)), axis=1)
    nearest[:, 0] = np.maximum(nearest[:, 0], open_text)
    if columns.stop < len(text_of) and text_of[columns.stop] == texts[-1]:
        return nearest[:, :-1], nearest[:, -1]
    return nearest, np.full(len(similar), -np.inf)


def _check(images: np.ndarray, texts: np.ndarray, owner: np.ndarray, chunk: int) -> None:
    if not len(images) or not len(texts):
        raise ValueError(f"received {len(images)} pictures and {len(texts)} captions; need both")
    if images.ndim != 2 or images.shape[1:] != texts.shape[1:] or owner.shape != (len(texts),):
        raise ValueError(
            f"received pictures {images.shape}, captions {texts.shape}, owners {owner.shape}; "
            "allowed: (N,D), (M,D), (M,)"
        )
    if owner.min() < 0 or owner.max() >= len(images):
        raise ValueError(f"received an owner outside 0..{len(images) - 1}")
    if chunk < 1:
        raise ValueError(f"received chunk {chunk}; allowed: 1 or more")
    if not all(np.isfinite(part).all() for part in (images, texts)):
        # Comparisons with NaN are false: every answer would get rank 1.
        raise ValueError("embeddings must be finite; received NaN or infinity: the model diverged")


def _parts(length: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]


def _summary(ranks: np.ndarray) -> dict[str, float]:
    recalls = {f"r{k}": float(np.mean(ranks <= k)) for k in RECALLS}
    return {**recalls, "median_rank": float(np.median(ranks))}
