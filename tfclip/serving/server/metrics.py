"""Counters of the server in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The counters of one server, in a separate registry."""

    def __init__(self):
        self._registry = CollectorRegistry()
        kinds = {"registry": self._registry}
        self.requests = Counter(
            "tfclip_requests", "Answered requests", ["api", "method", "signature", "code"], **kinds
        )
        self.seconds = Histogram(
            "tfclip_request_seconds",
            "From the last byte of a request to its answer",
            ["api", "method"],
            buckets=_SECONDS,
            **kinds,
        )
        self.rows = Histogram(
            "tfclip_batch_rows",
            "Rows of a call of the model, without padding",
            buckets=(0, 1, 2, 4, 8, 16, 32),
            **kinds,
        )
        self.refused = Counter(
            "tfclip_refused_connections", "Refused before they were read", ["reason"], **kinds
        )
        self.pictures_over_limit = Counter(
            "tfclip_pictures_over_limit", "Pictures with more pixels than --max-pixels", **kinds
        )
        self.inside = Gauge(
            "tfclip_requests_waiting", "Requests that are processed or wait", **kinds
        )
        self.queue = Gauge("tfclip_queue_tasks", "Parts of requests that no thread began", **kinds)
        self.version = Gauge("tfclip_model_version", "The version that answers", **kinds)
        self.load_seconds = Gauge(
            "tfclip_model_load_seconds", "Loading and warm-up of that version", **kinds
        )

    def watch(self, inside: Callable[[], int], queue: Callable[[], int]) -> None:
        """Read the two gauges from where they are counted."""
        self.inside.set_function(inside)
        self.queue.set_function(queue)

    def loaded(self, version: int, seconds: float) -> None:
        """Note the version that answers from now on."""
        self.version.set(version)
        self.load_seconds.set(seconds)

    def text(self) -> bytes:
        """All of them."""
        return generate_latest(self._registry)
