"""SIGTERM as a request: the loop answers it after its step, an evaluation at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class Terminated(Exception):
    """The request came in a part that may be broken off."""


class Termination:
    """Within, SIGTERM sets `requested` instead of ending the process.

    Only the main thread of Python may handle signals; elsewhere nothing is changed.
    """

    def __init__(self):
        self.requested = False
        self._breaks_off = False
        self._before = None

    def __enter__(self) -> Termination:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._receive)
        return self

    def __exit__(self, *error) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

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

    def _receive(self, *_) -> None:
        self.requested = True
        if self._breaks_off:
            self._breaks_off = False
            raise Terminated
