"""TensorFlow Serving's REST protocol: URLs, and tensors as JSON. Needs no TensorFlow.

Requests and answers are columnar (`inputs` and `outputs`), since rows (`instances`) require as many
pictures as texts, see tensorflow.org/tfx/serving/api_rest.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np

from tfclip.serving import signatures as names

_DTYPES = {"float32": np.float32, "bool": np.bool_, "string": object}


def model_url(server: str, model: str = names.MODEL_NAME, version: int | None = None) -> str:
    """Return the URL of a model or of one of its versions; requests go to URL:predict."""
    path = f"{server.rstrip('/')}/v1/models/{model}"
    return path if version is None else f"{path}/versions/{version}"


def encode_request(signature: str, inputs: Mapping[str, Sequence[bytes | str]]) -> dict:
    """Return the body of a `:predict` request; bytes are sent as base64."""
    columns = {name: [_encode(value) for value in values] for name, values in inputs.items()}
    return {"signature_name": signature, "inputs": columns}


def _encode(value: bytes | str) -> str | dict[str, str]:
    return value if isinstance(value, str) else {"b64": base64.b64encode(value).decode()}


def encode_answer(outputs: Mapping[str, np.ndarray]) -> dict:
    """Return the body of a server's answer; a single output is not named."""
    columns = {name: _plain(np.asarray(value).tolist()) for name, value in outputs.items()}
    return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}


def _plain(value):
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def decode_answer(row: str, body: Mapping) -> dict[str, np.ndarray]:
    """Return the outputs of a row of `signatures.SIGNATURES` by name, from the body of an answer.

    Raises:
        ValueError: the body is not such an answer.
    """
    expected = names.SIGNATURES[row].outputs
    columns = body.get("outputs") if isinstance(body, Mapping) else None
    if len(expected) == 1 and isinstance(columns, list):
        columns = {next(iter(expected)): columns}
    if not isinstance(columns, Mapping) or not set(expected) <= set(columns):
        raise ValueError(f"expected outputs {', '.join(expected)}")
    answer: dict[str, np.ndarray] = {
        name: np.array(columns[name], _DTYPES[spec.dtype]) for name, spec in expected.items()
    }
    for name, spec in expected.items():
        if answer[name].ndim != len(spec.shape):
            raise ValueError(f"{name} has shape {answer[name].shape}; expected ({spec.shape})")
    return answer
