"""Warm-up requests, which TensorFlow Serving runs through a model before it answers requests.

They are a TFRecord of PredictionLog in `assets.extra`, see
tensorflow.org/tfx/serving/saved_model_warmup. The extra [serving] has the protocol buffers.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from PIL import Image, ImageDraw

from tfclip.serving import signatures as names

# The server reads at most this many.
MOST_REQUESTS = 1000


def can_warm_up() -> bool:
    """Return whether the extra [serving] is installed."""
    return importlib.util.find_spec("tensorflow_serving") is not None


def drawn_jpeg(width: int = 320, height: int = 240) -> bytes:
    """Return a JPEG for example requests: a red disk on grey."""
    picture = Image.new("RGB", (width, height), (240, 240, 235))
    box = (width // 5, height // 6, width * 3 // 5, height * 5 // 6)
    ImageDraw.Draw(picture).ellipse(box, fill=(200, 30, 30))
    file = io.BytesIO()
    picture.save(file, "JPEG")
    return file.getvalue()


def example_inputs(row: str, size: int) -> dict[str, list[bytes]]:
    """Return `size` example values for each input of a row of `signatures.SIGNATURES`."""
    values = {names.IMAGE_BYTES: drawn_jpeg(), names.TEXT: b"a photo of a red circle."}
    return {name: [values[name]] * size for name in names.SIGNATURES[row].inputs}


def write_warmup_requests(version: Path, served: Sequence[str]) -> int:
    """Write one request for each signature of `served` and each allowed batch size.

    Returns:
        The number of requests.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    row_of = {name: name for name in served}
    row_of[names.SERVING_DEFAULT] = names.default_row(served)
    path = Path(version) / names.WARMUP_REQUESTS
    requests = [(name, size) for name in sorted(served) for size in names.ALLOWED_BATCH_SIZES]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, size in requests:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = names.MODEL_NAME
            request.model_spec.signature_name = name
            for key, value in example_inputs(row_of[name], size).items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value, tf.string, [size]))
            writer.write(log.SerializeToString())
    return len(requests)


def read_warmup_requests(version: Path) -> Iterator[tuple[str, dict[str, tf.Tensor]]]:
    """Yield each request as the name of its signature and its inputs.

    Raises:
        ValueError: the file is damaged, or a record is not a PredictRequest.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    path = Path(version) / names.WARMUP_REQUESTS
    try:
        for number, record in enumerate(tf.data.TFRecordDataset(str(path)).as_numpy_iterator()):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.WhichOneof("log_type") != "predict_log":
                raise ValueError(f"{path}: record {number} is not a PredictRequest")
            request = log.predict_log.request
            inputs = {key: tf.constant(tf.make_ndarray(v)) for key, v in request.inputs.items()}
            yield request.model_spec.signature_name or names.SERVING_DEFAULT, inputs
    except (DecodeError, tf.errors.DataLossError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def replay(requests, served: Mapping[str, Callable]) -> dict[str, list[int]]:
    """Run each request through its signature, as a server does when it loads the model.

    Returns:
        For each signature the batch sizes of its requests, in order.

    Raises:
        ValueError: a request names a signature that is not served, or its inputs do not fit.
    """
    sizes: dict[str, list[int]] = {}
    for name, inputs in requests:
        if name not in served:
            raise ValueError(f"a warm-up request is for {name}, which is not served")
        try:
            served[name](**inputs)
        except (TypeError, tf.errors.OpError) as error:
            raise ValueError(f"a warm-up request for {name} fails: {error}") from None
        sizes.setdefault(name, []).append(len(next(iter(inputs.values()))))
    return sizes
