"""Corrects cosines for hubs: pictures near many texts, and texts near many pictures.

A picture that is near many captions is found for captions of other pictures too. How many there are
is estimated on a bank of other pictures and captions, such as those of training (inverted softmax:
Smith et al. 2017, arXiv:1702.03859; query banks: Bogolin et al. 2022, arXiv:2112.12777).
"""

from __future__ import annotations

import numpy as np

# Chosen on Flickr8k dev with a bank of Flickr8k train.
SHARPNESS, WEIGHT = 20.0, 0.5


def density(
    embeddings: np.ndarray, bank: np.ndarray, sharpness: float = SHARPNESS, chunk: int = 1024
) -> np.ndarray:
    """Return how near each embedding is to the bank, between its mean and its largest cosine.

    Args:
        embeddings: (N,D) float, unit norm.
        bank: (M,D) float, unit norm, of the other modality.
        sharpness: 0 for the mean of the cosines; the larger, the more the largest ones count.
        chunk: at most chunk x chunk cosines are held in memory; the result is the same.

    Returns:
        log(mean(exp(sharpness * cosines))) / sharpness: (N,) float64.

    >>> density(np.eye(2), np.eye(2)[:1], sharpness=1.0).tolist()
    [1.0, 0.0]
    """
    total = np.zeros(len(embeddings))
    for start in range(0, len(embeddings), chunk):
        rows = slice(start, start + chunk)
        for at in range(0, len(bank), chunk):
            cosines = embeddings[rows] @ bank[at : at + chunk].T
            # Of cosines up to 1: the largest term is 1, so that nothing overflows.
            total[rows] += np.exp(sharpness * (cosines.astype(np.float64) - 1)).sum(axis=1)
    return 1 + np.log(total / len(bank)) / sharpness


def corrected(
    images: np.ndarray,
    texts: np.ndarray,
    bank_images: np.ndarray,
    bank_texts: np.ndarray,
    *,
    sharpness: float = SHARPNESS,
    weight: float = WEIGHT,
) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors whose products are the cosines, less `weight` times both densities.

    Args:
        images, texts: (N,D) and (M,D) float, unit norm.
        bank_images, bank_texts: (P,D) and (Q,D) float, unit norm, of other pictures and captions.
        sharpness: see `density`.
        weight: 0 for the cosines as they are.

    Returns:
        (N,D+2) and (M,D+2) float64, for `retrieval.retrieval_metrics`.

    Raises:
        ValueError: the bank is empty.
    """
    if not len(bank_images) or not len(bank_texts):
        raise ValueError(
            f"received a bank of {len(bank_images)} pictures and {len(bank_texts)} captions; need "
            "both"
        )
    of_images = -weight * density(images, bank_texts, sharpness)[:, None]
    of_texts = -weight * density(texts, bank_images, sharpness)[:, None]
    return (
        np.concatenate([images, of_images, np.ones_like(of_images)], axis=1),
        np.concatenate([texts, np.ones_like(of_texts), of_texts], axis=1),
    )
