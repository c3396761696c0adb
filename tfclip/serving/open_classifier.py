"""Opens a run or an export as a function from encoded pictures to the answers of `classify`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip.evaluation.decisions.fusion import Fusion
from tfclip.evaluation.embedding.cache import RunEmbeddings, class_embeddings_of
from tfclip.evaluation.embedding.class_words import ClassWords, combined_embeddings
from tfclip.inputs.tiles import DENSE
from tfclip.models.saving import TrainedModel, load_model
from tfclip.serving import signatures as names
from tfclip.serving.classifier import THRESHOLDS_FILE, Classifier
from tfclip.serving.prediction.answers import Scale
from tfclip.serving.saved_model import is_exported, load_card, load_signatures, version_directory
from tfclip.serving.served_model import ServedModel
from tfclip.serving.signatures import Variant


@dataclass(frozen=True)
class Question:
    """Labels, views and decisions for a prediction.

    Attributes:
        texts: labels to score; empty for the exported classes, or those of the run's thresholds.
        templates: the name of the prompts of `texts`; None scores them as typed.
        words: synonyms and negatives of `texts` in prompts.
        tiles: the layout of the views, for `texts` and a run.
        fusion: "max", or "logsumexp" with the model's temperature as sharpness, for `texts` and a
            run.
        threshold: a threshold for all labels, instead of fitted ones.
        objective: the objective of thresholds fitted again, from the scores stored in the run, for
            its fitted classes.
    """

    texts: tuple[str, ...] = ()
    templates: str | None = None
    words: ClassWords = ClassWords()
    tiles: str = "1"
    fusion: str = "max"
    threshold: float | None = None
    objective: str | None = None


@dataclass(frozen=True)
class OpenedClassifier:
    """A function from N encoded pictures to the outputs of `classify`, see `signatures`.

    The outputs have no `predicted` if there are no thresholds. `scale` describes the figures.
    `served` is set for a run only, `image_size` (pixels) for an export only.
    """

    classify: Callable[..., dict[str, tf.Tensor]] = field(repr=False)
    scale: Scale
    labels: tuple[str, ...]
    served: ServedModel | None = field(default=None, repr=False)
    image_size: int = 0

    def __call__(self, contents: Sequence[bytes]) -> dict[str, np.ndarray]:
        """Return the outputs for N encoded pictures."""
        result = {
            name: value.numpy()
            for name, value in self.classify(image_bytes=tf.constant(contents)).items()
        }
        if self.scale.thresholds is None:
            result.pop(names.PREDICTED, None)
            return result
        # In float32, like the scores, as in the served graph.
        thresholds = np.array(self.scale.thresholds, np.float32)
        result[names.PREDICTED] = (result[names.SCORES] >= thresholds) & result[names.VALID][
            :, None
        ]
        return result


def open_classifier(
    path: Path,
    question: Question = Question(),  # noqa: B008
    few: bool = False,
) -> OpenedClassifier:
    """Open a run or an export for classification.

    Args:
        path: a run directory, a model folder, an export or a version of one.
        question: the labels, views and decisions.
        few: a run computes without a graph, which is faster for a few pictures.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: files are damaged, there are no labels, or a text is too long for a run's model
            (an export truncates without notice).
    """
    if is_exported(path):
        return _open_export(path, question)
    return _open_run(path, question, few)


def _open_run(path: Path, question: Question, few: bool) -> OpenedClassifier:
    if not question.texts and not (path / THRESHOLDS_FILE).is_file():
        raise ValueError(
            f"no labels: give --labels, or fit thresholds for classes with: python -m "
            f"tfclip.evaluate {path} multilabel --records DIR"
        )
    embeddings = RunEmbeddings(path)
    if question.texts:
        model = _image_model(embeddings, path, question.tiles, few)
        temperature = float(model.dual_encoder.temperature())
        fusion = Fusion(question.fusion, sharpness=temperature)
        classifier = Classifier.from_texts(
            question.texts, question.tiles, fusion, question.templates, question.words
        )
    else:
        classifier = Classifier.from_thresholds(
            path / THRESHOLDS_FILE, path, objective=question.objective
        )
        model = _image_model(embeddings, path, classifier.tiles, few)
    if question.threshold is not None:
        classifier = classifier.with_threshold(question.threshold)
    if classifier.embeddings is None:
        # Those of the run are kept, so that the text tower is loaded for new texts alone.
        classes = class_embeddings_of(embeddings, classifier.prompts, classifier.negatives)
        classifier = replace(classifier, embeddings=classes)
    served = ServedModel(model, classifier, Variant((names.IMAGE_MODALITY,)), few=few)
    scale = Scale(classifier.thresholds, classifier.calibration is not None)
    return OpenedClassifier(served.classify, scale, classifier.labels, served)


def _image_model(embeddings: RunEmbeddings, path: Path, tiles: str, few: bool) -> TrainedModel:
    if few and tiles != DENSE:  # whose windows need the layers of the tower
        return embeddings.model.for_few(names.IMAGE_MODALITY)
    return load_model(path, modalities=(names.IMAGE_MODALITY,))


def _open_export(path: Path, question: Question) -> OpenedClassifier:
    version = version_directory(path)
    card, signatures = load_card(version), load_signatures(version)
    labels = question.texts or tuple(card["labels"])
    thresholds = None if question.texts or card["thresholds"] is None else tuple(card["thresholds"])
    if question.threshold is not None:
        thresholds = (question.threshold,) * len(labels)
    if not question.texts:
        if not labels:
            raise ValueError(f"{version} was exported without labels; give --labels")
        scale = Scale(thresholds, card.get("probabilities", "softmax") != "softmax")
        size = card["config"]["image_size"]
        return OpenedClassifier(signatures[names.CLASSIFY], scale, labels, image_size=size)
    if missing := {names.ENCODE_IMAGE, names.ENCODE_TEXT} - set(signatures):
        raise ValueError(
            f"{version} was exported without {', '.join(sorted(missing))}, which --labels needs; "
            "omit --labels, or pass the run"
        )
    encode_image = signatures[names.ENCODE_IMAGE]
    classifier = Classifier.from_texts(
        question.texts, templates=question.templates, words=question.words
    )

    def embed(texts):
        return signatures[names.ENCODE_TEXT](text=tf.constant(texts))[names.EMBEDDING].numpy()

    classes = tf.constant(combined_embeddings(embed, classifier.prompts, classifier.negatives))

    def classify(image_bytes):
        images = encode_image(image_bytes=image_bytes)
        scores = tf.matmul(images[names.EMBEDDING], classes, transpose_b=True)
        return {
            names.LABELS: tf.tile(tf.constant(labels)[None], [len(image_bytes), 1]),
            names.SCORES: scores,
            names.PROBABILITIES: tf.nn.softmax(card["logit_scale"] * scores),
            names.VALID: images[names.VALID],
        }

    size = card["config"]["image_size"]
    return OpenedClassifier(classify, Scale(thresholds), labels, image_size=size)
