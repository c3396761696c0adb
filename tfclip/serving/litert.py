"""Writes the image tower as a LiteRT model (`.tflite`), for phones and small boards."""

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
# The largest difference allowed between an embedding in float32 and one with float16 weights.
LARGEST_DIFFERENCE = 0.02


def write_litert(model: TrainedModel, path: Path) -> None:
    """Write the image tower with float16 weights, atomically.

    Its one signature takes `pixels` (1,S,S,3) uint8, decoded and resized as `tfclip.load`'s
    `preprocess` does, and returns `embedding` (1,D) float32 of unit norm.

    Raises:
        ValueError: the tower has operations that LiteRT lacks, or its embedding of a picture of
            noise differs.
        OSError: the file cannot be written.
    """
    size, dual_encoder = model.config.image_size, model.dual_encoder

    @tf.function(
        input_signature=[tf.TensorSpec([1, size, size, 3], tf.uint8, PIXELS)], autograph=False
    )
    def embed(pixels):
        return {names.EMBEDDING: dual_encoder.encode_image(pixels)}

    # The converter does not see the variables of a Keras 3 model, so a module holds them.
    holder = tf.Module()
    holder.weights = [variable.value for variable in dual_encoder.weights]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [embed.get_concrete_function()], holder
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    try:
        content = converter.convert()
    # The converter's errors have no common class of their own.
    except Exception as error:
        first = first_line(error)
        raise ValueError(f"this image tower cannot be converted for LiteRT: {first}") from error
    noise = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    difference = np.abs(LiteRtEncoder(content)(noise) - dual_encoder.encode_image(noise)).max()
    if not difference < LARGEST_DIFFERENCE:
        raise ValueError(
            f"this image tower gives other embeddings in LiteRT: they differ by {difference:.2g}, "
            f"more than {LARGEST_DIFFERENCE}; export without --litert"
        )
    files.write_bytes(path, content)


class LiteRtEncoder:
    """The embeddings that a model of `write_litert` gives, one picture at a time.

    Args:
        content: of the `.tflite` file.

    Raises:
        ValueError: when it is no such model.
    """

    def __init__(self, content: bytes):
        with warnings.catch_warnings():
            # It needs another package, which is not a dependency of TensorFlow.
            warnings.filterwarnings("ignore", "(?s).*tf.lite.Interpreter is deprecated")
            self._interpreter = tf.lite.Interpreter(model_content=content)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Embed (N,S,S,3) uint8: (N,D) float32."""
        rows = []
        for picture in pixels:
            self._interpreter.set_tensor(self._input, picture[None])
            self._interpreter.invoke()
            rows.append(self._interpreter.get_tensor(self._output)[0])
        return np.stack(rows)
