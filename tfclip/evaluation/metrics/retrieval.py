"""Retrieval in both directions with several captions to a picture; exact, bounded in memory."""

import numpy as np

RECALLS = (1, 5, 10)
TIE = 1e-12
"""Similarities that differ by less are equal; rounding in float64 stays a thousand times below."""


def retrieval_metrics(
    image_embeddings: np.ndarray,
    text_embeddings: np.ndarray,
    image_of_text: np.ndarray,
    *,
    chunk: int = 1024,
) -> dict:
    """Recall@1/5/10 and median rank of N pictures and M captions (Hodosh et al. 2013).

    Image to text: the rank of the best of a picture's own captions among the captions of others.
    Text to image: the rank of the caption's picture. Ranks start at 1, and what ties with the right
    answer stands before it, so constant embeddings find nothing. A picture without captions can
    be found in the place of another, but asks for none itself.

    Args:
        image_embeddings: (N,D) float, unit norm.
        text_embeddings: (M,D) float, unit norm.
        image_of_text: (M,) int, the picture of each caption.
        chunk: at most chunk x chunk similarities are in memory; the result does not depend on it.

    Returns:
        `image_to_text` and `text_to_image`, each with `r1`, `r5`, `r10` (0..1) and `median_rank`;
        `images` and `captions`.

    Raises:
        ValueError: nothing to retrieve, shapes or indices that do not fit, or embeddings that are
            not finite.
    """
    images, texts = np.asarray(image_embeddings), np.asarray(text_embeddings)
    owner = np.asarray(image_of_text)
    _check(images, texts, owner, chunk)
    own = np.concatenate(
        [
            np.einsum("nd,nd->n", images[owner[part]], texts[part], dtype=np.float64)
            for part in _parts(len(texts), chunk)
        ]
    )
    best = np.full(len(images), -np.inf)
    np.maximum.at(best, owner, own)
    image_ranks, text_ranks = np.ones(len(images), np.int64), np.ones(len(texts), np.int64)
    for rows in _parts(len(images), chunk):
        some_images = images[rows].astype(np.float64)
        for columns in _parts(len(texts), chunk):
            similar = some_images @ texts[columns].astype(np.float64).T
            # A picture's own captions compete neither with one another nor with themselves.
            place = owner[columns] - rows.start
            mine = np.flatnonzero((0 <= place) & (place < len(similar)))
            similar[place[mine], mine] = -np.inf
            image_ranks[rows] += np.sum(similar >= best[rows, None] - TIE, axis=1)
            text_ranks[columns] += np.sum(similar >= own[columns] - TIE, axis=0)
    return {
        "image_to_text": _summary(image_ranks[np.isfinite(best)]),
        "text_to_image": _summary(text_ranks),
        "images": len(images),
        "captions": len(texts),
    }


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
        # NaN loses every comparison: each answer would come out as rank 1.
        raise ValueError("embeddings must be finite; received NaN or infinity: the model diverged")


def _parts(length: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]


def _summary(ranks: np.ndarray) -> dict[str, float]:
    recalls = {f"r{k}": float(np.mean(ranks <= k)) for k in RECALLS}
    return {**recalls, "median_rank": float(np.median(ranks))}
