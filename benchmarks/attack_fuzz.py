"""Fuzzed requests over HTTP and gRPC, for `benchmarks.serve_attack`."""

from __future__ import annotations

import base64
import http.client
import json
import random
import socket
import time
from collections import Counter

from benchmarks.attack_requests import PREDICT, TOKEN, http_request, named, raw
from benchmarks.served import ServedProcess
from tfclip.serving import signatures as names
from tfclip.serving.clients import messages
from tfclip.serving.warmup import drawn_jpeg

DEFINED = {200, 400, 401, 403, 404, 405, 408, 413, 429, 431, 499, 501, 503, 504}
DEFINED_GRPC = {
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED",
    "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED",
}  # fmt: skip
# gRPC's own answer to bytes that are no message.
NO_MESSAGE = "INTERNAL"


def sound_request(rng: random.Random) -> tuple[str, bytes]:
    """A path and the body that is right for it."""
    picture = {"b64": base64.b64encode(drawn_jpeg(40, 30)).decode()}
    path, content = rng.choice(
        [
            (PREDICT, {"instances": [picture]}),
            (PREDICT, {"signature_name": "encode_image", "inputs": {"image_bytes": [picture]}}),
            (PREDICT, {"signature_name": "encode_text", "inputs": ["a dog", "a cat"]}),
            (PREDICT, {"signature_name": "similarity",
                       "inputs": {"image_bytes": ["x"], "text": ["a"]}}),
            ("/page/search", {"picture": picture, "top": 3}),
            ("/page/heatmap", {"picture": picture, "texts": ["a dog"]}),
        ]
    )  # fmt: skip
    return path, json.dumps(content).encode()


def spoilt(rng: random.Random, content: bytes) -> bytes:
    """Some bytes changed, cut out, doubled or put in."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        way = rng.randrange(5)
        if way == 0 and data:
            data[min(at, len(data) - 1)] = rng.randrange(256)
        elif way == 1:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 20)))
        elif way == 2:
            del data[at : at + rng.randint(1, 30)]
        elif way == 3:
            data[at:at] = data[at : at + rng.randint(1, 50)]
        else:
            data[at:at] = rng.choice(
                [
                    b"[" * 500,
                    b'{"b64":',
                    b"\r\n\r\n",
                    b"\x00",
                    b"1e999",
                    b"-1",
                    b"\xff\xfe",
                    b'"' * 9,
                ]
            )
    return bytes(data)


def fuzz_http(server: ServedProcess, rng: random.Random, count: int, seconds: float) -> dict:
    """Bodies, whole requests and plain noise; -1: the server waits for the rest of a request."""
    seen: Counter = Counter()
    end = time.monotonic() + seconds
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for number in range(count):
        if time.monotonic() > end:
            break
        path, sound = sound_request(rng)
        body = spoilt(rng, sound)
        if number % 10:  # The body alone, on a connection that is kept.
            try:
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                json.loads(response.read())
                status = response.status
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                is_closed = isinstance(error, ConnectionError | http.client.RemoteDisconnected)
                status = 0 if is_closed else type(error).__name__
        elif number % 20:
            status = raw(server, spoilt(rng, http_request("POST", path, body)), 0.1)
        else:
            status = raw(server, rng.randbytes(rng.randint(1, 2000)), 0.1)
        seen[status] += 1
    connection.close()
    wrong = {status: n for status, n in seen.items() if status not in DEFINED | {0, -1}}
    return {"sent": sum(seen.values()), "statuses": named(seen), "wrong": named(wrong)}


def fuzz_grpc(server: ServedProcess, rng: random.Random, count: int, seconds: float) -> dict:
    """Spoilt messages of every method, and noise on the port itself."""
    import grpc

    address = server.grpc.removeprefix("grpc://")
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    methods = (messages.PREDICT, messages.STATUS, "/grpc.health.v1.Health/Check", "/a/b")
    inputs = {names.IMAGE_BYTES: [drawn_jpeg(40, 30)], names.TEXT: ["a dog"]}
    sound = [
        messages.predict_request(
            names.MODEL_NAME, None, row, {k: inputs[k] for k in names.SIGNATURES[row].inputs}
        ).SerializeToString()
        for row in names.SIGNATURES
    ]
    seen: Counter = Counter()
    end = time.monotonic() + seconds
    with grpc.insecure_channel(address) as channel:
        calls = {m: channel.unary_unary(m) for m in methods}
        for number in range(count):
            if time.monotonic() > end:
                break
            if number % 20 == 0:
                host, port = address.split(":")
                with socket.create_connection((host, int(port)), timeout=10) as connection:
                    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" * (number % 2))
                    connection.sendall(rng.randbytes(rng.randint(1, 500)))
                seen["noise"] += 1
                continue
            message = spoilt(rng, rng.choice(sound))
            method = rng.choice(methods) if number % 5 == 0 else messages.PREDICT
            try:
                calls[method](message, timeout=30, metadata=metadata)
                seen["OK"] += 1
            except grpc.RpcError as error:
                said = error.details() or ""
                is_no_message = error.code().name in (NO_MESSAGE, "UNKNOWN") and "serializ" in said
                seen["no message" if is_no_message else error.code().name] += 1
    fine = DEFINED_GRPC | {"no message", "noise"}
    wrong = {status: n for status, n in seen.items() if status not in fine}
    return {"sent": sum(seen.values()), "statuses": named(seen), "wrong": named(wrong)}
