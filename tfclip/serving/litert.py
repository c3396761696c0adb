"""Writes the towers as LiteRT models (`.tflite`), for phones and small boards."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip import files
from tfclip.failures import first_line
from tfclip.models.saving import TrainedModel
from tfclip.serving import signatures as names

PIXELS = "pixels"
TOKEN_IDS, TEXT_MASK = "token_ids", "text_mask"
# The largest difference allowed between an embedding in float32 and one with float16 weights.
LARGEST_DIFFERENCE = 0.02


def write_litert(model: TrainedModel, image: Path, text: Path | None = None) -> None:
    """Write the towers with float16 weights, each file atomically.

    The image tower takes `pixels` (1,S,S,3) uint8, decoded and resized as `tfclip.load`'s
    `preprocess` does; the text tower takes `token_ids` and `text_mask`, (1,L) int32, of the model's
    tokenizer. Both return `embedding` (1,D) float32 of unit norm. No file is written unless all
    of them can be.

    Args:
        model: the trained model.
        image: the file of the image tower.
        text: the file of the text tower; None writes none.

    Raises:
        ValueError: a tower has operations that LiteRT lacks, or its embedding of a picture of
            noise or of a text differs.
        OSError: a file cannot be written.
    """
    contents = {image: _image_content(model)}
    if text is not None:
        contents[text] = _text_content(model)
    for path, content in contents.items():
        files.write_bytes(path, content)


def _image_content(model: TrainedModel) -> bytes:
    size, dual_encoder = model.config.image_size, model.dual_encoder

    @tf.function(
        input_signature=[tf.TensorSpec([1, size, size, 3], tf.uint8, PIXELS)], autograph=False
    )
    def embed(pixels):
        return {names.EMBEDDING: dual_encoder.encode_image(pixels)}

    content = _convert(embed.get_concrete_function(), dual_encoder, "image")
    noise = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    _check(LiteRtEncoder(content)(noise), dual_encoder.encode_image(noise).numpy(), "image")
    return content


def _text_content(model: TrainedModel) -> bytes:
    length, dual_encoder = model.config.context_length, model.dual_encoder
    specs = [tf.TensorSpec([1, length], tf.int32, name) for name in (TOKEN_IDS, TEXT_MASK)]

    @tf.function(input_signature=specs, autograph=False)
    def embed(token_ids, text_mask):
        return {names.EMBEDDING: dual_encoder.encode_text(token_ids, text_mask)}

    content = _convert(embed.get_concrete_function(), dual_encoder, "text")
    tokens = model.tokenizer(["a photo of a dog", "two red circles and a blue square", ""])
    ids, mask = tokens["token_ids"], tokens["text_mask"]
    expected = dual_encoder.encode_text(ids, mask).numpy()
    written = LiteRtTextEncoder(content)(ids.numpy(), mask.numpy())
    _check(written, expected, "text")
    return content


def _convert(function, dual_encoder, modality: str) -> bytes:
    # The converter does not see the variables of a Keras 3 model, so a module holds them.
    holder = tf.Module()
    holder.weights = [variable.value for variable in dual_encoder.weights]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], holder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    try:
        return converter.convert()
    # The converter's errors have no common class of their own.
    except Exception as error:
        first = first_line(error)
        way_out = "" if modality == "image" else " (--image-only omits it)"
        raise ValueError(
            f"this {modality} tower cannot be converted for LiteRT{way_out}: {first}"
        ) from error


def _check(written: np.ndarray, expected: np.ndarray, modality: str) -> None:
    difference = np.abs(written - expected).max()
    if not difference < LARGEST_DIFFERENCE:
        raise ValueError(
            f"this {modality} tower gives other embeddings in LiteRT: they differ by "
            f"{difference:.2g}, more than {LARGEST_DIFFERENCE}; export without --litert"
        )


class _Interpreter:
    def __init__(self, content: bytes):
        with warnings.catch_warnings():
            # It needs another package, which is not a dependency of TensorFlow.
            warnings.filterwarnings("ignore", "(?s).*tf.lite.Interpreter is deprecated")
            self._interpreter = tf.lite.Interpreter(model_content=content)
        self._run = self._interpreter.get_signature_runner()

    def _rows(self, **inputs: np.ndarray) -> np.ndarray:
        count = len(next(iter(inputs.values())))
        rows = [
            self._run(**{name: value[row : row + 1] for name, value in inputs.items()})
            for row in range(count)
        ]
        return np.concatenate([row[names.EMBEDDING] for row in rows])


class LiteRtEncoder(_Interpreter):
    """The embeddings of the image tower that `write_litert` writes, one picture at a time.

    Args:
        content: of the `.tflite` file.

    Raises:
        ValueError: when it is no such model.
    """

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Embed (N,S,S,3) uint8: (N,D) float32."""
        return self._rows(**{PIXELS: pixels})


class LiteRtTextEncoder(_Interpreter):
    """The embeddings of the text tower that `write_litert` writes, one text at a time.

    Args:
        content: of the `.tflite` file.
    """

    def __call__(self, token_ids: np.ndarray, text_mask: np.ndarray) -> np.ndarray:
        """Embed ids and mask (N,L): (N,D) float32."""
        inputs = {TOKEN_IDS: token_ids, TEXT_MASK: text_mask}
        return self._rows(**{name: value.astype(np.int32) for name, value in inputs.items()})
