"""`serve run` as a process of its own, for benchmarks: started, watched, ended, killed."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks.process_memory import anonymous_megabytes

# Loading and warming up takes seconds, and minutes on a machine that does much else.
_START_SECONDS = 600
TICKS = os.sysconf("SC_CLK_TCK")


class ServedProcess:
    """A server on free ports of 127.0.0.1, or on those that are given.

    `rest` and `grpc` are its addresses, `host` and `port` those of REST.
    """

    def __init__(self, exported: Path, *flags: str, port: int = 0, grpc_port: int = 0):
        command = [sys.executable, "-m", "tfclip.serve", "run", str(exported)]
        command += ["--port", str(port), "--grpc-port", str(grpc_port), *flags]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self.lines: list[str] = []
        self._started: queue.Queue = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.rest, self.grpc = self._started.get(timeout=_START_SECONDS)
        except queue.Empty:
            self.kill()
            raise RuntimeError(f"the server did not start: {self.lines[-3:]}") from None
        self.host, port_text = self.rest.removeprefix("http://").split(":")
        self.port = int(port_text)

    def _read(self) -> None:
        addresses = {}
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            for sign in ("REST and the page: ", "gRPC: "):
                if line.startswith(sign):
                    addresses[sign] = line.removeprefix(sign).strip().rstrip("/")
            if line.startswith("try it"):
                self._started.put(tuple(addresses.values()))

    def megabytes(self) -> float:
        """Its resident anonymous memory."""
        return anonymous_megabytes(self.process.pid)

    def cpu_seconds(self) -> float:
        """Processor time of all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        if self.is_running():
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode


def wait_until(condition, seconds: float) -> bool:
    """Look until something is so; whether it was."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
