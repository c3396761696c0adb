"""One client, unchanged, against `serve run` over REST and gRPC, blocking and asynchronous."""

import asyncio
import socket
import subprocess
import sys

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tfclip.serving import AsyncClient, Client
from tfclip.serving.clients import messages


@pytest.fixture(params=["rest", "grpc"])
def address(request, running):
    return getattr(running, request.param)


def test_all_answers_are_those_of_the_signatures(address, served, picture_bytes):
    pictures, texts = (
        [*picture_bytes.values(), b"damage"],
        ["a dog", "ein Hund, süß", "", "x" * 999],
    )
    with Client(address) as client:
        assert client.status() == {1: "AVAILABLE"}
        for row, answer, inputs in (
            ("classify", client.classify(pictures), {"image_bytes": pictures}),
            ("encode_image", client.encode_image(pictures), {"image_bytes": pictures}),
            ("encode_text", client.encode_text(texts), {"text": texts}),
            (
                "similarity",
                client.similarity(pictures, texts[:3]),
                {"image_bytes": pictures, "text": texts[:3]},
            ),
        ):
            expected = served[row](**{k: tf.constant(v) for k, v in inputs.items()})
            assert set(answer) == set(expected)
            for name, value in answer.items():
                wanted = expected[name].numpy()
                if wanted.dtype.kind == "f":
                    assert value.dtype == np.float32
                    np.testing.assert_allclose(value, wanted, atol=1e-4)
                elif wanted.dtype == object:
                    assert value.tolist() == [[label.decode() for label in row] for row in wanted]
                else:
                    assert value.dtype == bool and value.tolist() == wanted.tolist()


def test_the_asynchronous_client_gives_the_same(address, picture_bytes):
    pictures = [*picture_bytes.values()] * 6
    with Client(address) as client:
        expected = client.classify(pictures), client.similarity(pictures, ["a dog", "a cat"])

    async def ask():
        async with AsyncClient(address) as client:
            assert await client.status() == {1: "AVAILABLE"}
            return await asyncio.gather(
                client.classify(pictures), client.similarity(pictures, ["a dog", "a cat"])
            )

    for answer, wanted in zip(asyncio.run(ask()), expected, strict=True):
        for name, value in wanted.items():
            if value.dtype == np.float32:
                np.testing.assert_allclose(answer[name], value, atol=1e-4)
            else:
                assert answer[name].tolist() == value.tolist()


def test_refusals_say_what_is_wrong(address):
    with pytest.raises(ValueError, match=r"Servable not found.*Is other the name in models.config"):
        Client(address, model="other").encode_text(["a dog"])
    with pytest.raises(ValueError, match=r"Specific\(tfclip, 7\)"):
        Client(address, version=7).encode_text(["a dog"])
    with pytest.raises(ValueError, match="texts in one request; at most 1000"):
        client = Client(address)
        client._transport.ask(messages_call(1001))

    async def ask():
        async with AsyncClient(address, version=7) as client:
            await client.encode_text(["a dog"])

    with pytest.raises(ValueError, match=r"Specific\(tfclip, 7\)"):
        asyncio.run(ask())


def messages_call(count):
    from tfclip.serving.clients.calls import Call

    return Call("encode_text", {"text": ["a"] * count})


def test_the_other_port_is_named(running):
    rest, grpc_port = running.rest.rpartition(":")[2], running.grpc.rpartition(":")[2]
    with pytest.raises(ConnectionError, match="this is the gRPC port; REST is 8501"):
        Client(f"http://127.0.0.1:{grpc_port}").status()
    with pytest.raises(ConnectionError, match="not a gRPC port; gRPC is 8500"):
        Client(f"grpc://127.0.0.1:{rest}", retries=0, timeout=5).status()

    async def ask():
        async with AsyncClient(f"http://127.0.0.1:{grpc_port}") as client:
            await client.status()

    with pytest.raises(ConnectionError, match="this is the gRPC port; REST is 8501"):
        asyncio.run(ask())


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectionError, match="8500 by default.*tfclip.serve run EXPORTED"):
        Client(f"grpc://127.0.0.1:{port}", retries=1).status()


def test_the_messages_are_those_of_tensorflow_serving():
    ours = messages.predict_request("tfclip", 3, "encode_text", {"text": ["a", b"\xff"]})
    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    assert theirs.model_spec.name == "tfclip"
    assert theirs.model_spec.version.value == 3
    assert theirs.model_spec.signature_name == "encode_text"
    assert tf.make_ndarray(theirs.inputs["text"]).tolist() == [b"a", b"\xff"]
    response = predict_pb2.PredictResponse()
    values = {
        "floats": np.arange(6, dtype=np.float32).reshape(2, 3),  # as tensor_content
        "same": np.zeros((2, 2), np.float32),
        "flags": np.array([True, False]),
        "words": np.array([b"a", "ü".encode()], object),
    }
    for name, value in values.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    read = messages.read_outputs(messages.PredictResponse.FromString(response.SerializeToString()))
    assert read.pop("words").tolist() == ["a", "ü"]
    for name, value in read.items():
        np.testing.assert_array_equal(value, values[name])


def test_a_grpc_client_needs_no_tensorflow():
    code = (
        "import sys, tfclip; tfclip.serving.Client('grpc://localhost:1')\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert grpc.__version__
