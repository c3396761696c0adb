"""python -m benchmarks.serve_cost EXPORTED: the cost of a served request beside a call in Python.

Pictures for each second of processor time at batch 16, and the time of one request alone (batch 1,
one connection): here, over REST, and over gRPC, in turns, requests encoded before. Processor time
is that of all threads of the process that computes; it does not depend on what else the machine
does, as wall time would.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.load_requests import GrpcConnection, Kind, RestConnection, drawn_pictures
from benchmarks.served import ServedProcess
from tfclip.serving import signatures as names

LEAST_RATIO, LARGEST_P50_RATIO = 0.9, 1.2
# Calls of each kind in one turn.
_SIXTEENS, _ONES = 8, 16


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    from tfclip.serving.saved_model import load_signatures, version_directory

    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_cost", description=__doc__)
    add = parser.add_argument
    add("exported", type=Path, help="what tfclip.export wrote")
    add("--turns", type=int, default=8)
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    served = load_signatures(version_directory(flags.exported))
    server = ServedProcess(flags.exported)
    try:
        result = measure_cost(server, served, flags.turns)
    finally:
        server.stop()
    for name, value in result.items():
        print(f"{name}: {value}")
    if flags.json:
        print(json.dumps(result))
    return int(not is_cheap(result))


def is_cheap(result: dict) -> bool:
    """Whether both aims are met over both protocols."""
    return all(
        result[f"ratio_{name}"] >= LEAST_RATIO and result[f"p50_ratio_{name}"] <= LARGEST_P50_RATIO
        for name in ("rest", "grpc")
    )


def measure_cost(server: ServedProcess, served: dict, turns: int) -> dict:
    """Ask in turns, here and there, so that what else the machine does falls on all of them."""
    import tensorflow as tf

    row = names.CLASSIFY if names.CLASSIFY in served else names.ENCODE_IMAGE
    pictures = drawn_pictures(1, 16, (640, 480))

    def here(contents) -> dict:
        return {k: v.numpy() for k, v in served[row](image_bytes=tf.constant(contents)).items()}

    def kind_of(contents) -> Kind:
        return Kind(row, {names.IMAGE_BYTES: contents}, here(contents))

    sixteen, one = kind_of(pictures), kind_of(pictures[:1])
    rest, grpc = RestConnection(server), GrpcConnection(server)
    asks = {"here": lambda kind: here(pictures if kind is sixteen else pictures[:1])}
    asks |= {"rest": rest.ask, "grpc": grpc.ask}
    clocks = {"here": time.process_time, "rest": server.cpu_seconds, "grpc": server.cpu_seconds}
    seconds: dict[str, list[float]] = {name: [] for name in asks}
    times: dict[str, list[float]] = {name: [] for name in asks}
    for turn in range(turns + 1):
        for name, ask in asks.items():
            rest.renew()
            ask(one)
            began = clocks[name]()
            for _ in range(_SIXTEENS):
                ask(sixteen)
            used = clocks[name]() - began
            for _ in range(_ONES):
                began = time.perf_counter()
                ask(one)
                if turn:  # The first turn warms up.
                    times[name].append(time.perf_counter() - began)
            if turn:
                seconds[name].append(used / _SIXTEENS)
    rest.close()
    grpc.close()
    cpu = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    p50 = {name: 1000 * statistics.median(values) for name, values in times.items()}
    result: dict = {"row": row, "cpu_ms_here": round(cpu["here"], 1)}
    result["p50_ms_here"] = round(p50["here"], 2)
    for name in ("rest", "grpc"):
        result |= {
            f"ratio_{name}": round(cpu["here"] / cpu[name], 3),
            f"p50_ratio_{name}": round(p50[name] / p50["here"], 3),
            f"p99_ms_{name}": round(1000 * float(np.quantile(times[name], 0.99)), 2),
        }
    return result


if __name__ == "__main__":
    sys.exit(main())
