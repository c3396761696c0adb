"""Slow, large and swelling requests, for `benchmarks.serve_attack`."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import zlib
from collections import Counter

from benchmarks.attack_requests import (
    PREDICT,
    TOKEN,
    check_valid,
    client_of,
    heatmap_status,
    http_request,
    named,
    raw,
)
from benchmarks.served import ServedProcess
from tfclip.serving import Client
from tfclip.serving.warmup import drawn_jpeg


def slow_connections(server: ServedProcess, client: Client, count: int) -> dict:
    """Heads and bodies that come a byte a second, and answers that nobody reads."""
    opened = []
    big = json.dumps({"signature_name": "encode_text", "inputs": ["a"] * 900}).encode()
    for number in range(count):
        connection = socket.create_connection((server.host, server.port), timeout=5)
        if number % 3 == 0:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        elif number % 3 == 1:
            connection.sendall(http_request("POST", PREDICT, b"", Content_Length="1000")[:-2])
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            # Two: a pretrained text tower computes for seconds on each before the answer comes.
            connection.sendall(http_request("POST", PREDICT, big) if number < 6 else b"G")
        opened.append(connection)
    began, cut, slowest = time.monotonic(), 0, 0.0
    left = set(opened)
    while left and time.monotonic() - began < 60:
        for connection in list(left):
            try:
                connection.settimeout(0.001)
                connection.sendall(b"x")
            except OSError:
                left.discard(connection)
                cut += 1
        asked = time.monotonic()
        check_valid(client.encode_image([drawn_jpeg(40, 30)]))
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(1)
    for connection in opened:
        connection.close()
    return {
        "connections": count,
        "cut": cut,
        "cut_after_seconds": round(time.monotonic() - began, 1),
        "slowest_sound_answer_seconds": round(slowest, 2),
        "wrong": {"not cut": len(left)} if left else {},
    }


def large_bodies(server: ServedProcess) -> dict:
    """A gigabyte that is announced, and one that is not."""
    seen: Counter = Counter()
    head = http_request("POST", PREDICT, Content_Length=str(10**9))
    seen[raw(server, head)] += 1
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    chunked = http_request("POST", PREDICT).replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(chunked)
        sent = 0
        try:
            while sent < 10**9:
                connection.sendall(piece)
                sent += 0x10000
        except OSError:
            pass
        try:
            answer = connection.recv(100)
            seen[int(answer.split(b" ")[1]) if answer else 0] += 1
        except OSError:
            seen[0] += 1
    wrong = {status: n for status, n in seen.items() if status not in (413, 0)}
    if sent > 10**8:
        wrong["megabytes taken"] = sent // 10**6
    client = Client(server.grpc, token=TOKEN, retries=0)
    try:
        client.encode_text(["x" * 40_000_000])
        wrong["grpc"] = 1
    except ValueError as error:
        seen["RESOURCE_EXHAUSTED"] += "RESOURCE_EXHAUSTED" in str(error)
    return {
        "statuses": named(seen),
        "chunked_megabytes_sent": sent // 10**6,
        "wrong": named(wrong),
    }


def bombs(server: ServedProcess, client: Client, large: list[bytes]) -> dict:
    """Pictures and bodies that unpack into gigabytes; and as many as are allowed of the largest."""

    def png(width: int, height: int, data: bytes = b"") -> bytes:
        def chunk(kind: bytes, body: bytes) -> bytes:
            return (
                struct.pack(">I", len(body))
                + kind
                + body
                + struct.pack(">I", zlib.crc32(kind + body))
            )

        header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
        return (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", data)
            + chunk(b"IEND", b"")
        )

    zeros = zlib.compress(b"\0" * 100_000_000, 9)
    bad = [
        png(100_000, 100_000), png(2**31 - 1, 2**31 - 1), png(30_000, 30_000, zeros),
        png(7000, 7000, zeros), png(7000, 7000, zlib.compress(b"\0" * 10)),
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0" * 20,
        b"BM" + b"\0" * 12 + struct.pack("<IiiHHI", 40, 2**30, 2**30, 1, 24, 0) + b"\0" * 30,
        b"RIFF\xff\xff\xff\xffWEBPVP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + b"\xff" * 6,
    ]  # fmt: skip
    wrong: dict = {}
    answer = client.encode_image(bad)
    if answer["valid"].any() and answer["valid"].sum() > 1:
        wrong["valid"] = answer["valid"].tolist()
    for picture in bad:
        status = heatmap_status(server, picture)
        if status != 400:
            wrong.setdefault("heatmap", []).append(status)
    # As many of the largest as fit into one request, and several requests at once.
    pictures = (large[1:] * 16)[:16]
    results: list = []

    def ask() -> None:
        try:
            results.append(client_of(server).encode_image(pictures)["valid"].all())
        except (OSError, ValueError) as error:
            # Too slow for its time is a defined answer.
            results.append("504" in str(error) or "503" in str(error) or "no answer" in str(error))

    def ask_heatmap() -> None:
        results.append(heatmap_status(server, large[-1]) in (200, 504))

    threads = [threading.Thread(target=work) for work in (ask, ask, ask_heatmap, ask_heatmap)]
    for thread in threads:
        thread.start()
    peak = 0.0
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, server.megabytes())
        time.sleep(0.05)
    if not all(results):
        wrong["large"] = [str(result) for result in results]
    status = raw(
        server, http_request("POST", PREDICT, zlib.compress(b"{}"), Content_Encoding="gzip")
    )
    if status != 400:
        wrong["gzip"] = status
    return {"pictures": len(bad), "peak_megabytes": round(peak), "wrong": wrong}


def header_floods(server: ServedProcess) -> dict:
    """Many headers, long ones, and heads that never end."""
    start = b"GET /v1/models/tfclip HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    seen: Counter = Counter()
    for content in (
        start + b"X: y\r\n" * 100_000 + b"\r\n",
        start + b"X: " + b"y" * 10_000_000 + b"\r\n\r\n",
        start + b"X" * 10_000_000,
        b"GET /" + b"a" * 10_000_000 + b" HTTP/1.1\r\n\r\n",
        start + b"".join(b"X-%d: y\r\n" % n for n in range(50_000)) + b"\r\n",
    ):
        seen[raw(server, content)] += 1
    wrong = {status: n for status, n in seen.items() if status not in {0, 400, 401, 431}}
    return {"statuses": named(seen), "wrong": named(wrong)}
