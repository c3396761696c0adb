"""An encoder of a run as a stored graph, so that a few pictures or texts need no Keras layers.

Keras builds a tower layer by layer and reads its weights one by one, which takes seconds. The graph
is stored without weights. It names the places of their bytes in the files of the model, which are
those of the model's fingerprint, and so the same as when the graph was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.python.eager import context

from tfclip.models.config import ModelConfig
from tfclip.models.dual_encoder import DualEncoder
from tfclip.version import __version__

FORMAT = 1
VERSIONS = f"{FORMAT} {__version__} {tf.__version__} {keras.__version__}"
"""A graph that other versions made is not used."""
FEWEST_WEIGHTS = 64
"""Layers with fewer variables are built soon enough."""
_TOLERANCE = 1e-6


class StoredEncoder(DualEncoder):
    """A dual encoder that only embeds one modality, by a graph that `encoder_arrays` described.

    Args:
        config: the architecture.
        directory: the model folder with the files of the weights.
        arrays: what `encoder_arrays` returned, perhaps read from a file.

    Raises:
        OSError, ValueError: a file of weights is not there, or shorter than it was.
    """

    def __init__(self, config: ModelConfig, directory: Path, arrays: Mapping[str, np.ndarray]):
        super().__init__(config, modalities=())
        for variable, value in zip(_of_logits(self), arrays["logits"], strict=True):
            variable.assign(value)
        self._encode = _call(arrays["function"].tobytes(), _read_weights(directory, arrays))

    def encode_image(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Embed pictures (B, S, S, 3) uint8: (B, D) float32, unit norm."""
        return self._encode(images)

    def encode_text(
        self, token_ids: tf.Tensor, text_mask: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Embed token ids (B, L) int32 with their mask (B, L): (B, D) float32, unit norm."""
        return self._encode(token_ids, tf.cast(text_mask, tf.bool))


def encoder_arrays(
    model: DualEncoder, modality: str, directory: Path
) -> dict[str, np.ndarray] | None:
    """Return the graph of an encoder, and where its weights are, as arrays to be kept.

    None if it is small, or has no such form: a weight is not in the files as it is in the model, or
    the results differ from those of the model.

    Args:
        model: the model of `directory`, with the tower and the head of the modality.
        modality: "image" or "text".
        directory: the model folder.
    """
    parts = (getattr(model, f"{modality}_tower"), getattr(model, f"{modality}_head"))
    variables = [variable for part in parts for variable in part.weights]
    if len(variables) < FEWEST_WEIGHTS:
        return None
    encode = getattr(model, f"encode_{modality}")
    size = model.config.image_size
    example = (
        [tf.TensorSpec([None, size, size, 3], tf.uint8)]
        if modality == "image"
        else [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.bool)]
    )
    weights = [tf.TensorSpec(variable.shape, variable.dtype) for variable in variables]

    def from_weights(values: Sequence[tf.Tensor], *inputs: tf.Tensor) -> tf.Tensor:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return encode(*inputs)

    traced = tf.function(
        from_weights, input_signature=[weights, *example], autograph=False
    ).get_concrete_function()
    places = _places(directory, variables)
    if places is None or traced.captured_inputs or traced.graph.as_graph_def().library.function:
        return None
    function = traced.function_def.SerializeToString()
    arrays: dict[str, np.ndarray] = {
        "function": np.frombuffer(function, np.uint8),
        "logits": np.array([variable.numpy() for variable in _of_logits(model)], np.float32),
        **places,
    }
    stored = StoredEncoder(model.config, directory, arrays)
    # Without a fixed length of texts, whose towers may be built for one alone.
    ones = [tf.ones([2, *_sides(spec, model.config)], spec.dtype) for spec in example]
    differ = tf.abs(encode(*ones) - getattr(stored, f"encode_{modality}")(*ones))
    return arrays if bool(tf.reduce_all(differ <= _TOLERANCE)) else None


def _sides(spec: tf.TensorSpec, config: ModelConfig) -> list[int]:
    return [config.context_length if side is None else side for side in spec.shape[1:]]


def _of_logits(model: DualEncoder) -> list[keras.Variable]:
    """Return the variables beside towers and heads."""
    bias = () if model.logit_bias is None else model.logit_bias.weights
    return [*model.logit_scale.weights, *bias]


def _places(directory: Path, variables: Sequence[keras.Variable]) -> dict[str, np.ndarray] | None:
    """Return the file, the offset, the type and the shape of the bytes of each variable."""
    found: dict[tuple, tuple[str, int]] = {}
    for path in sorted(directory.glob("*.weights.h5")):
        with h5py.File(path) as file:

            def note(_, content, path=path) -> None:
                # Without an offset, the bytes are in several pieces.
                if isinstance(content, h5py.Dataset) and content.id.get_offset() is not None:
                    found[_identity(content[()])] = path.name, content.id.get_offset()

            file.visititems(note)
    values = [variable.numpy() for variable in variables]
    if any(_identity(value) not in found for value in values):
        return None
    places = [found[_identity(value)] for value in values]
    return {
        "files": np.array([name for name, _ in places]),
        "offsets": np.array([offset for _, offset in places], np.int64),
        "dtypes": np.array([value.dtype.str for value in values]),
        "shapes": np.array([json.dumps(value.shape) for value in values]),
    }


def _identity(value: np.ndarray) -> tuple:
    content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest()
    return value.dtype.str, value.shape, content


def _read_weights(directory: Path, arrays: Mapping[str, np.ndarray]) -> list[tf.Tensor]:
    opened = {name: (directory / name).open("rb") for name in set(arrays["files"].tolist())}
    try:
        weights = []
        columns = (arrays[name].tolist() for name in ("files", "offsets", "dtypes", "shapes"))
        for name, offset, dtype, shape in zip(*columns, strict=True):
            sides = json.loads(shape)
            opened[name].seek(offset)
            value = np.fromfile(opened[name], np.dtype(dtype), int(np.prod(sides, dtype=int)))
            weights.append(tf.constant(value.reshape(sides)))
        return weights
    finally:
        for file in opened.values():
            file.close()


def _call(function: bytes, weights: Sequence[tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Return the graph as a function. It is not optimised, which takes longer than to run it once
    or twice, and computes the bits that the layers compute one by one."""
    described = FunctionDef.FromString(function)
    # No other graph of this process may have its name.
    described.signature.name = f"encoder_{hashlib.sha256(function).hexdigest()[:32]}"
    context.ensure_initialized()
    context.context().add_function_def(described)
    settings = ConfigProto()
    settings.graph_options.rewrite_options.disable_meta_optimizer = True
    config = settings.SerializeToString()

    def call(*inputs: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.PartitionedCall(
            args=[*weights, *inputs],
            Tout=[tf.float32],
            f=described.signature.name,
            config_proto=config,
        )[0]

    return call
