"""Handles SIGTERM and Ctrl-C: the loop stops after its step, an evaluation at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator


class Terminated(Exception):
    """A signal requested the end within `breaking_off`."""


class Termination:
    """Context in which SIGTERM and the first Ctrl-C set `requested` instead of ending the process.

    A second Ctrl-C raises KeyboardInterrupt as usual. Only Python's main thread may handle signals;
    in other threads nothing changes. If the process ignores SIGINT, it stays ignored.

    Attributes:
        requested: whether a signal was received.
        signal: the name of the first signal, "SIGTERM" or "SIGINT"; None before.
    """

    def __init__(self):
        self.requested = False
        self.signal: str | None = None
        self._breaks_off = False
        self._before: dict[int, Callable | int] = {}

    def __enter__(self) -> Termination:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.getsignal(number)
                # None: not installed from Python, so that it could not be restored.
                if before is not None and (number, before) != (signal.SIGINT, signal.SIG_IGN):
                    self._before[number] = before
                    signal.signal(number, self._receive)
        return self

    def __exit__(self, *error) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @contextlib.contextmanager
    def breaking_off(self) -> Iterator[None]:
        """Context for a long operation; a signal within it raises `Terminated`."""
        if self.requested:
            raise Terminated
        self._breaks_off = True
        try:
            yield
        finally:
            self._breaks_off = False

    def _receive(self, number: int, _) -> None:
        self.requested = True
        self.signal = self.signal or signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._before[signal.SIGINT])
            print_in_handler("saving after this step; press Ctrl-C again to stop at once")
        if self._breaks_off:
            self._breaks_off = False
            raise Terminated


def print_in_handler(text: str) -> None:
    """Print a line to standard error without Python's buffers, which a handler must not use."""
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{text}\n".encode())
