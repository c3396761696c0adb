"""The served model: one graph from the bytes of pictures and strings to answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import keras
import numpy as np
import tensorflow as tf

from tfclip.evaluation.embedding.embed import embed_classes
from tfclip.inputs.images import decode_few, decode_valid
from tfclip.inputs.picture_size import PictureSize
from tfclip.inputs.tiles import DENSE, cut_boxes, tile_boxes
from tfclip.models.image_features import window_encoder
from tfclip.models.saving import TrainedModel
from tfclip.serving import signatures as names
from tfclip.serving.classifier import Classifier
from tfclip.serving.half_weight import HalfWeight
from tfclip.serving.scoring import fuse_views, label_probabilities
from tfclip.serving.signatures import COMPLETE, Variant

_CPU = "/device:CPU:0"


class ServedModel(tf.Module):
    """A trained model and its labels behind the signatures of an export.

    `tfclip predict` calls the same functions on a run as a server does on its export. No picture
    raises an error: one that cannot be decoded gets zeros and `valid` false. Texts longer than the
    context are truncated.

    Args:
        model: the trained model.
        classifier: the labels of `classify`; None for no such signature.
        variant: the towers to include, and the precision of the stored weights.
        few: pictures are decoded, and the image tower runs, without a graph, which takes longer
            for more than a few pictures and cannot be exported.
    """

    def __init__(
        self,
        model: TrainedModel,
        classifier: Classifier | None = None,
        variant: Variant = COMPLETE,
        few: bool = False,
    ):
        super().__init__(name="tfclip")
        dual_encoder, size = model.dual_encoder, model.config.picture_size
        self._picture_size, self._few = size, few
        # An export holds the weights, not the layers of the Keras model.
        self._logit_scale = dual_encoder.temperature
        self._weights = [variable.value for variable in dual_encoder.logit_scale.weights]
        self._halves: list[HalfWeight] = []
        self._modalities = variant.modalities
        if names.IMAGE_MODALITY in variant.modalities:
            self._whole = self._decoder(tile_boxes("1"))
            pictures = tf.TensorSpec([None, size, size, 3], tf.uint8)
            encoders = [dual_encoder.encode_image]
            if classifier is not None and classifier.tiles == DENSE:
                encoders.append(window_encoder(dual_encoder, tile_boxes(DENSE)))
            if not few:
                layers = dual_encoder.image_tower, dual_encoder.image_head
                read = self._with_stored_weights(layers, variant.precision)
                encoders = [_once(read(encode), pictures) for encode in encoders]
            self._embed_pictures, self._embed_tiles = encoders[0], encoders[-1]
        if names.TEXT_MODALITY in variant.modalities:
            self._tokenizer = model.tokenizer
            tokens = [None, model.config.context_length]
            layers = dual_encoder.text_tower, dual_encoder.text_head
            self._embed_tokens = _once(
                self._with_stored_weights(layers, variant.precision)(dual_encoder.encode_text),
                tf.TensorSpec(tokens, tf.int32),
                tf.TensorSpec(tokens, tf.bool),
            )
        self._classifier = classifier
        if classifier is not None:
            self._tiles = self._decoder(cut_boxes(classifier.tiles))
            classes = classifier.embeddings
            self._class_embeddings = (
                embed_classes(model, classifier.prompts, classifier.negatives)
                if classes is None
                else classes
            )

    def signatures(self) -> dict[str, Callable[..., dict[str, tf.Tensor]]]:
        """Return the concrete functions by signature name; they take tensors by keyword."""
        functions = {
            names.CLASSIFY: self.classify,
            names.ENCODE_IMAGE: self.encode_image,
            names.ENCODE_TEXT: self.encode_text,
            names.SIMILARITY: self.similarity,
        }
        served = names.signature_names(self._classifier is not None, self._modalities)
        traced = {}
        for row in set(served.values()):
            inputs = names.SIGNATURES[row].inputs
            specs = [tf.TensorSpec([None], spec.dtype, name) for name, spec in inputs.items()]
            traced[row] = tf.function(functions[row], autograph=False).get_concrete_function(*specs)
        return {name: traced[row] for name, row in served.items()}

    def classify(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Score every label for each of `image_bytes` (N,) string; outputs as in `signatures`.

        The score of a label is the cosine, fused over the views of the tile layout. Its probability
        is calibrated where a calibration was fitted, else a softmax over the labels of temperature
        times score.
        """
        classifier = self._classifier
        if classifier is None:
            raise ValueError("classify needs labels; this model was made without a classifier")
        embeddings, valid = self._embed_views(self._tiles, image_bytes, self._embed_tiles)
        cosines = tf.einsum("ntd,cd->ntc", embeddings, self._class_embeddings)
        scores = fuse_views(cosines, classifier)
        if classifier.thresholds is None:
            predicted = tf.one_hot(
                tf.argmax(scores, axis=1), len(classifier.labels), on_value=True, off_value=False
            )
        else:
            predicted = scores >= tf.constant(classifier.thresholds, tf.float32)
        labels = tf.constant(classifier.labels)
        probabilities = label_probabilities(scores, classifier, self._logit_scale())
        return {
            names.LABELS: tf.tile(labels[None], [tf.shape(valid)[0], 1]),
            names.SCORES: _zero_unless(valid, scores),
            names.PROBABILITIES: _zero_unless(valid, probabilities),
            names.PREDICTED: predicted & valid[:, None],
            names.VALID: valid,
        }

    def view_scorer(self, boxes: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return a function from (N,) string to the cosines (N,T,C) of these boxes (T,4), zeros
        where a picture does not decode; it is not part of an export."""
        decode = self._decoder(boxes)

        def score(image_bytes: tf.Tensor) -> tf.Tensor:
            embeddings, _ = self._embed_views(decode, image_bytes)
            return tf.einsum("ntd,cd->ntc", embeddings, self._class_embeddings)

        return score

    def encode_image(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embed each of `image_bytes` (N,) string, as one view of the whole picture."""
        embeddings, valid = self._embed_views(self._whole, image_bytes)
        return {names.EMBEDDING: _zero_unless(valid, embeddings[:, 0]), names.VALID: valid}

    def encode_text(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Embed each of `text` (M,) string."""
        with tf.device(_CPU):
            tokens = self._tokenizer(text)
        return {names.EMBEDDING: self._embed_tokens(tokens["token_ids"], tokens["text_mask"])}

    def similarity(self, image_bytes: tf.Tensor, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return temperature times cosine of every picture (N,) and every text (M,)."""
        images, texts = self.encode_image(image_bytes), self.encode_text(text)
        logits = tf.matmul(images[names.EMBEDDING], texts[names.EMBEDDING], transpose_b=True)
        return {
            names.LOGITS_PER_IMAGE: self._logit_scale() * logits,
            names.VALID: images[names.VALID],
        }

    def _with_stored_weights(self, layers: Sequence, precision: str) -> Callable:
        """Store the weights of `layers` in the export; return a function from an encoder to the
        encoder computed from them."""
        variables = [variable for layer in layers for variable in layer.weights]
        if precision == "float32":
            self._weights += [variable.value for variable in variables]
            return lambda encode: encode
        matrices = [variable for variable in variables if len(variable.shape) > 1]
        halves = [HalfWeight(variable, precision) for variable in matrices]
        vectors = [variable.value for variable in variables if len(variable.shape) <= 1]
        self._weights += [half.stored for half in halves] + vectors
        self._halves += halves

        def from_stored(encode: Callable) -> Callable:
            def encode_from_stored(*arguments):
                values = [half.read() for half in halves]
                with keras.StatelessScope(state_mapping=list(zip(matrices, values, strict=True))):
                    return encode(*arguments)

            return encode_from_stored

        return from_stored

    def _decoder(self, boxes: np.ndarray) -> Callable:
        """Return a function from (N,) string to views (N,T,S,S,3) uint8 and valid (N,) bool."""
        size = self._picture_size
        if self._few:
            return lambda image_bytes: decode_few(image_bytes, boxes, size)
        key = tuple(map(tuple, boxes.tolist()))
        return _traced_decoder(key, int(size), size.resize, size.interpolation)

    def _embed_views(self, decode, image_bytes, embed=None) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the unit-norm embeddings (N,T,D) of the views, and which pictures are valid.

        `embed` returns one embedding of each view (the default), or several, of its windows.
        """
        with tf.device(_CPU):
            views, valid = decode(image_bytes)
            pictures = tf.reshape(views, [-1, *views.shape[2:]])
            count = tf.shape(pictures)[0]
            # oneDNN's convolution of an empty batch has the wrong shape on some processors.
            one = tf.zeros([1, *views.shape[2:]], views.dtype)
            pictures = tf.cond(tf.equal(count, 0), lambda: one, lambda: pictures)
        embeddings = (embed or self._embed_pictures)(pictures)[:count]
        each = views.shape[1] * (1 if len(embeddings.shape) == 2 else embeddings.shape[1])
        return tf.reshape(embeddings, [-1, each, embeddings.shape[-1]]), valid


def _once(function: Callable, *specs: tf.TensorSpec) -> Callable:
    """Trace `function` once, however many signatures call it.

    Returns a method, not the `tf.function` itself, which a module would export a second time.
    """
    return tf.function(function, input_signature=specs, autograph=False).__call__


@lru_cache(maxsize=16)
def _traced_decoder(
    boxes: tuple[tuple[float, ...], ...], side: int, resize: str, interpolation: str
) -> Callable:
    """Return the graph of `ServedModel._decoder`, one for all models: it depends on no weights."""
    size = PictureSize(side, resize, interpolation)

    def decode(image_bytes):
        # Set here again: a called function does not inherit the caller's device.
        with tf.device(_CPU):
            return decode_valid(image_bytes, np.array(boxes, np.float32), size)

    return _once(decode, tf.TensorSpec([None], tf.string))


def _zero_unless(valid: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Rows (N,K) of valid pictures, zeros for the others: JSON cannot represent NaN."""
    return tf.where(valid[:, None], rows, tf.zeros_like(rows))
