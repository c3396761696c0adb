"""Mean average precision with intervals, also by tiles, by trained classes and by templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfclip.evaluation.decisions.fusion import Fusion
from tfclip.evaluation.decisions.options import MultilabelOptions
from tfclip.evaluation.decisions.scored_images import EmbeddedPictures, ScoredPictures, with_fusion
from tfclip.evaluation.embedding.cache import Embeddings, class_embeddings_of
from tfclip.evaluation.embedding.prompts import TEMPLATES
from tfclip.evaluation.metrics.bootstrap import recentred_bootstrap_interval
from tfclip.evaluation.metrics.multilabel import (
    average_precision,
    average_precision_voc07,
    mean_defined,
)

RESAMPLES = 500


def rankings(
    scored: ScoredPictures, unseen: Sequence[str], weights: np.ndarray
) -> tuple[dict, dict]:
    """Return mean average precisions and their 95 % bootstrap intervals.

    Args:
        scored: the pictures.
        unseen: classes that did not occur in training, which are reported separately.
        weights: (N,R) resamples, from `bootstrap.bootstrap_weights`.

    Returns:
        `map`, `map_voc07` and, with tiles or untrained classes, the figures for them; and the
        intervals by the same names.
    """
    figures: dict[str, Any] = {}
    intervals: dict[str, list[float]] = {}

    def report(name: str, once: np.ndarray, resampled: np.ndarray) -> None:
        figures[name] = float(mean_defined(once))
        intervals[name] = recentred_bootstrap_interval(figures[name], mean_defined(resampled))

    ap = average_precision(scored.scores, scored.present)
    resampled = average_precision(scored.scores, scored.present, weights=weights)
    report("map", ap, resampled)
    eleven = average_precision_voc07(scored.scores, scored.truth, scored.difficult)
    report(
        "map_voc07",
        eleven,
        average_precision_voc07(scored.scores, scored.truth, scored.difficult, weights),
    )
    if scored.view_scores.shape[1] > 1:
        one = average_precision(scored.one_view, scored.present)
        one_resampled = average_precision(scored.one_view, scored.present, weights=weights)
        report("map_one_view", one, one_resampled)
        # Paired: both on the same resamples.
        gain = mean_defined(resampled) - mean_defined(one_resampled)
        figures["map_gain_by_tiles"] = figures["map"] - figures["map_one_view"]
        intervals["map_gain_by_tiles"] = recentred_bootstrap_interval(
            figures["map_gain_by_tiles"], gain
        )
    figures["never_trained"] = list(unseen)
    if unseen:
        of_unseen = np.isin(scored.class_names, unseen)
        report("map_seen", ap[~of_unseen], resampled[~of_unseen])
        report("map_unseen", ap[of_unseen], resampled[of_unseen])
    return figures, intervals


def map_by_templates(
    embeddings: Embeddings,
    embedded: EmbeddedPictures,
    fusion: Fusion,
    options: MultilabelOptions,
    weights: np.ndarray,
    chosen: Mapping,
) -> dict[str, Mapping | None]:
    """Return the mean average precision with every named set of templates.

    Args:
        embeddings: of the model.
        embedded: the pictures.
        fusion: of their views.
        options: of the measurement, which apply apart from the templates.
        weights: (N,R) resamples.
        chosen: the result for the templates of `options`; sets of templates that make the same
            prompts are measured once.

    Returns:
        `map` and its 95 % `interval` by name of the templates; None where a prompt is longer than
        the model's context.
    """
    names, words = embedded.pictures.class_names, options.words
    measured: dict[tuple, Mapping | None] = {tuple(words.prompts(names, options.templates)): chosen}
    by_name: dict[str, Mapping | None] = {}
    for name in TEMPLATES:
        texts = tuple(words.prompts(names, name))
        if texts not in measured:
            negatives = words.negative_prompts(names, name)
            measured[texts] = _measured(embeddings, embedded, fusion, texts, negatives, weights)
        by_name[name] = measured[texts]
    return by_name


def _measured(
    embeddings: Embeddings,
    embedded: EmbeddedPictures,
    fusion: Fusion,
    texts: Sequence[Sequence[str]],
    negatives: Sequence[Sequence[str]],
    weights: np.ndarray,
) -> dict | None:
    """Return the mean average precision with these texts, or None where one is too long."""
    try:
        classes = class_embeddings_of(embeddings, texts, negatives)
    except ValueError:
        return None
    other = with_fusion(embedded.score(classes), fusion)
    once = float(mean_defined(average_precision(other.scores, other.present)))
    resampled = average_precision(other.scores, other.present, weights=weights)
    return {"map": once, "interval": recentred_bootstrap_interval(once, mean_defined(resampled))}
