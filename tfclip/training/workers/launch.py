"""Starts several workers of one run on this machine: a trial of what several machines do."""

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

# After a worker has refused its flags (exit code 2), the chief has so long to do the same.
REFUSED, REFUSAL_SECONDS = 2, 60.0
ENDING_SECONDS = 10.0


def train_on_workers(command: Sequence[str], workers: int) -> dict:
    """Run a command of `tfclip.fit` in so many processes, and wait for all of them.

    They see no GPU, which each of them would take for itself. The chief speaks on standard error;
    of the others the last line is shown where they fail. SIGTERM and Ctrl-C reach all of them; a
    second Ctrl-C ends them at once.

    Args:
        command: the words after `python -m tfclip.fit`.
        workers: how many.

    Returns:
        The chief's result.

    Raises:
        CommandFailed: a worker failed; the others were ended.
        SystemExit: the chief failed, and has printed why.
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
            if "SIGINT" in signals:  # it came before they could save
                raise KeyboardInterrupt
            _tell(failed, processes, folder)
        result = json.loads((folder / "0.out").read_text().splitlines()[-1])
        if result.get("terminated"):
            result["signal"] = next(iter(signals), result.get("signal"))
        return result


@contextlib.contextmanager
def _started(
    command: Sequence[str], addresses: list[str], index: int, folder: Path
) -> Iterator[subprocess.Popen]:
    """One worker, which ends with the block at the latest."""
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    environment = {
        **os.environ,
        VARIABLE: json.dumps(config),
        LAUNCHER: str(os.getpid()),
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    words = [sys.executable, "-m", "tfclip.fit", *(w for w in command if w != "--json"), "--json"]
    with (
        (folder / f"{index}.out").open("wb") as out,
        (folder / f"{index}.err").open("wb") as err,
        subprocess.Popen(words, env=environment, stdout=out, stderr=err if index else None) as one,
    ):
        try:
            yield one
        finally:
            if one.poll() is None:
                one.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    one.wait(ENDING_SECONDS)
                one.kill()


@contextlib.contextmanager
def _passing_on_signals(processes: Sequence[subprocess.Popen]) -> Iterator[list[str]]:
    """Within, SIGTERM and the first Ctrl-C ask the workers to save and end; gives their names.

    Ctrl-C is passed on as SIGTERM: a terminal sends SIGINT to the workers as well, and a second
    one would end them at once.
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
    """Wait for all; returns the first that fails, as soon as it does."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [index for index, code in enumerate(codes) if code]
        if failed or None not in codes:
            return failed[0] if failed else None
        time.sleep(0.2)


def _tell(failed: int, processes: Sequence[subprocess.Popen], folder: Path) -> None:
    """Raise what the failure of a worker means."""
    chief, code = processes[0], processes[failed].returncode
    if code == REFUSED:
        with contextlib.suppress(subprocess.TimeoutExpired):
            chief.wait(REFUSAL_SECONDS)
    if (chief.poll() or 0) > 0:
        raise SystemExit(chief.returncode)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with code {code}"
    lines = (folder / f"{failed}.err").read_text(errors="replace").strip().splitlines()
    last = f" ({lines[-1]})" if lines and code > 0 else ""
    raise CommandFailed(
        f"worker {failed} of {len(processes)} {how}{last}, and the others were ended; run the same "
        "command again: it goes on from the last checkpoint"
    )


def _free_ports(count: int) -> list[int]:
    """Ports that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]
