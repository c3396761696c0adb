"""Writes a trained model as a versioned SavedModel, and finds and opens one."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

# Registers the ops of the tokenizer, without which the graph does not load.
import tensorflow_text  # noqa: F401

from tfclip import files
from tfclip.models.saving import TrainedModel
from tfclip.serving import signatures as names
from tfclip.serving.classifier import Classifier
from tfclip.serving.operating_points import OPERATING_POINTS
from tfclip.serving.served_model import ServedModel
from tfclip.serving.signatures import COMPLETE, Variant
from tfclip.serving.warmup import can_warm_up, write_warmup_requests

CARD_VERSION = 2


def write_saved_model(
    model: TrainedModel,
    out: Path,
    classifier: Classifier | None = None,
    variant: Variant = COMPLETE,
    points: dict | None = None,
) -> Path:
    """Write `<out>/<integer>/`, the next free integer from 1, as TensorFlow Serving lays it out.

    It is written beside and renamed, so that a server that watches `out` sees whole versions only.
    Warm-up requests are written where the extra [serving] is installed.

    Args:
        model: what to write.
        out: the folder of the versions.
        classifier: labels to bake in.
        variant: which towers, in what precision.
        points: see `operating_points`; written beside the model card.

    Returns:
        The version's directory.

    Raises:
        ValueError: when a prompt is longer than the context, or a weight does not fit into the
            variant's precision.
        OSError: when `out` cannot be written.
    """
    served = ServedModel(model, classifier, variant)
    signatures = served.signatures()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    # A name without an integer is no version to a server. Not mkdtemp: only its owner could read.
    beside = out / f".writing-{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        tf.saved_model.save(served, str(beside), signatures=signatures)
        card = beside / names.MODEL_CARD
        card.parent.mkdir()
        text = json.dumps(model_card(model, classifier, variant), indent=2, ensure_ascii=False)
        card.write_text(text + "\n", encoding="utf-8")
        if points is not None:
            (beside / OPERATING_POINTS).write_text(json.dumps(points), encoding="utf-8")
        if can_warm_up():
            write_warmup_requests(beside, list(signatures))
        return _rename_to_next(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _rename_to_next(beside: Path, out: Path) -> Path:
    while True:
        target = out / str(max(_versions(out), default=0) + 1)
        try:
            files.publish(beside, target)
            return target
        except OSError:
            if not target.exists():
                raise
            # Another export took the number: the next one.


def model_card(model: TrainedModel, classifier: Classifier | None, variant: Variant) -> dict:
    """What a reader of the answers has to know: labels, prompts, thresholds, origin, versions."""
    decides = None
    if classifier is not None:
        decides = "highest score" if classifier.thresholds is None else "score >= threshold"
    return {
        "card_version": CARD_VERSION,
        "config": model.config.to_dict(),
        "sides": list(variant.sides),
        "precision": variant.precision,
        "logit_scale": float(model.dual_encoder.temperature()),
        "labels": list(classifier.labels) if classifier else [],
        "prompts": [list(texts) for texts in classifier.prompts] if classifier else [],
        "thresholds": list(classifier.thresholds) if classifier and classifier.thresholds else None,
        "tiles": classifier.tiles if classifier else None,
        "fusion": classifier.fusion.to_dict() if classifier else None,
        "probabilities": _kind_of_probabilities(classifier),
        "predicted": decides,
        "trained_on": dict(model.trained_on),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("tensorflow", "tensorflow-text", "keras", "keras-hub")
        },
    }


def _kind_of_probabilities(classifier: Classifier | None) -> str | None:
    """What the probabilities of `classify` are: "softmax", "platt" or "isotonic"."""
    if classifier is None:
        return None
    return classifier.calibration.kind if classifier.calibration else "softmax"


def version_directory(path: Path) -> Path:
    """The version that `path` means: itself, or the highest version in it.

    Raises:
        FileNotFoundError: when there is no SavedModel.
    """
    path = Path(path)
    for candidate in (path, *(path / str(n) for n in sorted(_versions(path), reverse=True))):
        if (candidate / "saved_model.pb").is_file():
            return candidate
    there = "is not there" if not path.exists() else "holds no SavedModel"
    raise FileNotFoundError(
        f"{path} {there}: expected a directory with versions 1, 2, ... that hold saved_model.pb. "
        "Make one with: python -m tfclip.export RUN --out DIR"
    )


def is_exported(path: Path) -> bool:
    """Whether `version_directory` finds a SavedModel."""
    try:
        return bool(version_directory(path))
    except FileNotFoundError:
        return False


def load_signatures(directory: Path) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """Open a version's directory: its signatures by name, called with tensors by keyword.

    Raises:
        ValueError: when TensorFlow cannot load it.
    """
    try:
        loaded = tf.saved_model.load(str(directory))
    except (tf.errors.OpError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{directory} does not load: {error}") from error
    return dict(loaded.signatures)


def load_card(directory: Path) -> dict:
    """Read the model card of a version's directory.

    Raises:
        FileNotFoundError: when it is not there.
        ValueError: when it is not a JSON object of this version.
    """
    path = Path(directory) / names.MODEL_CARD
    if not path.is_file():
        raise FileNotFoundError(f"{directory} was not exported by tfclip: no {names.MODEL_CARD}")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        version = card["card_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from None
    if version != CARD_VERSION:
        raise ValueError(
            f"{path} has version {version}; this tfclip reads version {CARD_VERSION}. Export again "
            "with: python -m tfclip.export RUN --out DIR"
        )
    return card


def _versions(out: Path) -> list[int]:
    """The integers that are taken in `out`, by directories or files."""
    if not out.is_dir():
        return []
    return [int(path.name) for path in out.iterdir() if path.name.isascii() and path.name.isdigit()]
