"""The settings of a classifier: labels, prompts, views, fusion, thresholds, calibration."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tfclip.evaluation.decisions.adapted_classes import read_adapted
from tfclip.evaluation.decisions.calibration import Calibration, calibration_from_dict
from tfclip.evaluation.decisions.fusion import Fusion
from tfclip.evaluation.decisions.kept_calibration import refitted_thresholds
from tfclip.evaluation.embedding.class_words import ClassWords
from tfclip.failures import first_line
from tfclip.inputs.tiles import tile_groups
from tfclip.models.compute import EXPORTED, FLOAT32
from tfclip.models.model_directory import model_fingerprint
from tfclip.text_lists import read_lines

THRESHOLDS_FILE = "thresholds.json"
_FIT = (
    "Fit them with: python -m tfclip.evaluate RUN multilabel --records DIR --calibrate SPLIT, or "
    "pass --thresholds none"
)


@dataclass(frozen=True)
class Classifier:
    """The zero-shot labels of a served model.

    Attributes:
        labels: the labels.
        prompts: for each label the texts whose embeddings are averaged.
        thresholds: for each label the lowest cosine that predicts it; None predicts only the label
            with the highest score.
        tiles: a layout of views, see `inputs.tiles`.
        fusion: turns the scores of the views into one.
        calibration: turns the score of each label into a probability; without one, the
            probabilities are a softmax over the labels.
        negatives: for each label the texts that are subtracted, see `class_words`; empty for none.
        embeddings: (C,D) embeddings of the labels that `tfclip adapt` fitted; they replace those of
            the prompts.
    """

    labels: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    thresholds: tuple[float, ...] | None = None
    tiles: str = "1"
    fusion: Fusion = Fusion()
    calibration: Calibration | None = None
    negatives: tuple[tuple[str, ...], ...] = ()
    embeddings: np.ndarray | None = field(default=None, compare=False)

    def with_threshold(self, threshold: float) -> Classifier:
        """Return the same labels, all decided at one threshold."""
        return replace(self, thresholds=(threshold,) * len(self.labels))

    def __post_init__(self):
        groups = tile_groups(self.tiles)
        if self.fusion.name == "learnt" and len(self.fusion.weights) != len(groups):
            raise ValueError(
                f"{len(self.fusion.weights)} learnt weights do not fit the tiles {self.tiles}"
            )

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        tiles: str = "1",
        fusion: Fusion | None = None,
        templates: str | None = None,
        words: ClassWords = ClassWords(),  # noqa: B008 (frozen)
    ) -> Classifier:
        """Return labels without thresholds, each its own prompt, or in prompts of `templates`.

        Raises:
            ValueError: unknown templates, or words of an unknown label.
        """
        words.check(texts)
        each: tuple[tuple[str, ...], ...] = tuple((text,) for text in texts)
        negatives: tuple[tuple[str, ...], ...] = ()
        if templates is not None:
            each = tuple(words.prompts(texts, templates))
        if templates is not None and words.negatives:
            negatives = tuple(words.negative_prompts(texts, templates))
        return cls(tuple(texts), each, tiles=tiles, fusion=fusion or Fusion(), negatives=negatives)

    @property
    def every_text(self) -> list[str]:
        """All texts that are embedded, for a check of their lengths."""
        return [text for texts in (*self.prompts, *self.negatives) for text in texts]

    @classmethod
    def from_thresholds(
        cls,
        path: Path,
        run: Path,
        labels: Sequence[str] | None = None,
        origin: str = "",
        objective: str | None = None,
        compute: str = FLOAT32,
    ) -> Classifier:
        """Return the labels of a thresholds file that `tfclip evaluate` wrote.

        Args:
            path: the file; it also has the prompts, tiles, fusion and calibration of the fit.
            run: the run directory or model folder that the thresholds must belong to.
            labels: the classes to use, in this order; None uses all of them.
            origin: where the labels come from, for the message.
            objective: fit the thresholds again for this objective, from scores stored in the run.
            compute: the format in which the classifier computes.

        Raises:
            FileNotFoundError: the file or the model does not exist.
            ValueError: the file is damaged, or of another model or format; a label has no
                threshold, or the scores for another objective are not stored.
        """
        content = _read_thresholds(Path(path))
        if content["model"] != model_fingerprint(run):
            raise ValueError(
                f"{path} was fitted for another model than that of {run}, for instance before it "
                f"was trained again: thresholds fit the scores of one model. {_FIT}"
            )
        if (fitted_in := content.get("compute", FLOAT32)) != compute:
            raise ValueError(
                f"{path} was fitted to scores computed in {fitted_in}, and this is computed in "
                f"{compute}: fit them again with evaluate --compute {compute}"
                + (f", or export with --compute {fitted_in}" if fitted_in in EXPORTED else "")
            )
        known = content["per_class"]
        labels = content["class_names"] if labels is None else labels
        if strange := [label for label in labels if label not in known]:
            unused = [name for name in known if name not in labels]
            raise ValueError(
                f"{path} has no threshold for {_listed(strange)} of {origin}; it was fitted on "
                f"{_listed(unused or known)}. {_FIT}"
            )
        if objective is not None:
            known = refitted_thresholds(run, content, objective)
        denied = content.get("negative_prompts", {})
        return cls(
            tuple(labels),
            tuple(tuple(content["prompts"][label]) for label in labels),
            tuple(float(known[label]) for label in labels),
            content["tiles"],
            content["fusion"],
            None
            if content["calibration"] is None
            else calibration_from_dict(content["calibration"], labels),
            tuple(tuple(denied.get(label, ())) for label in labels) if denied else (),
            read_adapted(run, content["adapted"], content["model"]).of(labels)
            if content.get("adapted")
            else None,
        )


def _read_thresholds(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"no fitted thresholds at {path}. {_FIT}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for name in content["class_names"]:
            finite = math.isfinite(content["per_class"][name])
            if not finite or not content["prompts"][name]:
                raise ValueError(f"class {name} has no usable threshold and prompt")
        if content["calibration"] is not None:
            calibration_from_dict(content["calibration"], content["class_names"])
        tile_groups(content["tiles"])
        return {**content, "fusion": Fusion.from_dict(content["fusion"]), "model": content["model"]}
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else first_line(error)
        raise ValueError(f"{path} is not a thresholds file: {reason}. {_FIT}") from None


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a labels file: UTF-8, one label per line; empty lines are ignored.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it is empty, not UTF-8, or has a label twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no labels file at {path}; --labels takes texts, a text file with one label per line, "
            "or the name of a set: fitted, voc (export: also none)"
        )
    return check_labels([line for line in read_lines(path) if line], str(path))


def check_labels(labels: Sequence[str], origin: str) -> tuple[str, ...]:
    """Return `labels`; ValueError if there is none, or one is empty or repeated."""
    if not labels:
        raise ValueError(f"{origin}: no labels; at least one is needed")
    if any(not label.strip() for label in labels):
        raise ValueError(f"{origin}: a label is empty; each label must have text")
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise ValueError(f"{origin}: {_listed(twice)} given more than once")
    return tuple(labels)


def _listed(names) -> str:
    names = list(names)
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"
