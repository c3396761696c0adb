"""`serve run` as a command and as a server: refusals, limits, access, swaps, the end."""

import asyncio
import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tfclip import serve
from tfclip.serving import Client
from tfclip.serving.clients import messages
from tfclip.serving.server import http_protocol
from tfclip.serving.server.grpc_services import _Services
from tfclip.serving.server.options import Access, Limits
from tfclip.serving.warmup import drawn_jpeg

PREDICT = "/v1/models/tfclip:predict"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["NOWHERE"], "no export at .*tfclip.export RUN --out DIR"),
        (["RUN"], "is a run, but serve needs an export.*tfclip.export .* --out DIR"),
        (["EXPORT", "--port", "70000"], "--port 70000; allowed: 0 to 65535"),
        (["EXPORT", "--port", "9", "--grpc-port", "9"], "both 9; give two ports"),
        (["EXPORT", "--tls-cert", "x.pem"], "belong together"),
        (["EXPORT", "--max-texts", "0"], "--max-texts 0; allowed: more than 0"),
        (["EXPORT", "--max-pixels", "50000001"], "1 to 50000000"),
        (["EXPORT", "--timeout", "0"], "--timeout 0; allowed"),
        (["EXPORT", "--model", "a/b"], "--model a/b; allowed: letters"),
        (["EXPORT", "--allow-origin", "example.org"], "scheme and host"),
        (["EXPORT", "--token", "@nowhere"], "no token file at nowhere"),
        (["EXPORT", "--token", "schlüssel"], "--token of other characters; allowed: printable"),
        (["EXPORT", "--tls-cert", "no.pem", "--tls-key", "no.pem"], "no TLS file at no.pem"),
        (
            ["EXPORT", "--tls-cert", "BAD", "--tls-key", "BAD"],
            "bad.pem, which cannot be used",
        ),
        (["EXPORT", "--port", "TAKEN"], "cannot listen on 127.*in use; choose another --port"),
        (["EXPORT", "--grpc-port", "TAKEN"], "cannot listen on .*choose another --grpc-port"),
        (
            ["EXPORT", "--host", "192.0.2.1"],
            "--host 192.0.2.1, which is no address",
        ),
        (["EXPORT", "--index", "nowhere.npy"], "no index at nowhere.npy.*tfclip.search index"),
        (["BAD"], "holds no version.*tfclip.export RUN --out DIR"),
        (["EMPTY"], "holds no version.*tfclip.export RUN --out"),
    ],
)
def test_mistakes_are_told_in_one_line(
    flags, said, exported, tiny_run, tmp_path, capsys, monkeypatch
):
    # All of them before TensorFlow and the model are loaded.
    monkeypatch.setitem(sys.modules, "tfclip.serving.server.run", None)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.pem").write_text("no certificate")
    places = {"EXPORT": exported, "RUN": tiny_run, "EMPTY": tmp_path / "empty"}
    places["BAD"] = tmp_path / "bad.pem"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        places["TAKEN"] = taken.getsockname()[1]
        words = [str(places.get(word, word)) for word in flags]
        for port in ("--port", "--grpc-port"):
            words += [] if port in words else [port, "0"]
        assert serve.main(["run", *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(said, error)


def test_only_this_machine_can_connect_by_default():
    assert Access().host == "127.0.0.1" and Access().is_loopback()
    assert not Access(host="0.0.0.0").is_loopback()


@pytest.fixture(scope="module")
def small(exported, start_server):
    """A server with limits that are easily met."""
    limits = {
        "max_body_mb": 0.1,
        "max_pictures": 3,
        "max_texts": 4,
        "max_pixels": 100_000,
    }
    with start_server(exported, limits=limits) as server:
        yield server


def post(server, body, **options):
    return requests.post(server.rest + PREDICT, json=body, timeout=30, **options)


def texts(count):
    return {"signature_name": "encode_text", "inputs": ["a dog"] * count}


def test_limits_are_answered_over_rest(small):
    assert post(small, texts(4)).status_code == 200
    refused = post(small, texts(5))
    assert refused.status_code == 400
    assert "5 texts in one request; at most 4 are allowed (--max-texts)" in refused.json()["error"]
    assert post(small, {"instances": ["no picture"] * 4}).status_code == 400
    refused = requests.post(small.rest + PREDICT, data=b"x" * 200_000, timeout=30)
    assert refused.status_code == 413 and "--max-body-mb" in refused.json()["error"]
    chunks = (b"x" * 1000 for _ in range(200))
    refused = requests.post(small.rest + PREDICT, data=chunks, timeout=30)
    assert refused.status_code == 413


def test_limits_are_answered_over_grpc(small):
    with pytest.raises(ValueError, match="INVALID_ARGUMENT: 5 texts in one request; at most 4"):
        Client(small.grpc).encode_text(["a dog"] * 5)
    with pytest.raises(ValueError, match="RESOURCE_EXHAUSTED.*larger than max"):
        Client(small.grpc).encode_text(["a dog" * 50_000])


def test_a_picture_with_too_many_pixels_is_not_valid_and_its_neighbours_are(small):
    large, good = drawn_jpeg(400, 300), drawn_jpeg(300, 200)
    answer = Client(small.grpc).classify([good, large, good])
    assert answer["valid"].tolist() == [True, False, True]
    assert not answer["scores"][1].any()
    np.testing.assert_allclose(answer["scores"][0], answer["scores"][2], atol=1e-6)


def test_a_slow_body_and_a_slow_head_are_cut(exported, start_server, monkeypatch):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 2.0)
    with start_server(exported, limits={"timeout": 3.0}) as server:
        began = time.monotonic()
        _send_slowly(*server.rest.removeprefix("http://").split(":"))
        assert time.monotonic() - began < 10


def _send_slowly(host: str, port: str):
    with (
        socket.create_connection((host, int(port)), timeout=30) as slow_body,
        socket.create_connection((host, int(port)), timeout=30) as slow_head,
    ):
        slow_body.sendall(
            f"POST {PREDICT} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\n{{".encode()
        )
        slow_head.sendall(b"GET /healthz HTTP/1.1\r\n")
        answer = b"".join(iter(lambda: slow_body.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 408 ") and b"did not arrive within 3 s" in answer
        assert slow_head.recv(4096) == b""  # Cut, without an answer, after HEAD_SECONDS.


def test_one_too_many_is_told_to_come_again(exported, start_server):
    with start_server(exported, limits={"max_waiting": 1, "timeout": 20.0}) as server:
        gate, entered = threading.Event(), threading.Event()
        version = server.server.versions.current()
        original = version.signatures["encode_text"]

        def waits(text):
            entered.set()
            gate.wait(20)
            return original(text=text)

        version.signatures["encode_text"] = waits
        with concurrent.futures.ThreadPoolExecutor() as pool:
            first = pool.submit(post, server, texts(1))
            assert entered.wait(20)
            refused = post(server, texts(1))
            assert refused.status_code == 503 and refused.headers["Retry-After"] == "1"
            assert "queue is full" in refused.json()["error"]
            with pytest.raises(ConnectionError, match="UNAVAILABLE: The queue is full"):
                Client(server.grpc, retries=0).encode_text(["a"])
            assert requests.get(server.rest + "/healthz", timeout=5).status_code == 200
            again = pool.submit(Client(server.rest).encode_text, ["a"])
            gate.set()
            assert first.result().status_code == 200
            assert again.result()["embedding"].shape == (1, 16)


def test_a_call_that_takes_too_long_ends_with_504(exported, start_server):
    with start_server(exported, limits={"timeout": 0.5}) as server:
        gate = threading.Event()
        server.server.versions.current().signatures["encode_text"] = lambda text: gate.wait(5)
        assert post(server, texts(1)).status_code == 504
        # Not asked again: that would only add to the load.
        for address in (server.rest, server.grpc):
            with pytest.raises(TimeoutError, match=r"gave up .*: no answer within 0\.5 s"):
                Client(address).encode_text(["a"])
            # A gRPC server knows the deadline of the client, and may be the first to end the call.
            late = rf"no answer from {address} in 0\.2 s|{server.grpc} gave up.*client's own"
            with pytest.raises(TimeoutError, match=late):
                Client(address, timeout=0.2).encode_text(["a"])
        services = _Services(server.server.service, None)
        for seconds, said in (
            (0.25, "0.25 s, the client's own deadline"),
            (9, "0.5 s (--timeout)"),
        ):
            call = GrpcCall(seconds)
            with pytest.raises(asyncio.CancelledError):
                asyncio.run(services.answer("predict", services.predict, encode_text(), call))
            assert call.ended == (grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {said}")
        gate.set()


class GrpcCall:
    """What gRPC gives a method beside the request: the seconds that the client waits."""

    def __init__(self, seconds):
        self.time_remaining = lambda: seconds

    async def abort(self, code, message):
        self.ended = code, message
        raise asyncio.CancelledError


def encode_text():
    sent = messages.predict_request("tfclip", None, "encode_text", {"text": [b"a"]})
    return predict_pb2.PredictRequest.FromString(sent.SerializeToString())


def test_the_token_is_asked_everywhere_but_where_nothing_is_told(exported, start_server, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    with start_server(exported, access={"token": f"@{tmp_path}/token"}) as server:
        for path in ("/v1/models/tfclip", "/metrics", "/v1/models/tfclip/metadata", "/other"):
            answer = requests.get(server.rest + path, timeout=5)
            assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
        wrong = {"Authorization": "Bearer secrets"}
        assert post(server, texts(1), headers=wrong).status_code == 401
        assert requests.get(server.rest + "/healthz", timeout=5).status_code == 200
        for address in (server.rest, server.grpc):
            with pytest.raises(ValueError, match="wrong or missing token"):
                Client(address).encode_text(["a"])
            assert Client(address, token="secret").encode_text(["a"])["embedding"].shape == (1, 16)


def test_pages_of_other_sites_are_refused_unless_they_are_named(running, exported, start_server):
    url = running.rest + "/v1/models/tfclip"
    own = {"Origin": running.rest}
    assert requests.get(url, headers=own, timeout=5).status_code == 200
    for headers in (
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Origin": running.rest.replace("127.0.0.1", "localhost")},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Host": "attacker.example"},
        {"Host": ""},
    ):
        answer = requests.get(url, headers=headers, timeout=5)
        assert answer.status_code == 403, headers
        assert "Access-Control-Allow-Origin" not in answer.headers
    preflight = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    assert requests.options(url, headers=preflight, timeout=5).status_code == 403
    with start_server(exported, access={"allow_origin": ("https://example.org",)}) as named:
        url = named.rest + PREDICT
        answer = requests.options(url, headers=preflight, timeout=5)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://example.org"
        answer = requests.post(url, json=texts(1), headers=preflight, timeout=5)
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "https://example.org"


def test_tls(exported, start_server, tmp_path):
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        + ["-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("no openssl")
    files = {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}
    with start_server(exported, access=files) as server:
        assert server.rest.startswith("https://") and server.grpc.startswith("grpcs://")
        for address in (server.rest, server.grpc):
            client = Client(address, certificate=files["tls_cert"])
            assert client.status() == {1: "AVAILABLE"}
        with pytest.raises(ConnectionError, match=r"certificate=\"cert.pem\""):
            Client(server.rest, retries=0).status()


def test_a_new_version_takes_over_without_a_lost_request(exported, start_server, tmp_path):
    folder = tmp_path / "served"
    shutil.copytree(exported, folder)
    with start_server(folder) as server:
        client = Client(server.rest, retries=0)
        expected = client.classify([drawn_jpeg()])["scores"]
        stop, answers = threading.Event(), []

        def ask():
            own = Client(server.grpc, retries=0)
            while not stop.is_set():
                answers.append(own.classify([drawn_jpeg()])["scores"])

        with concurrent.futures.ThreadPoolExecutor() as pool:
            asking = [pool.submit(ask) for _ in range(3)]
            (folder / "2").mkdir()  # Not complete: it is no version yet.
            (folder / "2" / "saved_model.pb").write_bytes(b"\xff" * 10)
            wait_for(lambda: client.status().get(2) == "END")
            assert client.status()[1] == "AVAILABLE"
            shutil.copytree(exported / "1", folder / ".writing-3")
            (folder / ".writing-3").rename(folder / "3")
            wait_for(lambda: client.status() == {1: "END", 2: "END", 3: "AVAILABLE"})
            stop.set()
            for one in asking:
                one.result()
        assert len(answers) > 10
        for scores in answers:
            np.testing.assert_allclose(scores, expected, atol=1e-5)
        with pytest.raises(ValueError, match=r"Specific\(tfclip, 1\)"):
            Client(server.rest, version=1).classify([drawn_jpeg()])
        assert any("version 2 cannot be loaded" in line for line in server.said)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


def test_merged_requests_are_answered_as_alone(exported, start_server):
    pictures = [drawn_jpeg(40 + 7 * n, 50) for n in range(24)]
    with start_server(exported) as server:
        alone = [Client(server.rest).classify([picture])["scores"] for picture in pictures]
        calls = []
        version = server.server.versions.current()
        original = version.signatures["classify"]

        def noted(image_bytes):
            calls.append(len(image_bytes))
            time.sleep(0.05)
            return original(image_bytes=image_bytes)

        version.signatures["classify"] = noted
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            asked = [
                pool.submit(Client(server.rest).classify, [picture, b"damage"])
                for picture in pictures
            ]
            for one, expected in zip(asked, alone, strict=True):
                answer = one.result()
                assert answer["valid"].tolist() == [True, False]
                np.testing.assert_allclose(answer["scores"][:1], expected, atol=1e-5)
        assert set(calls) <= {1, 2, 4, 8, 16} and max(calls) > 2
        assert len(calls) < len(pictures)


def test_similarity_is_never_merged(exported, start_server):
    with start_server(exported) as server:
        shapes = []
        version = server.server.versions.current()
        original = version.signatures["similarity"]

        def noted(image_bytes, text):
            shapes.append((len(image_bytes), len(text)))
            time.sleep(0.02)
            return original(image_bytes=image_bytes, text=text)

        version.signatures["similarity"] = noted
        body = {
            "signature_name": "similarity",
            "inputs": {"image_bytes": ["x", "x"], "text": ["a", "b"]},
        }
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: post(server, body).status_code, range(8)))
        assert answers == [200] * 8 and shapes == [(2, 2)] * 8


def test_large_requests_come_back_in_order(running, served):
    pictures = [drawn_jpeg(40 + n, 50) for n in range(40)]
    expected = served["encode_image"](image_bytes=tf.constant(pictures))["embedding"].numpy()
    import base64

    body = {
        "signature_name": "encode_image",
        "inputs": [{"b64": base64.b64encode(picture).decode()} for picture in pictures],
    }
    answer = post(running, body).json()["outputs"]
    np.testing.assert_allclose(answer["embedding"], expected, atol=1e-5)


def test_metrics_count(running):
    before = requests.get(running.rest + "/metrics", timeout=5).text
    post(running, texts(2))
    text = requests.get(running.rest + "/monitoring/prometheus/metrics", timeout=5).text
    line = 'tfclip_requests_total{api="rest",code="OK",method="predict",signature="encode_text"}'

    def count(page):
        values = [row.split()[-1] for row in page.splitlines() if row.startswith(line)]
        return float(values[0]) if values else 0.0

    assert count(text) == count(before) + 1
    assert "tfclip_model_version 1.0" in text


@pytest.mark.slow
def test_sigterm_answers_what_has_come_and_ends(exported):
    command = [sys.executable, "-m", "tfclip.serve", "run", str(exported), "--json"]
    process = subprocess.Popen(
        [*command, "--port", "0", "--grpc-port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    addresses = {}
    for line in process.stderr:
        if line.startswith(("REST", "gRPC")):
            addresses[line[:4]] = line.split()[-1].rstrip("/")
        if line.startswith("try it"):
            break
    client = Client(addresses["REST"], retries=0)
    pictures = [drawn_jpeg(1500, 1500)] * 16
    with concurrent.futures.ThreadPoolExecutor() as pool:
        asked = [pool.submit(client.classify, pictures) for _ in range(4)]
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        for one in asked:
            assert one.result()["valid"].all()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert json.loads(out)["grpc"] == addresses["gRPC"]
    with pytest.raises(ConnectionError):
        client.status()


def test_defaults_are_those_of_the_documentation():
    assert Limits() == Limits(32.0, 64, 50_000_000, 1_000, 64, 512, 30.0)
    assert (Access().port, Access().grpc_port) == (8501, 8500)


def test_small_answers_are_sent_at_once(running):
    """Not after 40 ms, when the other side acknowledges the first packet of two."""
    with requests.Session() as session:
        session.get(running.rest + "/healthz", timeout=5)
        times = []
        for _ in range(20):
            began = time.perf_counter()
            session.get(running.rest + "/healthz", timeout=5)
            times.append(time.perf_counter() - began)
    assert sorted(times)[len(times) // 2] < 0.03
