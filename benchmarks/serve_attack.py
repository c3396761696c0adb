"""python -m benchmarks.serve_attack EXPORTED: what does `serve run` do with hostile requests?

On free ports of 127.0.0.1, against a server of its own with a token: fuzzed HTTP and gRPC
requests, slow connections, bodies of a gigabyte, compressed and pixel bombs, floods of headers,
wrong tokens, path tricks, foreign Host and Origin headers, a page of another site in Chromium.
Every answer must be a defined one, sound requests must be answered meanwhile, nothing may be served
that should not be, and memory afterwards may be 1.1 times what it is after the largest requests
that are allowed, with pictures of 49 million pixels, over REST, gRPC and for a heatmap. Everything
is bounded in number and time. Exit code 1 when a part fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.attack_access import foreign_page, foreign_sites, path_tricks, wrong_tokens
from benchmarks.attack_fuzz import fuzz_grpc, fuzz_http
from benchmarks.attack_limits import bombs, header_floods, large_bodies, slow_connections
from benchmarks.attack_requests import (
    TOKEN,
    check_valid,
    client_of,
    heatmap_status,
    large_picture,
)
from benchmarks.served import ServedProcess
from tfclip.serving import Client
from tfclip.serving.warmup import drawn_jpeg

LARGEST_GROWTH = 1.10


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
    if tracebacks:
        first = next(n for n, line in enumerate(server.lines) if "Traceback" in line)
        print("\n".join(server.lines[max(0, first - 2) : first + 40]), file=sys.stderr)
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
    fill(server, client, large)
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
        "page_of_another_site": lambda: foreign_page(server),
    }
    for name, part in parts.items():
        began = time.monotonic()
        result[name] = part()
        result[name]["seconds"] = round(time.monotonic() - began, 1)
        result[name]["megabytes"] = round(server.megabytes())
        check_valid(client.encode_image([drawn_jpeg()]))
        if not server.is_running():
            raise RuntimeError(f"the server ended during {name}: {server.lines[-3:]}")
    settle(client)
    after = server.megabytes()
    result["memory"] = {
        "megabytes_after_the_largest_requests": round(before),
        "megabytes_afterwards": round(after),
        "growth": round(after / before, 3),
        "wrong": int(after / before > LARGEST_GROWTH),
    }
    return result


def fill(server: ServedProcess, client: Client, large: list[bytes]) -> None:
    """Send an allowed picture of the most pixels in each way that there is, and every batch size.

    As `benchmarks.fuzz_export` does: TensorFlow keeps the kernels for the shapes that it has seen,
    with their work space, and gRPC and the page's heatmap load what they need at their first use.
    """
    for way in (client, client_of(server)):
        check_valid(way.encode_image([large[1]]))
    if (status := heatmap_status(server, large[1])) != 200:
        raise RuntimeError(f"the heatmap of a sound picture was answered with {status}")
    small, long = drawn_jpeg(64, 64), "dog " * 2**16
    asks: list[Callable[[int], object]] = [
        lambda size: client.classify([small] * size),
        lambda size: client.encode_image([small] * size),
        lambda size: client.encode_text([long] * size),
        lambda size: client.encode_text(["dog " * size] * size),
        lambda size: client.similarity([small] * size, [long]),
        lambda size: client.similarity([small], ["dog"] * size),
    ]
    for ask in asks:
        with contextlib.suppress(ValueError):  # a signature that the export does not have
            for size in range(1, 17):
                ask(size)
    with contextlib.suppress(ValueError):
        client.similarity(large, [long] * 16)


def settle(client: Client) -> None:
    """After a picture of 9 million pixels the server gives free memory back to the system."""
    check_valid(client.encode_image([large_picture("JPEG", "RGB", 3000)]))
    time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
