"""python -m benchmarks.serve_attack EXPORTED: what does `serve run` do with hostile requests?

On free ports of 127.0.0.1, against a server of its own with a token: fuzzed HTTP and gRPC
requests, slow connections, bodies of a gigabyte, compressed and pixel bombs, floods of headers,
wrong tokens, path tricks, foreign Host and Origin headers. Every answer must be a defined one,
sound requests must be answered meanwhile, nothing may be served that should not be, and memory
afterwards may be 1.1 times what it is after one allowed picture of 49 million pixels. Everything
is bounded in number and time. Exit code 1 when a part fails.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import random
import socket
import sys
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

from benchmarks.served import ServedProcess
from tfclip.serving import Client
from tfclip.serving import signatures as names
from tfclip.serving.clients import messages
from tfclip.serving.warmup import drawn_jpeg

TOKEN = "a token of the benchmark"
PREDICT = f"/v1/models/{names.MODEL_NAME}:predict"
LARGEST_GROWTH = 1.10
DEFINED = {200, 400, 401, 403, 404, 405, 408, 413, 429, 431, 499, 501, 503, 504}
DEFINED_GRPC = {
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED",
    "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED",
}  # fmt: skip
# gRPC's own answer to bytes that are no message.
NO_MESSAGE = "INTERNAL"
CONNECTION_SECONDS = 20.0


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_attack", description=__doc__)
    add = parser.add_argument
    add("exported", type=Path, help="what tfclip.export wrote")
    add("--requests", type=int, default=10_000, help="fuzzed ones, half of them over gRPC")
    add("--seconds", type=float, default=600, help="at most, of fuzzed requests")
    add("--slow-connections", type=int, default=200)
    add("--large-pixels", type=int, default=49_000_000, help="of the pictures that are allowed")
    add("--seed", type=int, default=0)
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    server = ServedProcess(flags.exported, "--token", TOKEN, "--timeout", "20")
    try:
        result = attack(server, flags)
    finally:
        server.stop()
    tracebacks = sum("Traceback" in line for line in server.lines)
    result["tracebacks"] = tracebacks
    wrong = [name for name, part in result.items() if isinstance(part, dict) and part.get("wrong")]
    for name, part in result.items():
        print(f"{'failed' if name in wrong else 'ok    '}  {name}: {part}")
    if flags.json:
        print(json.dumps(result))
    grown = result["memory"]["growth"] > LARGEST_GROWTH
    return int(bool(wrong or grown or tracebacks))


def attack(server: ServedProcess, flags: argparse.Namespace) -> dict:
    """All parts, one after the other; sound requests beside each."""
    rng = random.Random(flags.seed)
    client = Client(server.rest, token=TOKEN)
    side = int(flags.large_pixels**0.5)
    large = [large_picture("JPEG", "RGB", side), large_picture("PNG", "RGBA", side)]
    for picture in large:
        for _ in range(2):
            check_valid(client.encode_image([picture]))
    settle(client)
    before = server.megabytes()
    result: dict = {}
    parts = {
        "fuzzed_http": lambda: fuzz_http(server, rng, flags.requests // 2, flags.seconds / 2),
        "fuzzed_grpc": lambda: fuzz_grpc(server, rng, flags.requests // 2, flags.seconds / 2),
        "slow": lambda: slow_connections(server, client, flags.slow_connections),
        "large_bodies": lambda: large_bodies(server),
        "bombs": lambda: bombs(server, client, large),
        "headers": lambda: header_floods(server),
        "tokens": lambda: wrong_tokens(server),
        "paths": lambda: path_tricks(server),
        "sites": lambda: foreign_sites(server),
    }
    for name, part in parts.items():
        began = time.monotonic()
        result[name] = part()
        result[name]["seconds"] = round(time.monotonic() - began, 1)
        check_valid(client.encode_image([drawn_jpeg()]))
        if not server.is_running():
            raise RuntimeError(f"the server ended during {name}: {server.lines[-3:]}")
    settle(client)
    after = server.megabytes()
    result["memory"] = {
        "megabytes_after_one_large_picture": round(before),
        "megabytes_afterwards": round(after),
        "growth": round(after / before, 3),
        "wrong": int(after / before > LARGEST_GROWTH),
    }
    return result


def check_valid(answer: dict) -> None:
    if not answer["valid"].all():
        raise RuntimeError("a sound picture was not answered")


def settle(client: Client) -> None:
    """After a picture of 9 million pixels the server gives free memory back to the system."""
    check_valid(client.encode_image([large_picture("JPEG", "RGB", 3000)]))
    time.sleep(1)


def large_picture(kind: str, mode: str, side: int) -> bytes:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    file = io.BytesIO()
    color = (200, 30, 60, 120)[: len(mode)]
    Image.new(mode, (side, side), color).save(
        file, kind, **({} if kind == "JPEG" else {"compress_level": 1})
    )
    return file.getvalue()


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


def sound_body(rng: random.Random) -> bytes:
    picture = base64.b64encode(drawn_jpeg(40, 30)).decode()
    return json.dumps(
        rng.choice(
            [
                {"instances": [{"b64": picture}]},
                {"signature_name": "encode_image", "inputs": {"image_bytes": [{"b64": picture}]}},
                {"signature_name": "encode_text", "inputs": ["a dog", "a cat"]},
                {"signature_name": "similarity", "inputs": {"image_bytes": ["x"], "text": ["a"]}},
            ]
        )
    ).encode()


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
        body = spoilt(rng, sound_body(rng))
        if number % 10:  # The body alone, on a connection that is kept.
            try:
                connection.request("POST", PREDICT, body, headers)
                response = connection.getresponse()
                json.loads(response.read())
                status = response.status
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                is_closed = isinstance(error, ConnectionError | http.client.RemoteDisconnected)
                status = 0 if is_closed else type(error).__name__
        elif number % 20:
            status = raw(server, spoilt(rng, http_request("POST", PREDICT, body)), 0.1)
        else:
            status = raw(server, rng.randbytes(rng.randint(1, 2000)), 0.1)
        seen[status] += 1
    connection.close()
    wrong = {status: n for status, n in seen.items() if status not in DEFINED | {0, -1}}
    return {"sent": sum(seen.values()), "statuses": _named(seen), "wrong": _named(wrong)}


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
    return {"sent": sum(seen.values()), "statuses": _named(seen), "wrong": _named(wrong)}


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
            connection.sendall(http_request("POST", PREDICT, big) if number < 30 else b"G")
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
        "statuses": _named(seen),
        "chunked_megabytes_sent": sent // 10**6,
        "wrong": _named(wrong),
    }


def bombs(server: ServedProcess, client: Client, large: list[bytes]) -> dict:
    """Pictures and bodies that unpack into gigabytes; and as many as are allowed of the largest."""
    import struct

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
    # As many of the largest as fit into one request, and several requests at once.
    pictures = (large[1:] * 16)[:16]
    results: list = []

    def ask() -> None:
        try:
            results.append(client_of(server).encode_image(pictures)["valid"].all())
        except (OSError, ValueError) as error:
            # Too slow for its time is a defined answer.
            results.append("504" in str(error) or "503" in str(error) or "no answer" in str(error))

    threads = [threading.Thread(target=ask) for _ in range(2)]
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


def client_of(server: ServedProcess) -> Client:
    return Client(server.grpc, token=TOKEN, retries=0, timeout=60)


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
    return {"statuses": _named(seen), "wrong": _named(wrong)}


def wrong_tokens(server: ServedProcess, count: int = 300) -> dict:
    """Almost right, empty, long, in other forms; over both protocols."""
    seen: Counter = Counter()
    given = [
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
    ]
    given += [f"bearer {TOKEN}", f"Bearer  {TOKEN}", "Bearer " + "x" * 10_000]
    for number in range(count):
        seen[
            raw(server, http_request("GET", "/v1/models/tfclip", Authorization=given[number % 10]))
        ] += 1
    for token in (None, "x", TOKEN.upper()):
        try:
            Client(server.grpc, token=token, retries=0).status()
            seen["grpc answered"] += 1
        except ValueError:
            seen["UNAUTHENTICATED"] += 1
    wrong = {status: n for status, n in seen.items() if status not in (400, 401, "UNAUTHENTICATED")}
    return {"statuses": _named(seen), "wrong": _named(wrong)}


def path_tricks(server: ServedProcess) -> dict:
    """Ways out of the page's folder, and methods that nobody serves."""
    tricks = [
        "/page/static/../options.py", "/page/static/..%2foptions.py", "/page/static/%2e%2e/run.py",
        "/page/static/....//run.py", "/page/static//etc/passwd", "/page/static/%00", "//etc/passwd",
        "/../../etc/passwd", "/page/static/..\\run.py", "/page/static/main.js%00.html",
        "/page/pictures/-1", "/page/pictures/99999999999999999999", "/page/pictures/../model",
        "/v1/models/..%2f..%2fetc:predict", "/v1/models/tfclip/versions/../../x", "http://other/",
        "/page/static/__init__.py", "/page/", "/page/static/", "/.env", "/docs", "/openapi.json",
    ]  # fmt: skip
    seen: Counter = Counter()
    wrong: dict = {}
    for path in tricks:
        for method in ("GET", "POST", "PUT", "DELETE", "TRACE", "CONNECT"):
            status = raw(server, http_request(method, path))
            seen[status] += 1
            if status not in {0, 400, 404, 405}:
                wrong[f"{method} {path}"] = status
    return {"sent": sum(seen.values()), "statuses": _named(seen), "wrong": wrong}


def foreign_sites(server: ServedProcess) -> dict:
    """What a browser would send for a page of another site."""
    body = json.dumps({"instances": ["x"]}).encode()
    seen: Counter = Counter()
    for headers in (
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Host": "example.org"},
        {"Host": "127.0.0.1.example.org"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
    ):
        for method, path in (
            ("POST", PREDICT),
            ("GET", "/metrics"),
            ("OPTIONS", PREDICT),
            ("GET", "/page/model"),
        ):
            seen[raw(server, http_request(method, path, body, **headers))] += 1
    return {"statuses": _named(seen), "wrong": _named({s: n for s, n in seen.items() if s != 403})}


def _named(counts) -> dict:
    return {str(key): value for key, value in sorted(counts.items(), key=lambda item: str(item[0]))}


if __name__ == "__main__":
    sys.exit(main())
