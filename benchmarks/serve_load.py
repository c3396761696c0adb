"""python -m benchmarks.serve_load EXPORTED: is every answer right under load, and at what cost?

`tfclip.serve run` is started on free ports of 127.0.0.1 with a copy of the export. Many
connections, half over REST and half over gRPC, ask all signatures in a mix, one picture in a
hundred damaged; each request carries a picture or text whose answer is known, and each answer is
compared. Meanwhile new versions appear. Then: pictures for each second of the server's own
processor time against the same calls in this process, the time of one request alone, and SIGKILL
under load. Exit code 1 when an answer is lost or wrong, memory grows, or
the cost misses its aims.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from benchmarks.load_requests import (
    GrpcConnection,
    Kind,
    RestConnection,
    drawn_pictures,
    make_kinds,
)
from benchmarks.serve_cost import is_cheap, measure_cost
from benchmarks.served import ServedProcess, wait_until

LARGEST_GROWTH = 1.10
# Seconds that a request may take: on a busy machine, slow is not lost.
SERVER_SECONDS = 180


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_load", description=__doc__)
    add = parser.add_argument
    add("exported", type=Path, help="what tfclip.export wrote")
    add("--seconds", type=float, default=600, help="of mixed load")
    add("--connections", type=int, default=64)
    add("--swap-seconds", type=float, default=60, help="between two versions")
    add("--cost-turns", type=int, default=8, help="of benchmarks.serve_cost; 0: none")
    add("--seed", type=int, default=0)
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        result = run(flags, Path(folder) / "served")
    for name, part in result.items():
        if isinstance(part, dict):
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in part.items()))
    if flags.json:
        print(json.dumps(result))
    load = result["load"]
    failed = load["lost"] or load["wrong"] or load["growth"] > LARGEST_GROWTH
    failed = failed or ("cost" in result and not is_cheap(result["cost"]))
    print("failed" if failed else "ok")
    return int(bool(failed))


def run(flags: argparse.Namespace, folder: Path) -> dict:
    """Serve a copy, load it, measure, kill it."""
    from tfclip.serving.saved_model import load_signatures, version_directory

    version = version_directory(flags.exported)
    shutil.copytree(version, folder / "1")
    served = load_signatures(version)
    kinds = make_kinds(served, flags.seed)
    server = ServedProcess(folder, "--timeout", str(SERVER_SECONDS))
    result: dict = {}
    try:
        result["load"] = put_load(server, kinds, folder, version, flags)
        if flags.cost_turns:
            result["cost"] = measure_cost(server, served, flags.cost_turns)
        result["killed"] = kill_under_load(server, kinds, folder)
        server = result["killed"].pop("server")
    finally:
        server.stop()
    return result


def put_load(
    server: ServedProcess,
    kinds: list[Kind],
    folder: Path,
    version: Path,
    flags: argparse.Namespace,
) -> dict:
    """Ask from all connections for some time while versions change; count what came back."""
    counts: Counter = Counter()
    failures: list[str] = []
    seconds: list[float] = []
    stop = threading.Event()
    lock = threading.Lock()

    def work(number: int) -> None:
        rng = random.Random(flags.seed * 1000 + number)
        connection = (RestConnection if number % 2 else GrpcConnection)(server)
        own: Counter = Counter()
        times = []
        while not stop.is_set():
            kind = rng.choice(kinds)
            began = time.perf_counter()
            try:
                right = kind.is_right(connection.ask(kind))
                own["answered"] += 1
                own[kind.row] += 1
                own["wrong"] += not right
            except Exception as error:
                own["lost"] += 1
                with lock:
                    failures.append(f"{type(error).__name__}: {error}"[:200])
            times.append(time.perf_counter() - began)
        connection.close()
        with lock:
            counts.update(own)
            seconds.extend(times)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(flags.connections)]
    for thread in threads:
        thread.start()
    began, number, megabytes = time.monotonic(), 1, []
    while (passed := time.monotonic() - began) < flags.seconds:
        time.sleep(0.5)
        if passed > number * flags.swap_seconds and is_settled(server, number):
            # One version is loaded, not two: only such moments can be compared.
            megabytes.append(round(server.megabytes()))
            number += 1
            beside = folder / f".writing-{number}"
            shutil.copytree(version, beside)
            beside.rename(folder / str(number))
            shutil.rmtree(folder / str(number - 2), ignore_errors=True)
    wait_until(lambda: is_settled(server, number), 300)
    megabytes.append(round(server.megabytes()))
    stop.set()
    for thread in threads:
        thread.join()
    seconds.sort()
    return {
        "seconds": round(time.monotonic() - began, 1),
        "connections": flags.connections,
        "answered": counts["answered"],
        "per_second": round(counts["answered"] / (time.monotonic() - began), 1),
        "lost": counts["lost"],
        "wrong": counts["wrong"],
        "versions_loaded": number,
        "p50_ms": round(1000 * seconds[len(seconds) // 2], 1),
        "p99_ms": round(1000 * seconds[len(seconds) * 99 // 100], 1),
        "megabytes": megabytes,
        # From the second version on: the first loading of another one needs room for both.
        "growth": round(megabytes[-1] / megabytes[min(1, len(megabytes) - 1)], 3),
        "failures": failures[:5],
    }


def is_settled(server: ServedProcess, number: int) -> bool:
    """Whether a version has taken over and the one before it is unloaded."""
    lines = list(server.lines)
    is_loaded = any(line.startswith(f"version {number} is loaded") for line in lines)
    return is_loaded and (number == 1 or f"version {number - 1} is unloaded" in lines)


def kill_under_load(server: ServedProcess, kinds: list[Kind], folder: Path) -> dict:
    """SIGKILL while clients ask; start it again on its ports; when do their retries end?"""
    from tfclip.serving import Client

    pictures = drawn_pictures(2, 2)
    stop, answered, lost = threading.Event(), [], []

    def work(address: str) -> None:
        client = Client(address, retries=60)
        while not stop.is_set():
            try:
                client.encode_image(pictures)
                answered.append((address, time.monotonic()))
            except Exception as error:
                lost.append(f"{type(error).__name__}: {error}"[:200])

    addresses = [server.rest, server.grpc] * 4
    threads = [threading.Thread(target=work, args=(address,)) for address in addresses]
    for thread in threads:
        thread.start()
    time.sleep(2)
    server.kill()
    grpc_port = int(server.grpc.rpartition(":")[2])
    again = ServedProcess(folder, port=server.port, grpc_port=grpc_port)
    ready = time.monotonic()
    waits = {}
    for address in set(addresses):
        wait_until(lambda a=address: any(x == a and t > ready for x, t in answered), 30)
        later = [t - ready for x, t in answered if x == address and t > ready]
        waits[address.split(":")[0]] = round(min(later), 2) if later else None
    stop.set()
    for thread in threads:
        thread.join()
    return {
        "server": again,
        "lost": len(lost),
        "seconds_until_answered": waits,
        "failures": lost[:3],
    }


if __name__ == "__main__":
    sys.exit(main())
