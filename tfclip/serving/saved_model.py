"""Writes a trained model as a versioned SavedModel, and finds and loads one."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

# Registers the tokenizer's ops, which a graph with a text tower needs to load.
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
    """Write `<out>/<integer>/`, the next free integer from 1, in TensorFlow Serving's layout.

    The version is written under another name and renamed, so that a server that watches `out` sees
    complete versions only. Warm-up requests are written if the extra [serving] is installed.

    Args:
        model: the model to write.
        out: the folder of the versions.
        classifier: the labels of `classify`, whose embeddings are stored; None for no classifier.
        variant: the towers to write, and their precision.
        points: see `operating_points`; written beside the model card.

    Returns:
        The directory of the version.

    Raises:
        ValueError: a prompt is longer than the context, or a weight does not fit into the variant's
            precision.
        OSError: `out` cannot be written.
    """
    served = ServedModel(model, classifier, variant)
    signatures = served.signatures()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    # A server ignores names that are not integers. Not mkdtemp: only its owner could read that.
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
            # Another export took the number: try the next one.


def model_card(model: TrainedModel, classifier: Classifier | None, variant: Variant) -> dict:
    """Return what is needed to interpret the answers: labels, prompts, thresholds, versions, ..."""
    decides = None
    if classifier is not None:
        decides = "highest score" if classifier.thresholds is None else "score >= threshold"
    return {
        "card_version": CARD_VERSION,
        "config": model.config.to_dict(),
        "sides": list(variant.modalities),
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
    """Return the kind of probabilities of `classify`: "softmax", "platt" or "isotonic"."""
    if classifier is None:
        return None
    return classifier.calibration.kind if classifier.calibration else "softmax"


def version_directory(path: Path) -> Path:
    """Return the version that `path` refers to: itself, or the highest version in it.

    Raises:
        FileNotFoundError: there is no SavedModel.
    """
    path = Path(path)
    for candidate in (path, *(path / str(n) for n in sorted(_versions(path), reverse=True))):
        if (candidate / "saved_model.pb").is_file():
            return candidate
    problem = "does not exist" if not path.exists() else "holds no SavedModel"
    raise FileNotFoundError(
        f"{path} {problem}: expected a directory with versions 1, 2, ... that hold saved_model.pb. "
        "Make one with: python -m tfclip.export RUN --out DIR"
    )


def is_exported(path: Path) -> bool:
    """Return whether `version_directory` finds a SavedModel."""
    try:
        return bool(version_directory(path))
    except FileNotFoundError:
        return False


def load_signatures(directory: Path) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
    """Load a version's directory and return its signatures, which take tensors by keyword.

    Raises:
        ValueError: TensorFlow cannot load it.
    """
    try:
        loaded = tf.saved_model.load(str(directory))
    except (tf.errors.OpError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{directory} cannot be loaded: {error}") from error
    return dict(loaded.signatures)


def load_card(directory: Path) -> dict:
    """Read the model card of a version's directory.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not a JSON object of this version.
    """
    path = Path(directory) / names.MODEL_CARD
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} was not exported by tfclip: it has no {names.MODEL_CARD}"
        )
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
    """Return the integers that are names of directories or files in `out`."""
    if not out.is_dir():
        return []
    return [int(path.name) for path in out.iterdir() if path.name.isascii() and path.name.isdigit()]
