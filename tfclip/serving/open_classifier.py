"""Opens a run or an export as one function: from encoded pictures to the answers of `classify`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.evaluation.decisions.fusion import Fusion
from tfclip.inputs.text import check_lengths
from tfclip.models.saving import load_model
from tfclip.serving import signatures as names
from tfclip.serving.classifier import THRESHOLDS_FILE, Classifier
from tfclip.serving.saved_model import is_exported, load_card, load_signatures, version_directory
from tfclip.serving.served_model import ServedModel

Classify = Callable[[Sequence[bytes]], dict[str, np.ndarray]]


def open_classifier(
    path: Path, texts: Sequence[str] = (), tiles: str = "1", fusion: str = "max"
) -> Classify:
    """Open what classifies pictures.

    Args:
        path: a run directory, a model folder, an export or a version of one.
        texts: labels to score, taken as they are; when there are none, the classes that were
            exported, or those of the run's fitted thresholds.
        tiles: of a run with `texts`: the layout of the views.
        fusion: of a run with `texts`: "max", or "logsumexp" as sharp as the model's
            temperature.

    Returns:
        A function from N encoded pictures to the outputs of `classify`, see `signatures`; without
        `predicted` where no thresholds were fitted.

    Raises:
        FileNotFoundError: when there is no model.
        ValueError: when files are damaged, there are no labels, or a text is too long for a run's
            model (an export does not say what it cuts).
    """
    if is_exported(path):
        classify, has_thresholds = _open_export(path, texts)
    else:
        classify, has_thresholds = _open_run(path, texts, tiles, fusion)

    def answer(contents: Sequence[bytes]) -> dict[str, np.ndarray]:
        result = classify(image_bytes=tf.constant(contents))
        if not has_thresholds:
            result.pop(names.PREDICTED, None)
        return {name: value.numpy() for name, value in result.items()}

    return answer


def _open_run(path: Path, texts: Sequence[str], tiles: str, fusion: str) -> tuple[Callable, bool]:
    if not texts and not (path / THRESHOLDS_FILE).is_file():
        raise ValueError(
            f"no labels: give --labels, or fit thresholds for classes with: python -m "
            f"tfclip.evaluate {path} voc --records DIR"
        )
    model = load_model(path)
    if texts:
        check_lengths(texts, model.tokenizer)
        scale = float(model.dual_encoder.temperature())
        classifier = Classifier.from_texts(texts, tiles, Fusion(fusion, sharpness=scale))
    else:
        classifier = Classifier.from_thresholds(path / THRESHOLDS_FILE, path)
    return ServedModel(model, classifier).classify, classifier.thresholds is not None


def _open_export(path: Path, texts: Sequence[str]) -> tuple[Callable, bool]:
    version = version_directory(path)
    card, signatures = load_card(version), load_signatures(version)
    if not texts:
        if not card["labels"]:
            raise ValueError(f"{version} was exported without labels; give --labels")
        return signatures[names.CLASSIFY], card["thresholds"] is not None
    if missing := {names.ENCODE_IMAGE, names.ENCODE_TEXT} - set(signatures):
        raise ValueError(
            f"{version} was exported without {', '.join(sorted(missing))}, which --labels needs; "
            "leave --labels out, or give the run"
        )
    encode_image = signatures[names.ENCODE_IMAGE]
    classes = signatures[names.ENCODE_TEXT](text=tf.constant(texts))[names.EMBEDDING]

    def classify(image_bytes):
        images = encode_image(image_bytes=image_bytes)
        scores = tf.matmul(images[names.EMBEDDING], classes, transpose_b=True)
        return {
            names.LABELS: tf.tile(tf.constant(texts)[None], [len(image_bytes), 1]),
            names.SCORES: scores,
            names.PROBABILITIES: tf.nn.softmax(card["logit_scale"] * scores),
            names.VALID: images[names.VALID],
        }

    return classify, False
