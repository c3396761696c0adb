"""Starts several workers of a run on this machine, to try out training on several machines."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfclip.console import CommandFailed, say
from tfclip.training.workers.cluster import LAUNCHER, VARIABLE

# The time for the chief to refuse its flags after a worker has refused them (exit code 2).
REFUSED, REFUSAL_SECONDS = 2, 60.0
ENDING_SECONDS = 10.0


def train_on_workers(command: Sequence[str], workers: int) -> dict:
    """Run a command of `tfclip.fit` in several processes, and wait for all of them.

    GPUs are hidden from them, because each process would allocate all of them. The chief prints to
    standard error; if another worker fails, its last line is printed. SIGTERM and Ctrl-C are passed
    on to all workers; a second Ctrl-C kills them.

    Args:
        command: the arguments after `python -m tfclip.fit`.
        workers: the number of processes.

    Returns:
        The chief's result.

    Raises:
        CommandFailed: a worker failed; the others were terminated.
        SystemExit: the chief failed, and has printed its error.
    """
    say(f"starting {workers} workers on this machine")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        addresses = [f"localhost:{port}" for port in _free_ports(workers)]
        processes = [
            stack.enter_context(_started(command, addresses, index, folder))
            for index in range(workers)
        ]
        signals = stack.enter_context(_passing_on_signals(processes))
        failed = _first_failure(processes)
        if failed is not None:
            if "SIGINT" in signals:  # before the workers could save
                raise KeyboardInterrupt
            _raise_failure(failed, processes, folder)
        result = json.loads((folder / "0.out").read_text().splitlines()[-1])
        if result.get("terminated"):
            result["signal"] = next(iter(signals), result.get("signal"))
        return result


@contextlib.contextmanager
def _started(
    command: Sequence[str], addresses: list[str], index: int, folder: Path
) -> Iterator[subprocess.Popen]:
    """Start a worker; it is terminated at the end of the context."""
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    environment = {
        **os.environ,
        VARIABLE: json.dumps(config),
        LAUNCHER: str(os.getpid()),
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    arguments = [word for word in command if word != "--json"]
    started = [sys.executable, "-m", "tfclip.fit", *arguments, "--json"]
    with (
        (folder / f"{index}.out").open("wb") as out,
        (folder / f"{index}.err").open("wb") as err,
        subprocess.Popen(
            started, env=environment, stdout=out, stderr=err if index else None
        ) as process,
    ):
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(ENDING_SECONDS)
                process.kill()


@contextlib.contextmanager
def _passing_on_signals(processes: Sequence[subprocess.Popen]) -> Iterator[list[str]]:
    """Context in which SIGTERM and the first Ctrl-C make the workers save and stop.

    It yields the names of received signals. Ctrl-C is passed on as SIGTERM, because a terminal also
    sends SIGINT to the workers, and a second SIGINT would stop them at once.
    """
    received: list[str] = []

    def pass_on(number: int, _) -> None:
        again = number == signal.SIGINT and "SIGINT" in received
        received.append(signal.Signals(number).name)
        for process in processes:
            if again:
                process.kill()
            else:
                process.terminate()
        if again:
            raise KeyboardInterrupt

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        numbers.remove(signal.SIGINT)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_failure(processes: Sequence[subprocess.Popen]) -> int | None:
    """Wait for all processes; return the index of the first to fail at once, None for success."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [index for index, code in enumerate(codes) if code]
        if failed or None not in codes:
            return failed[0] if failed else None
        time.sleep(0.2)


def _raise_failure(failed: int, processes: Sequence[subprocess.Popen], folder: Path) -> None:
    """Raise the error that the failure of a worker means."""
    chief, code = processes[0], processes[failed].returncode
    if code == REFUSED:
        with contextlib.suppress(subprocess.TimeoutExpired):
            chief.wait(REFUSAL_SECONDS)
    if (chief.poll() or 0) > 0:
        raise SystemExit(chief.returncode)
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with code {code}"
    lines = (folder / f"{failed}.err").read_text(errors="replace").strip().splitlines()
    last = f" ({lines[-1]})" if lines and code > 0 else ""
    raise CommandFailed(
        f"worker {failed} of {len(processes)} {how}{last}, and the others were stopped; run the "
        "same command again to resume from the last checkpoint"
    )


def _free_ports(count: int) -> list[int]:
    """Return ports that are currently free."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]
