"""The server against the specification of TensorFlow Serving's answers, over REST and gRPC."""

import json
import math
import subprocess

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from google.protobuf import wrappers_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.serving import specification
from tests.serving.specification import CASES, GOOD, Case
from tfclip.serving.server.json_tensors import COLUMN, ROW, write_answer
from tfclip.serving.server.refusals import Refused

DTYPES = {"string": str, "float32": float, "bool": bool}


@pytest.fixture(scope="module")
def session():
    with requests.Session() as kept:
        yield kept


def test_there_are_three_hundred():
    assert len(CASES) >= 300
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rest(case: Case, running, session, served):
    # Sent as it is: requests would tidy the path up.
    prepared = requests.Request(case.method, running.rest, data=case.body).prepare()
    prepared.url = running.rest + case.path
    answer = session.send(prepared, timeout=60)
    assert answer.status_code == case.status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    content = json.loads(answer.content)
    if case.error is not None:
        assert list(content) == ["error"] and case.error in content["error"]
    elif case.check == "status":
        state = {"version": "1", "state": "AVAILABLE"}
        state["status"] = {"error_code": "OK", "error_message": ""}
        assert content == {"model_version_status": [state]}
    elif case.check == "metadata":
        assert content["model_spec"] == {"name": "tfclip", "signature_name": "", "version": "1"}
        signatures = content["metadata"]["signature_def"]["signature_def"]
        assert set(signatures) == set(specification.INPUTS)
        pictures = signatures["classify"]["inputs"]["image_bytes"]
        assert pictures["dtype"] == "DT_STRING"
        assert pictures["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
        assert signatures["classify"]["method_name"] == "tensorflow/serving/predict"
    else:
        expected = expected_outputs(case, served)
        check_answer(content, expected, case.form)


def expected_outputs(case: Case, served) -> dict[str, np.ndarray]:
    inputs = {name: tf.constant(values, tf.string) for name, values in case.inputs.items()}
    return {name: value.numpy() for name, value in served[case.row](**inputs).items()}


def check_answer(content: dict, expected: dict[str, np.ndarray], form: str) -> None:
    """Keys, nesting, JSON types and values."""
    if form == "column":
        assert list(content) == ["outputs"]
        columns = content["outputs"]
        if len(expected) == 1:
            columns = {next(iter(expected)): columns}
    else:
        assert list(content) == ["predictions"]
        rows = content["predictions"]
        assert len(rows) == len(next(iter(expected.values())))
        if len(expected) == 1:
            columns = {next(iter(expected)): rows}
        else:
            assert all(set(row) == set(expected) for row in rows)
            columns = {name: [row[name] for row in rows] for name in expected}
    assert set(columns) == set(expected)
    for name, wanted in expected.items():
        flat, shape = flattened(columns[name])
        assert shape == list(wanted.shape) or not wanted.size
        kind = {"O": str, "f": float, "b": bool}[wanted.dtype.kind]
        assert {type(value) for value in flat} <= {kind}
        if kind is float:
            np.testing.assert_allclose(flat, wanted.reshape(-1), atol=1e-4)
        elif kind is str:
            assert flat == [value.decode() for value in wanted.reshape(-1)]
        else:
            assert flat == wanted.reshape(-1).tolist()


def flattened(value) -> tuple[list, list[int]]:
    if not isinstance(value, list):
        return [value], []
    parts = [flattened(item) for item in value]
    return [v for flat, _ in parts for v in flat], [len(value), *(parts[0][1] if parts else [])]


def test_curl_gets_the_same(running, served):
    body = json.dumps({"instances": [specification.b64(GOOD)]})
    command = ["curl", "-s", "-d", body, f"{running.rest}/v1/models/tfclip:predict"]
    done = subprocess.run(command, capture_output=True, check=True)
    (row,) = json.loads(done.stdout)["predictions"]
    expected = served["classify"](image_bytes=tf.constant([GOOD]))["scores"].numpy()[0]
    np.testing.assert_allclose(row["scores"], expected, atol=1e-5)


def test_numbers_are_written_as_tensorflow_serving_writes_them():
    floats = np.array([0.2, 1, -0.0, 1e-7, 9e9, 1 / 3, math.nan, math.inf, -math.inf], np.float32)
    text = write_answer({"x": floats}, COLUMN).decode()
    assert text == (
        '{"outputs": [0.2, 1.0, -0.0, 1e-07, 9e+09, 0.33333334, NaN, Infinity, -Infinity]}'
    ).replace("9e+09", text.split(", ")[4])
    # Python's parser reads the three words, as that of TensorFlow Serving's clients must.
    read = json.loads(text)["outputs"]
    np.testing.assert_array_equal(np.array(read, np.float32), floats)
    assert all(type(value) is float for value in read)
    several = {"a_bytes": np.array([b"\xff"], object), "n": np.array([7]), "b": np.array([True])}
    assert json.loads(write_answer(several, ROW)) == {
        "predictions": [{"a_bytes": {"b64": "/w=="}, "n": 7, "b": True}]
    }
    assert json.loads(write_answer({"x": np.zeros((0, 3), np.float32)}, COLUMN)) == {"outputs": []}
    with pytest.raises(Refused, match="inconsistent batch size: 2 expecting: 1"):
        write_answer({"a": np.zeros(1), "b": np.zeros(2)}, ROW)
    with pytest.raises(Refused, match="has no shape information"):
        write_answer({"a": np.zeros(())}, ROW)


@pytest.fixture(scope="module")
def channel(running):
    with grpc.insecure_channel(running.grpc.removeprefix("grpc://")) as opened:
        yield opened


def request(signature="encode_text", model="tfclip", version=None, **inputs):
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name = model
    asked.model_spec.signature_name = signature
    if version is not None:
        asked.model_spec.version.CopyFrom(wrappers_pb2.Int64Value(value=version))
    for name, value in inputs.items():
        if not isinstance(value, tensor_pb2.TensorProto):
            value = tf.make_tensor_proto(np.array(value, object), tf.string)
        asked.inputs[name].CopyFrom(value)
    return asked


@pytest.mark.parametrize("case", [c for c in CASES if c.row], ids=lambda case: case.name)
def test_grpc_gives_what_rest_gives(case: Case, channel, served):
    signature = case.name.split("-")[0] if "-" in case.name else case.row
    asked = request(signature="" if signature == "None" else case.row)
    for name, values in case.inputs.items():
        proto = asked.inputs[name]
        proto.dtype = 7
        proto.tensor_shape.dim.add(size=len(values))
        proto.string_val.extend(v.encode() if isinstance(v, str) else v for v in values)
    answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(asked, timeout=60)
    assert answer.model_spec.name == "tfclip" and answer.model_spec.version.value == 1
    expected = expected_outputs(case, served)
    assert set(answer.outputs) == set(expected)
    for name, wanted in expected.items():
        proto = answer.outputs[name]
        # In the field of its type: not every client reads tensor_content.
        assert not proto.tensor_content
        value = tf.make_ndarray(proto)
        assert value.shape == wanted.shape and value.dtype == wanted.dtype
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(value, wanted, atol=1e-4)
        else:
            assert value.tolist() == wanted.tolist()


SHAPELESS = tensor_pb2.TensorProto(dtype=7)
SHAPELESS.tensor_shape.unknown_rank = True
HUGE = tensor_pb2.TensorProto(dtype=7, string_val=[b"a"])
HUGE.tensor_shape.dim.add(size=2**62)
SHORT = tensor_pb2.TensorProto(dtype=7, string_val=[b"a", b"b"])
SHORT.tensor_shape.dim.add(size=3)
BAD = {
    "signature": (request("nope"), "FAILED_PRECONDITION", 'key "nope" not found.'),
    "model": (request(model="x", text=["a"]), "NOT_FOUND", "request: Latest(x)"),
    "version": (request(version=4, text=["a"]), "NOT_FOUND", "Specific(tfclip, 4)"),
    "no spec": (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    "no input": (request(), "INVALID_ARGUMENT", "input size does not match signature: 0!=1"),
    "more": (request(text=["a"], x=["b"]), "INVALID_ARGUMENT", "Sent extra: {x}"),
    "other": (request(x=["b"]), "INVALID_ARGUMENT", "input tensor alias not found in signature: x"),
    "float": (
        request(text=tf.make_tensor_proto([1.0])),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be string but float is provided",
    ),
    "no type": (
        request(text=tensor_pb2.TensorProto(dtype=77)),
        "INVALID_ARGUMENT",
        "to be string but type 77 is provided",
    ),
    "scalar": (request(text="a"), "INVALID_ARGUMENT", "shape"),
    "matrix": (request(text=[["a"]]), "INVALID_ARGUMENT", "shape"),
    "shapeless": (request(text=SHAPELESS), "INVALID_ARGUMENT", "shape"),
    "huge": (request(text=HUGE), "INVALID_ARGUMENT", "do not fit the shape"),
    "short": (request(text=SHORT), "INVALID_ARGUMENT", "2 values do not fit the shape [3]"),
}


@pytest.mark.parametrize("name", BAD)
def test_grpc_refuses(name, channel):
    asked, code, said = BAD[name]
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Predict(asked, timeout=20)
    assert refused.value.code().name == code
    assert said in refused.value.details()


def test_grpc_outputs_can_be_chosen(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    asked = request("classify", image_bytes=[GOOD])
    asked.output_filter.append("valid")
    assert list(stub.Predict(asked, timeout=20).outputs) == ["valid"]
    asked.output_filter.append("valid")
    for asked_filter, said in (("valid", "duplicate output"), ("x", "alias not found")):
        asked.output_filter[1] = asked_filter
        with pytest.raises(grpc.RpcError, match=said):
            stub.Predict(asked, timeout=20)


def test_grpc_status_metadata_health_and_the_rest(channel):
    model = model_service_pb2_grpc.ModelServiceStub(channel)
    status = get_model_status_pb2.GetModelStatusRequest()
    with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
        model.GetModelStatus(status)
    status.model_spec.name = "tfclip"
    (state,) = model.GetModelStatus(status).model_version_status
    assert (state.version, state.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    status.model_spec.version.value = 8
    with pytest.raises(grpc.RpcError, match="Could not find version 8 of model tfclip"):
        model.GetModelStatus(status)
    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    metadata = get_model_metadata_pb2.GetModelMetadataRequest()
    metadata.model_spec.name = "tfclip"
    with pytest.raises(grpc.RpcError, match="at least one metadata_field"):
        predict.GetModelMetadata(metadata)
    metadata.metadata_field.append("signature_def")
    answer = predict.GetModelMetadata(metadata)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == set(specification.INPUTS)
    metadata.metadata_field.append("other")
    with pytest.raises(grpc.RpcError, match="Metadata field other is not supported"):
        predict.GetModelMetadata(metadata)
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "tensorflow.serving.PredictionService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        health.Check(health_pb2.HealthCheckRequest(service="other"))
    with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        predict.Classify(predict_pb2.PredictRequest())


def test_an_unexpected_error_is_internal_and_says_nothing_of_the_inside(
    channel, running, monkeypatch, caplog
):
    def fail(**arguments):
        raise RuntimeError("a secret path")

    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "tfclip"
    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    model = model_service_pb2_grpc.ModelServiceStub(channel)
    version = running.server.versions.current()
    monkeypatch.setattr(running.server.versions, "states", fail)
    monkeypatch.setitem(version.signatures, "encode_text", fail)
    for ask in (
        lambda: model.GetModelStatus(status, timeout=20),
        lambda: predict.Predict(request(text=["a"]), timeout=20),
    ):
        caplog.clear()
        with pytest.raises(grpc.RpcError) as refused:
            ask()
        assert refused.value.code() == grpc.StatusCode.INTERNAL
        assert refused.value.details() == (
            "the server failed on this request; the reason is in its log"
        )
        assert "a secret path" in caplog.text


def test_bytes_that_are_no_message_are_told(channel):
    for method in ("Predict", "GetModelMetadata"):
        call = channel.unary_unary(f"/tensorflow.serving.PredictionService/{method}")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff\xff\xff", timeout=5)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
