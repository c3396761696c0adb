"""The image tower as a LiteRT model (`.tflite`), for phones and small boards."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip import files
from tfclip.models.saving import TrainedModel
from tfclip.serving import signatures as names

PIXELS = "pixels"
# Between an embedding in float32 and with float16 weights, in any of its numbers.
LARGEST_DIFFERENCE = 0.02


def write_litert(model: TrainedModel, path: Path) -> None:
    """Write the image tower with float16 weights; it is written beside and renamed.

    Its one signature takes `pixels` (1,S,S,3) uint8, decoded and resized as `tfclip.load`'s
    `preprocess` does, and returns `embedding` (1,D) float32 of unit norm.

    Raises:
        ValueError: when the tower has operations that LiteRT has not, or its embedding of a picture
            of noise differs.
        OSError: when the file cannot be written.
    """
    size, dual_encoder = model.config.image_size, model.dual_encoder

    @tf.function(input_signature=[tf.TensorSpec([1, size, size, 3], tf.uint8, PIXELS)])
    def embed(pixels):
        return {names.EMBEDDING: dual_encoder.encode_image(pixels)}

    # Of a Keras 3 model the converter sees no variable, and would write reads of nothing.
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
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"this image tower cannot be converted for LiteRT: {first}") from error
    noise = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    difference = np.abs(LiteRtEncoder(content)(noise) - dual_encoder.encode_image(noise)).max()
    if not difference < LARGEST_DIFFERENCE:
        raise ValueError(
            f"this image tower is not the same in LiteRT: embeddings differ by {difference:.2g}"
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
            # It asks for another package, which TensorFlow does not bring.
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
