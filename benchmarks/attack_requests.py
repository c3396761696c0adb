"""Requests of `benchmarks.serve_attack`, and what all of its parts share."""

from __future__ import annotations

import base64
import io
import json
import socket

from benchmarks.served import ServedProcess
from tfclip.serving import Client
from tfclip.serving import signatures as names

TOKEN = "a token of the benchmark"
PREDICT = f"/v1/models/{names.MODEL_NAME}:predict"
CONNECTION_SECONDS = 20.0


def raw(server: ServedProcess, content: bytes, seconds: float = CONNECTION_SECONDS) -> int:
    """Send bytes on a connection of their own; the status that comes back, 0 when it is closed."""
    with socket.create_connection((server.host, server.port), timeout=seconds) as connection:
        try:
            connection.sendall(content)
            answer = connection.recv(65536)
        except (ConnectionError, TimeoutError) as error:
            return -1 if isinstance(error, TimeoutError) else 0
    if not answer:
        return 0
    head = answer.split(b" ", 2)
    return int(head[1]) if len(head) > 1 and head[1].isdigit() else -2


def http_request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = {"Host": "127.0.0.1", "Authorization": f"Bearer {TOKEN}"}
    lines |= {"Content-Length": str(len(body)), "Connection": "close", **given}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode("latin-1", "replace") + body


def heatmap_status(server: ServedProcess, picture: bytes) -> int:
    """The status that answers the page's request for a heatmap."""
    body = json.dumps({"picture": {"b64": base64.b64encode(picture).decode()}}).encode()
    return raw(server, http_request("POST", "/page/heatmap", body), 60)


def large_picture(kind: str, mode: str, side: int) -> bytes:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    file = io.BytesIO()
    color = (200, 30, 60, 120)[: len(mode)]
    Image.new(mode, (side, side), color).save(
        file, kind, **({} if kind == "JPEG" else {"compress_level": 1})
    )
    return file.getvalue()


def check_valid(answer: dict) -> None:
    if not answer["valid"].all():
        raise RuntimeError("a sound picture was not answered")


def client_of(server: ServedProcess) -> Client:
    return Client(server.grpc, token=TOKEN, retries=0, timeout=60)


def named(counts) -> dict:
    return {str(key): value for key, value in sorted(counts.items(), key=lambda item: str(item[0]))}
