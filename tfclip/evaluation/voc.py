"""Zero-shot multi-label classification, Pascal VOC's way: average precision, fitted thresholds.

Average precision comes both ways. `map` is CLIP_benchmark's: all points, and a difficult object is
an object. `map_voc07` is VOC2007's own: 11 points, difficult objects ignored. Thresholds and all
shares of decisions ignore difficult objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfclip.evaluation.labelled import LabelledPictures, labelled_records
from tfclip.evaluation.multilabel import (
    average_precision,
    average_precision_voc07,
    bootstrap_weights,
    confusion,
    interval,
    macro,
    mean_defined,
    micro,
    rates,
)
from tfclip.evaluation.prompts import prompts, readable_names, templates_by_name
from tfclip.evaluation.thresholds import Thresholds, fit_thresholds, parse_objective
from tfclip.evaluation.zero_shot import class_embeddings, embed_pictures, view_scores
from tfclip.models.saved import TrainedModel

RESAMPLES = 500
# Decoded pictures that `SplitScorer` keeps in memory between two measurements.
KEPT_BYTES = 512 * 2**20


@dataclass(frozen=True)
class ScoredPictures:
    """The pictures of a split that could be read, and the cosine of each view with each class.

    `view_scores` is (N,T,C) float32, the whole picture first; the rest as in `LabelledPictures`.
    """

    split: str
    class_names: tuple[str, ...]
    keys: tuple[str, ...]
    present: np.ndarray
    difficult: np.ndarray
    view_scores: np.ndarray
    skipped: int

    @property
    def scores(self) -> np.ndarray:
        """The highest cosine of any view: (N,C)."""
        return self.view_scores.max(axis=1)

    @property
    def one_view(self) -> np.ndarray:
        """The cosine of the whole picture: (N,C)."""
        return self.view_scores[:, 0]


@dataclass(frozen=True)
class VocResult:
    """What was measured: `figures` for metrics/voc.json, `thresholds` for thresholds.json."""

    figures: dict
    thresholds: dict
    test: ScoredPictures
    calibration: ScoredPictures


def score_pictures(
    model: TrainedModel, pictures: LabelledPictures, classes: np.ndarray, tiles: str
) -> ScoredPictures:
    """Score every picture against the class embeddings (C,D), in every view of a tile layout."""
    views = pictures.views(model.config.image_size, tiles)
    rows, embeddings = embed_pictures(model, views, total=len(pictures.keys))
    return ScoredPictures(
        pictures.split,
        pictures.class_names,
        tuple(pictures.keys[row] for row in rows),
        pictures.present[rows],
        pictures.difficult[rows],
        view_scores(embeddings, classes),
        pictures.skipped + len(pictures.keys) - len(rows),
    )


def evaluate_voc(
    model: TrainedModel,
    test: LabelledPictures,
    calibration: LabelledPictures,
    *,
    templates: str = "single",
    tiles: str = "1",
    objective: str = "f1",
    seed: int = 0,
    never_trained: Sequence[str] | None = None,
) -> VocResult:
    """Fit thresholds on one split, and measure on another.

    Args:
        model: a trained model.
        test: what is measured on.
        calibration: what the thresholds are fitted on; it shares no picture with `test`.
        templates: of the prompts, by name.
        tiles: layout of the views; the score of a picture is the highest of its views.
        objective: of the thresholds, see `thresholds.parse_objective`.
        seed: of the bootstrap resamples.
        never_trained: classes that did not occur in training; by default those the model names.

    Returns:
        The figures; all shares are 0..1, a share that is undefined is NaN. `macro` and `micro` are
        with a threshold per class, `global` with one for all, `softmax` with the softmax over the
        classes in place of the cosine, thresholds fitted alike. `intervals` are 95 % bootstrap
        intervals over the pictures of `test`, the thresholds as they are.

    Raises:
        ValueError: both splits are the same or share pictures, or their classes differ.
    """
    wanted, texts = parse_objective(objective), templates_by_name(templates)
    _check_apart(test, calibration)
    names = test.class_names
    classes = class_embeddings(model, readable_names(names), texts)
    on_test = score_pictures(model, test, classes, tiles)
    on_calibration = score_pictures(model, calibration, classes, tiles)
    scale = float(model.dual_encoder.temperature())
    weights = bootstrap_weights(len(on_test.keys), RESAMPLES, seed)

    def fit(kind: Mapping[str, np.ndarray]) -> Thresholds:
        known = on_calibration.present & ~on_calibration.difficult
        return fit_thresholds(kind["calibration"], known, wanted, on_calibration.difficult)

    cosine = {"test": on_test.scores, "calibration": on_calibration.scores}
    softmax = {split: _softmax(scale * scores) for split, scores in cosine.items()}
    fitted, fitted_softmax = fit(cosine), fit(softmax)
    if never_trained is None:
        never_trained = model.trained_on.get("never_trained", ())
    unseen = [name for name in names if name in set(never_trained)]
    figures, intervals = rankings(on_test, unseen, weights)
    decided = _decisions(cosine["test"], fitted.per_class, on_test, weights)
    intervals |= decided.pop("intervals")
    figures |= {
        "macro": decided["macro"],
        "micro": decided["micro"],
        "global": {"threshold": fitted.overall}
        | _decisions(cosine["test"], fitted.overall, on_test),
        "softmax": {
            "logit_scale": scale,
            **_decisions(softmax["test"], fitted_softmax.per_class, on_test),
            "global": {"threshold": fitted_softmax.overall}
            | _decisions(softmax["test"], fitted_softmax.overall, on_test),
        },
        "intervals": intervals,
        "per_class": _per_class(on_test, fitted),
        "without_positives": [
            name for c, name in enumerate(names) if not on_test.present[:, c].any()
        ],
        "global_threshold_for": [names[c] for c in fitted.from_overall],
        "never_trained_in_calibration": [
            name for name in unseen if on_calibration.present[:, names.index(name)].any()
        ],
        "split": on_test.split,
        "calibrate": on_calibration.split,
        "images": len(on_test.keys),
        "calibration_images": len(on_calibration.keys),
        "skipped": on_test.skipped + on_calibration.skipped,
        "tiles": tiles,
        "objective": objective,
        "templates": templates,
        "seed": seed,
    }
    thresholds = {
        "class_names": list(names),
        "per_class": _named(names, fitted.per_class),
        "global": fitted.overall,
        "softmax_per_class": _named(names, fitted_softmax.per_class),
        "softmax_global": fitted_softmax.overall,
        "prompts": {
            name: list(prompts(readable, texts))
            for name, readable in zip(names, readable_names(names), strict=True)
        },
        "templates": list(texts),
        "tiles": tiles,
        "objective": objective,
        "calibrate": on_calibration.split,
    }
    return VocResult(figures, thresholds, on_test, on_calibration)


class SplitScorer:
    """The zero-shot mAP of one labelled split of records, to be asked again while a model learns.

    One view. The pictures are decoded once and kept, where they are few enough.
    """

    def __init__(self, model: TrainedModel, directory: Path, split: str, templates: str = "single"):
        self._model = model
        self._pictures = labelled_records(directory, split)
        self._templates = templates_by_name(templates)
        size = model.config.image_size
        self._views = self._pictures.views(size, "1")
        if len(self._pictures.keys) * size * size * 3 <= KEPT_BYTES:
            self._views = self._views.cache()

    def map(self) -> float:
        """The mean of all-points average precision (`map` of `evaluate_voc`), measured anew."""
        names = readable_names(self._pictures.class_names)
        classes = class_embeddings(self._model, names, self._templates)
        _, embeddings = embed_pictures(self._model, self._views, total=len(self._pictures.keys))
        scores = view_scores(embeddings, classes)[:, 0]
        return float(mean_defined(average_precision(scores, self._pictures.present)))


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


def rankings(
    scored: ScoredPictures, unseen: Sequence[str], weights: np.ndarray
) -> tuple[dict, dict]:
    """The means of average precision over the classes, and their 95 % bootstrap intervals.

    Args:
        scored: the pictures.
        unseen: classes that did not occur in training, told apart.
        weights: (R,N) resamples, from `multilabel.bootstrap_weights`.

    Returns:
        `map`, `map_voc07` and, where there is cause, the one-view and unseen figures; and the
        intervals by the same names.
    """
    figures, intervals = {}, {}

    def tell(name: str, once: np.ndarray, resampled: np.ndarray) -> None:
        figures[name] = float(mean_defined(once))
        intervals[name] = _interval(figures[name], mean_defined(resampled))

    ap = average_precision(scored.scores, scored.present)
    resampled = average_precision(scored.scores, scored.present, weights=weights)
    tell("map", ap, resampled)
    known = scored.present & ~scored.difficult
    eleven = average_precision_voc07(scored.scores, known, scored.difficult)
    tell(
        "map_voc07",
        eleven,
        average_precision_voc07(scored.scores, known, scored.difficult, weights),
    )
    if scored.view_scores.shape[1] > 1:
        one = average_precision(scored.one_view, scored.present)
        one_resampled = average_precision(scored.one_view, scored.present, weights=weights)
        tell("map_one_view", one, one_resampled)
        # Both on the same resamples: the interval of the gain, not of two separate figures.
        gain = mean_defined(resampled) - mean_defined(one_resampled)
        figures["map_gain_by_tiles"] = figures["map"] - figures["map_one_view"]
        intervals["map_gain_by_tiles"] = _interval(figures["map_gain_by_tiles"], gain)
    figures["never_trained"] = list(unseen)
    if unseen:
        of_unseen = np.isin(scored.class_names, unseen)
        tell("map_seen", ap[~of_unseen], resampled[~of_unseen])
        tell("map_unseen", ap[of_unseen], resampled[of_unseen])
    return figures, intervals


def _decisions(
    scores: np.ndarray,
    thresholds: np.ndarray | float,
    scored: ScoredPictures,
    weights: np.ndarray | None = None,
) -> dict:
    """`macro` and `micro` shares of the decisions score >= threshold; with weights `intervals`."""
    known, predicted = scored.present & ~scored.difficult, scores >= thresholds
    counts = confusion(predicted, known, scored.difficult)
    means = {
        name: {share: float(value) for share, value in mean(counts).items()}
        for name, mean in (("macro", macro), ("micro", micro))
    }
    if weights is None:
        return means
    resampled = confusion(predicted, known, scored.difficult, weights)
    intervals = {
        f"{name}_{share}": _interval(means[name][share], values)
        for name, mean in (("macro", macro), ("micro", micro))
        for share, values in mean(resampled).items()
    }
    return {**means, "intervals": intervals}


def _interval(figure: float, resampled: np.ndarray) -> list[float]:
    """The 95 % interval of resamples (R,), moved so that their mean is the figure.

    A resample holds pictures twice, which lifts average precision where positives are few: left
    where it is, the interval may not even hold the figure.
    """
    return interval(resampled - mean_defined(resampled) + figure)


def _per_class(scored: ScoredPictures, fitted: Thresholds) -> dict[str, dict]:
    known = scored.present & ~scored.difficult
    columns = {
        "ap": average_precision(scored.scores, scored.present),
        "ap_voc07": average_precision_voc07(scored.scores, known, scored.difficult),
        "positives": scored.present.sum(axis=0),
        "difficult": scored.difficult.sum(axis=0),
        "threshold": fitted.per_class,
        **rates(confusion(scored.scores >= fitted.per_class, known, scored.difficult)),
    }
    return {
        name: {key: column[c].item() for key, column in columns.items()}
        for c, name in enumerate(scored.class_names)
    }


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _named(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))
