"""python -m benchmarks.serve_load EXPORTED: is every answer right under load, and at what cost?

`tfclip.serve run` is started on free ports of 127.0.0.1 with a copy of the export. Many
connections, half over REST and half over gRPC, ask all signatures in a mix, one picture in a
hundred damaged; each request carries a picture or text whose answer is known, and each answer is
compared. Meanwhile new versions appear. Then: pictures for each second of the server's own
processor time against the same calls in this process, the time of one request alone, and SIGKILL
under load. Exit code 1 when an answer is lost or wrong or memory grows.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.served import ServedProcess, wait_until
from tfclip.serving import signatures as names
from tfclip.serving.clients import messages
from tfclip.serving.rest import encode_request

TOLERANCE = 2e-3
"""Batches of other sizes are computed in another order."""
LARGEST_GROWTH = 1.10
DAMAGED_SHARE = 0.01
PICTURES, TEXTS = 24, 24


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_load", description=__doc__)
    add = parser.add_argument
    add("exported", type=Path, help="what tfclip.export wrote")
    add("--seconds", type=float, default=600, help="of mixed load")
    add("--connections", type=int, default=64)
    add("--swap-seconds", type=float, default=60, help="between two versions")
    add("--cost-seconds", type=float, default=20, help="of each measurement of cost; 0: none")
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
    print("failed" if failed else "ok")
    return int(bool(failed))


def run(flags: argparse.Namespace, folder: Path) -> dict:
    """Serve a copy, load it, measure, kill it."""
    from tfclip.serving.saved_model import load_signatures, version_directory

    version = version_directory(flags.exported)
    shutil.copytree(version, folder / "1")
    served = load_signatures(version)
    kinds = make_kinds(served, flags.seed)
    server = ServedProcess(folder)
    result: dict = {}
    try:
        result["load"] = put_load(server, kinds, folder, version, flags)
        if flags.cost_seconds:
            result["cost"] = measure_cost(server, served, flags.cost_seconds)
        result["killed"] = kill_under_load(server, kinds, folder)
        server = result["killed"].pop("server")
    finally:
        server.stop()
    return result


class Kind:
    """One request that is encoded once for each protocol, and its answer."""

    def __init__(self, row: str, inputs: dict[str, list], expected: dict[str, np.ndarray]):
        self.row = row
        self.expected = {
            name: value for name, value in expected.items() if value.dtype.kind in "fb"
        }
        self.body = json.dumps(encode_request(row, inputs)).encode()
        self.message = messages.predict_request(
            names.MODEL_NAME, None, row, inputs
        ).SerializeToString()

    def is_right(self, answer: dict[str, np.ndarray]) -> bool:
        """Whether an answer is the one that belongs to the request."""
        for name, wanted in self.expected.items():
            got = answer[name]
            if got.shape != wanted.shape:
                return False
            if wanted.dtype.kind == "b":
                # A score that lies on its threshold may fall to either side.
                if name == names.VALID and (got != wanted).any():
                    return False
            elif np.abs(got - wanted).max(initial=0) > TOLERANCE * max(
                1.0, np.abs(wanted).max(initial=0)
            ):
                return False
        return True


def make_kinds(served: dict, seed: int) -> list[Kind]:
    """Requests of every signature, with pictures and texts that are all different."""
    import tensorflow as tf

    pictures = drawn_pictures(seed)
    rng = random.Random(seed)
    words = (
        "red blue green small large circle square star dog cat on beside above two three".split()
    )
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 8))) for _ in range(TEXTS)]
    kinds = []

    def add(row: str, inputs: dict[str, list]) -> None:
        answer = served[row](**{name: tf.constant(v) for name, v in inputs.items()})
        kinds.append(Kind(row, inputs, {name: value.numpy() for name, value in answer.items()}))

    for row in sorted(set(served) - {names.SERVING_DEFAULT}):
        for number in range(PICTURES):
            inputs: dict[str, list] = {}
            if names.IMAGE_BYTES in names.SIGNATURES[row].inputs:
                size = 1 + number % 3
                inputs[names.IMAGE_BYTES] = [pictures[(number + k) % PICTURES] for k in range(size)]
                if rng.random() < DAMAGED_SHARE * 4 or number == 0:
                    inputs[names.IMAGE_BYTES][0] = pictures[number][: len(pictures[number]) // 3]
            if names.TEXT in names.SIGNATURES[row].inputs:
                size = 1 + number % 5
                inputs[names.TEXT] = [texts[(number + k) % TEXTS] for k in range(size)]
            add(row, inputs)
    return kinds


def drawn_pictures(seed: int, count: int = PICTURES, size: tuple[int, int] = (320, 240)) -> list:
    """JPEGs of coloured noise, all different."""
    import io

    from PIL import Image

    rng = np.random.default_rng(seed)
    contents = []
    for _ in range(count):
        rough = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        file = io.BytesIO()
        rough.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG")
        contents.append(file.getvalue())
    return contents


class RestConnection:
    """One kept connection with encoded requests."""

    def __init__(self, server: ServedProcess):
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=60)

    def ask(self, kind: Kind) -> dict[str, np.ndarray]:
        from tfclip.serving.rest import decode_answer

        self._connection.request("POST", f"/v1/models/{names.MODEL_NAME}:predict", kind.body)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise ConnectionError(f"status {response.status}: {content[:200]!r}")
        return decode_answer(kind.row, json.loads(content))

    def close(self) -> None:
        self._connection.close()


class GrpcConnection:
    """One channel with serialized requests."""

    def __init__(self, server: ServedProcess):
        import grpc

        self._channel = grpc.insecure_channel(
            server.grpc.removeprefix("grpc://"), [("grpc.use_local_subchannel_pool", 1)]
        )
        self._predict = self._channel.unary_unary(
            messages.PREDICT,
            request_serializer=None,
            response_deserializer=messages.PredictResponse.FromString,
        )

    def ask(self, kind: Kind) -> dict[str, np.ndarray]:
        return messages.read_outputs(self._predict(kind.message, timeout=60))

    def close(self) -> None:
        self._channel.close()


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
    began, number, megabytes, swaps = time.monotonic(), 1, [], 0
    warm = min(max(10.0, flags.swap_seconds), flags.seconds / 3)
    while (passed := time.monotonic() - began) < flags.seconds:
        time.sleep(0.5)
        if passed > warm:
            megabytes.append(server.megabytes())
        if passed > (swaps + 1) * flags.swap_seconds:
            number, swaps = number + 1, swaps + 1
            beside = folder / f".writing-{number}"
            shutil.copytree(version, beside)
            beside.rename(folder / str(number))
            shutil.rmtree(folder / str(number - 2), ignore_errors=True)
    stop.set()
    for thread in threads:
        thread.join()
    tenth = max(1, len(megabytes) // 10)
    first, last = (statistics.median(part) for part in (megabytes[:tenth], megabytes[-tenth:]))
    seconds.sort()
    loaded = sum("is loaded" in line for line in server.lines)
    return {
        "seconds": round(time.monotonic() - began, 1),
        "connections": flags.connections,
        "answered": counts["answered"],
        "per_second": round(counts["answered"] / flags.seconds, 1),
        "lost": counts["lost"],
        "wrong": counts["wrong"],
        "versions_loaded": loaded,
        "p50_ms": round(1000 * seconds[len(seconds) // 2], 1),
        "p99_ms": round(1000 * seconds[len(seconds) * 99 // 100], 1),
        "megabytes_first": round(first),
        "megabytes_last": round(last),
        "growth": round(last / first, 3),
        "failures": failures[:5],
    }


def measure_cost(server: ServedProcess, served: dict, seconds: float) -> dict:
    """Pictures for a second of processor time at batch 16, and the time of one request alone.

    In turns of a quarter each, here and there, so that what else the machine does falls on both.
    """
    import tensorflow as tf

    row = names.CLASSIFY if names.CLASSIFY in served else names.ENCODE_IMAGE
    pictures = drawn_pictures(1, 16, (640, 480))
    sixteen, one = pictures, pictures[:1]

    def here(contents) -> dict:
        return {k: v.numpy() for k, v in served[row](image_bytes=tf.constant(contents)).items()}

    asked = {
        size: Kind(row, {names.IMAGE_BYTES: contents}, here(contents))
        for size, contents in ((16, sixteen), (1, one))
    }
    connection = RestConnection(server)
    over_grpc = GrpcConnection(server)
    own, theirs, theirs_grpc = [], [], []
    times: dict[str, list[float]] = {"here": [], "rest": [], "grpc": []}
    for _ in range(4):
        own.append(_per_cpu_second(lambda: here(sixteen), time.process_time, seconds / 8))
        for found, c in ((theirs, connection), (theirs_grpc, over_grpc)):
            found.append(
                _per_cpu_second(lambda c=c: c.ask(asked[16]), server.cpu_seconds, seconds / 8)
            )
        for name, ask in (
            ("here", lambda: here(one)),
            ("rest", lambda: connection.ask(asked[1])),
            ("grpc", lambda: over_grpc.ask(asked[1])),
        ):
            end = time.monotonic() + seconds / 12
            while time.monotonic() < end:
                began = time.perf_counter()
                ask()
                times[name].append(time.perf_counter() - began)
    connection.close()
    over_grpc.close()
    p50 = {name: 1000 * statistics.median(values) for name, values in times.items()}
    best = statistics.median(own)
    return {
        "row": row,
        "pictures_per_cpu_second_here": round(best, 1),
        "ratio_rest": round(statistics.median(theirs) / best, 3),
        "ratio_grpc": round(statistics.median(theirs_grpc) / best, 3),
        "p50_ms_here": round(p50["here"], 2),
        "p50_ratio_rest": round(p50["rest"] / p50["here"], 3),
        "p50_ratio_grpc": round(p50["grpc"] / p50["here"], 3),
        "p99_ms_rest": round(1000 * np.quantile(times["rest"], 0.99), 2),
    }


def _per_cpu_second(ask, clock, seconds: float) -> float:
    ask()
    began, end, count = clock(), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        ask()
        count += 16
    return count / (clock() - began)


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
