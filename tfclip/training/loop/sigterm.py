"""SIGTERM and Ctrl-C as requests: the loop answers them after its step, an evaluation at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator


class Terminated(Exception):
    """The request came in a part that may be broken off."""


class Termination:
    """Within, SIGTERM and the first Ctrl-C set `requested` instead of ending the process.

    A second Ctrl-C raises KeyboardInterrupt, as outside. Only the main thread of Python may handle
    signals; elsewhere nothing is changed. A SIGINT that the process ignores stays ignored.

    Attributes:
        requested: whether a signal has come.
        signal: the name of the first one, "SIGTERM" or "SIGINT"; None before.
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
                # None: set by other than Python, and not to be given back.
                if before is not None and (number, before) != (signal.SIGINT, signal.SIG_IGN):
                    self._before[number] = before
                    signal.signal(number, self._receive)
        return self

    def __exit__(self, *error) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @contextlib.contextmanager
    def breaking_off(self) -> Iterator[None]:
        """A part that takes long, which `Terminated` ends when the request comes."""
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
            tell_in_handler("saving after this step; Ctrl-C again ends at once")
        if self._breaks_off:
            self._breaks_off = False
            raise Terminated


def tell_in_handler(text: str) -> None:
    """Print a line on standard error past Python's buffers, which a signal may have come within."""
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"\n{text}\n".encode())
