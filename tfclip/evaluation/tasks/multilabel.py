"""Measures zero-shot multi-label classification: average precision and fitted thresholds.

Average precision is reported in two definitions. `map` is CLIP_benchmark's: all points, difficult
objects count as positives. `map_voc07` is VOC2007's: 11 points, difficult objects ignored.
Thresholds and all decision rates ignore difficult objects. NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tfclip.evaluation.datasets.multilabel_images import LabelledPictures
from tfclip.evaluation.decisions.adapted_classes import AdaptedClasses
from tfclip.evaluation.decisions.fit import Fitted, fit_all
from tfclip.evaluation.decisions.fusion import Fusion
from tfclip.evaluation.decisions.options import MultilabelOptions
from tfclip.evaluation.decisions.scored_images import ScoredPictures, embed_labelled, with_fusion
from tfclip.evaluation.embedding.cache import Embeddings, class_embeddings_of
from tfclip.evaluation.embedding.prompts import templates_by_name
from tfclip.evaluation.metrics.bootstrap import bootstrap_weights
from tfclip.evaluation.tasks.multilabel_decisions import (
    abstentions,
    all_decisions,
    confusion_of_classes,
    named,
    per_class,
    probability_errors,
    promised,
)
from tfclip.evaluation.tasks.multilabel_map import RESAMPLES, map_by_templates, rankings


@dataclass(frozen=True)
class MultilabelResult:
    """The result: `figures` for metrics/voc.json, `thresholds` for thresholds.json."""

    figures: dict
    thresholds: dict
    test: ScoredPictures
    calibration: ScoredPictures
    fitted: Fitted


def evaluate_multilabel(
    embeddings: Embeddings,
    test: LabelledPictures,
    calibration: LabelledPictures,
    options: MultilabelOptions = MultilabelOptions(),  # noqa: B008 (frozen)
    *,
    never_trained: Sequence[str] | None = None,
    adapted: AdaptedClasses | None = None,
) -> MultilabelResult:
    """Fit thresholds on one split, and measure on another.

    Args:
        embeddings: of a trained model.
        test: the pictures to measure on.
        calibration: the pictures to fit thresholds on, none of them in `test`. With
            `options.false_positives` its labels are unknown, and `difficult` marks the classes that
            a picture may show, see `false_positive_rate`.
        options: of the measurement.
        never_trained: classes that did not occur in training; by default those that the model's
            configuration lists.
        adapted: classes fitted on labelled pictures, used instead of texts. None of those pictures
            may be in `test`; where they are the calibration split, their held-out scores are used.

    Returns:
        The figures; all rates are 0..1, undefined ones NaN. `macro` and `micro` are for the
        thresholds in use, `unshrunk` for thresholds fitted to each class alone, `global` for one
        threshold for all classes, `softmax` for thresholds on the softmax over the classes instead
        of the cosine. `oracle` is for thresholds fitted on `test` itself: an upper bound that is
        used for nothing. `intervals` are 95 % bootstrap intervals over the pictures of `test` with
        fixed thresholds.

    Raises:
        ValueError: the splits share pictures, their classes differ, or a prompt is too long for
            the model.
    """
    _check_apart(test, calibration)
    names = test.class_names
    options.words.check(names)
    texts = options.words.prompts(names, options.templates)
    negatives = options.words.negative_prompts(names, options.templates)
    if adapted is None:
        classes = class_embeddings_of(embeddings, texts, negatives)
    else:
        _check_not_adapted_on(test, adapted)
        classes = adapted.of(names)
    embedded = embed_labelled(embeddings, test, options.tiles)
    on_test = embedded.score(classes)
    on_calibration = embed_labelled(embeddings, calibration, options.tiles).score(classes)
    if adapted is not None:
        on_calibration = _with_held_out(on_calibration, adapted)
    scale = embeddings.logit_scale
    fusion = Fusion(options.fusion, sharpness=scale)
    on_test, on_calibration = (with_fusion(part, fusion) for part in (on_test, on_calibration))
    fitted = fit_all(on_calibration, options, scale)
    weights = bootstrap_weights(len(on_test.keys), RESAMPLES, options.seed)
    if never_trained is None:
        never_trained = embeddings.trained_on.get("never_trained", ())
    unseen = [name for name in names if name in set(never_trained)]
    is_labelled = options.false_positives is None
    figures, intervals = rankings(on_test, unseen, weights)
    decided, of_decisions = all_decisions(on_test, fitted, options, weights)
    figures |= decided
    figures["softmax"]["logit_scale"] = scale
    chosen = {"map": figures["map"], "interval": intervals["map"]}
    figures |= {
        "intervals": intervals | of_decisions,
        "per_class": per_class(on_test, fitted.thresholds),
        "probabilities": probability_errors(on_test, fitted, options),
        "confusion": confusion_of_classes(on_test, fitted.thresholds),
        "none_of_these": abstentions(on_test, fitted.thresholds, weights),
        "without_positives": [
            name for c, name in enumerate(names) if not on_test.present[:, c].any()
        ],
        "global_threshold_for": [names[c] for c in fitted.thresholds.from_overall],
        "never_trained_in_calibration": [
            name
            for name in unseen
            if is_labelled and on_calibration.present[:, names.index(name)].any()
        ],
        "split": on_test.split,
        "calibrate": on_calibration.split if is_labelled else "none",
        "images": len(on_test.keys),
        "calibration_images": len(on_calibration.keys),
        "skipped": on_test.skipped + on_calibration.skipped,
        "tiles": options.tiles,
        "fusion": fusion.to_dict(),
        "objective": options.objective if is_labelled else None,
        "templates": options.templates,
        "synonyms": {name: list(words) for name, words in options.words.synonyms.items()},
        "negatives_of_classes": {
            name: list(words) for name, words in options.words.negatives.items()
        },
        "seed": options.seed,
    }
    if options.all_templates:
        figures["by_templates"] = map_by_templates(
            embeddings, embedded, fusion, options, weights, chosen
        )
    if not is_labelled:
        figures["negatives"] = promised(on_test, on_calibration, fitted.thresholds, options)
        low, high = of_decisions["macro_specificity"]
        figures["negatives"]["measured_interval"] = [1 - high, 1 - low]
    thresholds = thresholds_content(
        names, texts, fitted, options, figures["fusion"], figures["calibrate"]
    )
    if any(negatives):
        thresholds["negative_prompts"] = named_texts(names, negatives)
    if adapted is not None:
        thresholds["adapted"] = figures["adapted"] = adapted.name
    return MultilabelResult(figures, thresholds, on_test, on_calibration, fitted)


def _check_apart(test: LabelledPictures, calibration: LabelledPictures) -> None:
    if test.class_names != calibration.class_names:
        raise ValueError("the test and the calibration split have different class names")
    shared = set(test.keys) & set(calibration.keys)
    if shared:
        raise ValueError(
            f"{len(shared)} pictures of split {test.split} are in split {calibration.split} too "
            f"({min(shared)}): thresholds must be fitted on other pictures than they are reported "
            "on; give --calibrate another split"
        )


def _check_not_adapted_on(test: LabelledPictures, adapted: AdaptedClasses) -> None:
    if shared := set(test.keys) & set(adapted.keys):
        raise ValueError(
            f"the adapted classes {adapted.name} were fitted on {len(shared)} pictures of split "
            f"{test.split} ({min(shared)}); measure on others"
        )


def _with_held_out(scored: ScoredPictures, adapted: AdaptedClasses) -> ScoredPictures:
    """Return cross-validated scores if the classes were fitted on these pictures: scores of
    training pictures would be too optimistic."""
    place = {key: row for row, key in enumerate(adapted.keys)}
    is_adapted = [key in place for key in scored.keys]
    if not any(is_adapted):
        return scored
    if not all(is_adapted) or scored.view_scores.shape[1] > 1:
        raise ValueError(
            f"the adapted classes {adapted.name} were fitted on {sum(is_adapted)} of the "
            f"{len(is_adapted)} pictures of split {scored.split}; calibrate on all of these in one "
            "view (--tiles 1), or on other pictures"
        )
    columns = [adapted.class_names.index(name) for name in scored.class_names]
    rows = [place[key] for key in scored.keys]
    return replace(scored, view_scores=adapted.held_out[rows][:, None, columns])


def thresholds_content(
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
    fitted: Fitted,
    options: MultilabelOptions,
    fusion: Mapping,
    calibrate: str,
) -> dict:
    """Return the content of thresholds.json: what `predict` and exports decide by."""
    calibration = fitted.calibrations.get(options.probabilities)
    return {
        "class_names": list(names),
        "per_class": named(names, fitted.thresholds.per_class),
        "global": fitted.thresholds.overall,
        "unshrunk_per_class": named(names, fitted.unshrunk.per_class),
        "shrinkage": fitted.strength,
        "shrink": options.shrink,
        "seed": options.seed,
        "softmax_per_class": named(names, fitted.softmax.per_class),
        "softmax_global": fitted.softmax.overall,
        "prompts": named_texts(names, texts),
        "templates": list(templates_by_name(options.templates)),
        "tiles": options.tiles,
        "fusion": fusion,
        "calibration": None if calibration is None else calibration.to_dict(names),
        "objective": options.objective if options.false_positives is None else None,
        "false_positives": options.false_positives,
        "calibrate": calibrate,
    }


def named_texts(names: Sequence[str], texts: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Return texts by class name, for a JSON file."""
    return {name: list(listed) for name, listed in zip(names, texts, strict=True)}
