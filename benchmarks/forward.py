"""python -m benchmarks.forward: pictures per second of image towers, by engine and precision.

A forward pass of random pictures at 224 pixels in inference, as for feature caches, evaluation and
search, in turns: tfclip's graph, the same frozen (weights are constants), with oneDNN's bfloat16
for float32 products, in mixed bfloat16, and by OpenVINO. With --torch PYTHON, an interpreter with
torch and timm, PyTorch takes its turns, channels-last, in float32 and with bfloat16 autocast. Each
engine is a process of its own with equal threads. The cosine is that of the features with those of
the graph in float32, the lowest of a batch: PyTorch has other random weights.

--profile prints the ops that take most time in the frozen graph and in OpenVINO's, by type.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import tfclip  # noqa: F401 - chooses TensorFlow's kernels for the engines, as every command does

ROOT = Path(__file__).parents[1]
GRAPH, FROZEN = "graph f32", "frozen f32"
# Environment variables of an engine, read by TensorFlow when it is imported.
ENGINES: dict[str, dict[str, str]] = {
    GRAPH: {},
    FROZEN: {},
    "frozen fpmath bf16": {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"},
    "frozen onednn amp bf16": {},
    "frozen mixed bf16": {},
    "frozen mixed bf16, depthwise f32": {},
    "openvino f32": {},
    "openvino bf16": {},
}
TORCH = ("torch f32", "torch bf16")
# From tower to timm's name; squeezenet is torchvision's.
TOWERS = {
    "mixer-s16": "mixer_s16_224",
    "vit-b32": "vit_base_patch32_224",
    "resnet-50-v1.5": "resnet50",
    "efficientnet-lite0": "tf_efficientnet_lite0",
    "squeezenet": "squeezenet1_1",
}


class Engine:
    """A process that runs one tower by one engine."""

    def __init__(self, python: str, module: str, name: str, flags: argparse.Namespace, tower: str):
        # Not standard output: libraries write to it.
        read, write = os.pipe()
        words = [
            python,
            "-m",
            module,
            name,
            tower,
            str(flags.batch),
            str(flags.threads),
            str(write),
        ]
        env = os.environ | ENGINES.get(name, {}) | {"TF_CPP_MIN_LOG_LEVEL": "2"}
        env |= {"OMP_NUM_THREADS": str(flags.threads), "PYTHONPATH": str(ROOT)}
        self.name = name
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, env=env, pass_fds=[write], text=True, cwd=ROOT,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if not flags.debug else None,
        )  # fmt: skip
        os.close(write)
        self._answers = os.fdopen(read)

    def ask(self, question: str) -> dict:
        """Return the answer to "run N", "features PATH" or "profile"."""
        with contextlib.suppress(BrokenPipeError):  # it has ended, as the missing answer tells
            print(question, file=self._process.stdin, flush=True)
        if not (line := self._answers.readline()):
            error = self._process.stderr.read() if self._process.stderr else ""
            raise RuntimeError(f"{self.name}: {(error.strip().splitlines() or ['ended'])[-1]}")
        return json.loads(line)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        self._answers.close()


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forward", description=__doc__)
    add = parser.add_argument
    add("--towers", nargs="+", default=list(TOWERS), choices=list(TOWERS))
    add("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    add("--torch", help="an interpreter with torch and timm")
    add("--torch-engines", nargs="+", default=list(TORCH), choices=list(TORCH))
    add("--batch", type=int, default=32)
    add("--batches", type=int, default=4, help="batches in a turn")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--profile", action="store_true", help="print the ops that take most time")
    add("--debug", action="store_true", help="show what the engines write to standard error")
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    result: dict = {"processor": processor(), "batch": flags.batch, "threads": flags.threads}
    print(f"{result['processor']}, batch {flags.batch}, {flags.threads} threads", file=sys.stderr)
    result["towers"] = {tower: measure(flags, tower) for tower in flags.towers}
    if flags.json:
        print(json.dumps(result))
    return 0


def measure(flags: argparse.Namespace, tower: str) -> dict[str, dict]:
    """Return pictures per second of all engines on one tower, and print them."""
    names = [*flags.engines, *(flags.torch_engines if flags.torch else ())]
    rates: dict[str, list[float]] = {}
    rows: dict[str, dict] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engines: list[Engine] = []
        for name in names:
            ours = name not in TORCH
            module = "benchmarks.forward_tensorflow" if ours else "benchmarks.forward_torch"
            python = sys.executable if ours else flags.torch
            place = tower if ours else TOWERS[tower]
            engine = stack.enter_context(Engine(python, module, name, flags, place))
            try:
                engine.ask("run 1")
            except RuntimeError as error:
                print(f"  {tower}: {error}", file=sys.stderr)
                continue
            engines.append(engine)
        for _ in range(flags.rounds):
            for engine in engines:
                seconds = engine.ask(f"run {flags.batches}")["seconds"]
                rates.setdefault(engine.name, []).append(flags.batches * flags.batch / seconds)
        expected = None
        for engine in engines:
            row = {"images_per_second": round(statistics.median(rates[engine.name]), 1)}
            row["rounds"] = [round(rate, 1) for rate in rates[engine.name]]
            if engine.name not in TORCH:
                found = _features(engine, folder)
                expected = found if expected is None else expected
                row["cosine"] = round(float(_cosines(found, expected).min()), 6)
            rows[engine.name] = row
            print(f"  {tower:20} {engine.name:34} {_line(row)}", file=sys.stderr)
        if flags.profile and flags.engines:
            for engine in engines:
                if engine.name.startswith(("frozen", "openvino")):
                    _print_profile(tower, engine)
    return rows


def processor() -> str:
    """Return the name of the processor, and which instructions for bfloat16 it has."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    wanted = ("avx512f", "avx512_bf16", "amx_bf16")
    known = [flag for flag in wanted if flag in fields.get("flags", "").split()]
    return f"{fields.get('model name', platform.machine())} ({' '.join(known) or 'no AVX-512'})"


def _features(engine: Engine, folder: Path) -> np.ndarray:
    path = folder / "features.npy"
    engine.ask(f"features {path}")
    return np.load(path)


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def _line(row: dict) -> str:
    rounds = " ".join(f"{rate:.0f}" for rate in row["rounds"])
    cosine = f", lowest cosine {row['cosine']:.6f}" if "cosine" in row else ""
    return f"{row['images_per_second']:7.1f} images/s ({rounds}){cosine}"


def _print_profile(tower: str, engine: Engine) -> None:
    rows: Sequence[Sequence] = engine.ask("profile")["ops"]
    print(f"  {tower}, {engine.name}: milliseconds of a batch by op", file=sys.stderr)
    for op, milliseconds, count in rows:
        print(f"    {op:40} {milliseconds:8.1f} ms in {count} ops", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
