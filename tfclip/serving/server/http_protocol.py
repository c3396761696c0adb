"""Closes HTTP connections of slow clients: uvicorn's protocol with time limits."""

from __future__ import annotations

from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds for the head of a request, and for a client to read a part of an answer.
HEAD_SECONDS = 10.0
WRITE_SECONDS = 10.0
_LOOK_SECONDS = 2.0


class CutSlowClients(H11Protocol):
    """uvicorn limits the time between requests; this limits the first request, and reading."""

    def connection_made(self, transport) -> None:
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._began = self.loop.time()
        self._buffered, self._moved = 0, self._began
        self._clock = self.loop.call_later(_LOOK_SECONDS, self._look)

    def connection_lost(self, exc) -> None:
        """See `asyncio.Protocol`."""
        self._clock.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Restart the time limit for the next request."""
        self._began = self.loop.time()
        super().on_response_complete()

    def _look(self) -> None:
        now = self.loop.time()
        idle = self.cycle is None or self.cycle.response_complete
        # Between two requests uvicorn's own limit applies, until the first byte of the next one.
        slow_head = (
            idle and self.timeout_keep_alive_task is None and now - self._began > HEAD_SECONDS
        )
        buffered = self.transport.get_write_buffer_size()
        if not buffered or buffered < self._buffered:
            self._moved = now
        self._buffered = buffered
        if slow_head or (buffered and now - self._moved > WRITE_SECONDS):
            self.transport.abort()
            return
        self._clock = self.loop.call_later(_LOOK_SECONDS, self._look)
