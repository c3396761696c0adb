"""Starts the server, runs it, and shuts it down after answering the received requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from tfclip.serving.server.access import Gate
from tfclip.serving.server.batch_queue import BatchQueue
from tfclip.serving.server.grpc_services import make_grpc_server
from tfclip.serving.server.http_protocol import CutSlowClients
from tfclip.serving.server.metrics import Metrics
from tfclip.serving.server.options import ServerOptions
from tfclip.serving.server.page_api.endpoints import PageApi
from tfclip.serving.server.page_api.search import PageSearch
from tfclip.serving.server.predict import PredictService
from tfclip.serving.server.rest_api import RestApi
from tfclip.serving.server.startup import bind
from tfclip.serving.server.versions import ModelVersions

# The most threads that call the model (one per core), as in deploy/batching_parameters.txt.
_MOST_BATCH_THREADS = 4
_HEADER_BYTES = 32_768
_KEEP_ALIVE = 30


@dataclass(frozen=True)
class Addresses:
    """The addresses of a started server; `grpc` is None without gRPC."""

    rest: str
    grpc: str | None


class Server:
    """One export behind REST and gRPC.

    Args:
        options: the settings, see `ServerOptions`.
        say: called with each line for the log.
    """

    def __init__(self, options: ServerOptions, say: Callable[[str], None]):
        limits = options.limits
        self.options = options
        self._say = say
        self.metrics = Metrics()
        threads = min(_MOST_BATCH_THREADS, os.cpu_count() or 1)
        self._queue = BatchQueue(
            threads, limits.max_pixels, options.merge, self.metrics.rows.observe
        )
        self.versions = ModelVersions(
            options.exported,
            options.model,
            options.poll_seconds,
            say,
            options.warm_up,
            self.metrics.loaded,
        )
        self.service = PredictService(self.versions, self._queue, limits, self.metrics)
        self.metrics.watch(lambda: self.service.admission.inside, self._queue.waiting)
        # One thread for each request that may wait, and some to refuse the others.
        self._executor = ThreadPoolExecutor(limits.max_waiting + 8, "request")
        self._rest = RestApi(self.service, self._executor)
        search = None if options.index is None else PageSearch(options.index)
        self._page = PageApi(self.service, self._executor, options.model, search)
        self._end: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def load(self) -> None:
        """Load the model.

        Raises:
            FileNotFoundError, ValueError: there is no version, or it cannot be loaded.
        """
        self.versions.start()

    def stop(self) -> None:
        """End `run`, from any thread; does nothing before `run` has started."""
        if self._loop is not None and self._end is not None:
            self._loop.call_soon_threadsafe(self._end.set)

    def run(self, started: Callable[[Addresses], None], signals: bool = True) -> None:
        """Serve until SIGTERM, SIGINT or `stop`; call after `load`.

        Raises:
            OSError: a port is taken.
        """
        try:
            asyncio.run(self._serve(started, signals))
        finally:
            self.versions.stop()
            self._queue.stop()
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, started: Callable[[Addresses], None], signals: bool) -> None:
        access, limits = self.options.access, self.options.limits
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        if signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._end.set)
        config = uvicorn.Config(
            Gate(self._app(), self.options, self.metrics),
            host=access.host,
            port=access.port,
            http=CutSlowClients,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=int(limits.timeout) + 1,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            limit_concurrency=limits.max_connections,
            backlog=256,
            ssl_certfile=access.tls_cert,
            ssl_keyfile=access.tls_key,
        )
        bound = bind(access.host, access.port, "--port")
        rest_port = bound.getsockname()[1]
        grpc_server, grpc_port, services = None, None, None
        if access.grpc_port >= 0:
            grpc_server, services, grpc_port = make_grpc_server(
                self.service, self._executor, self.options
            )
            await grpc_server.start()
            self._page.grpc_port = grpc_port
        server = _QuietServer(config)
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if not serving.done():
            secure = "" if access.tls_cert is None else "s"
            host = f"[{access.host}]" if ":" in access.host else access.host
            grpc_address = None if grpc_port is None else f"grpc{secure}://{host}:{grpc_port}"
            started(Addresses(f"http{secure}://{host}:{rest_port}", grpc_address))
            ended = asyncio.create_task(self._end.wait())
            await asyncio.wait([ended, serving], return_when=asyncio.FIRST_COMPLETED)
        await self._drain(server, serving, grpc_server, services)

    async def _drain(self, server, serving, grpc_server, services) -> None:
        """Refuse new connections, answer the received requests, then end."""
        self._rest.draining = True
        if services is not None:
            services.serving = False
        inside = self.service.admission.inside
        self._say(f"ending: {inside} requests are still answered")
        server.should_exit = True
        seconds = self.options.limits.timeout
        waits = [serving] if grpc_server is None else [serving, grpc_server.stop(seconds)]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*waits, return_exceptions=True)

    def _app(self) -> Starlette:
        rest, page = self._rest, self._page
        every = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"]
        routes = [
            Route("/healthz", rest.healthz),
            Route("/metrics", rest.metrics),
            Route("/monitoring/prometheus/metrics", rest.metrics),
            Route("/", page.index),
            Route("/page/static/{name}", page.file),
            Route("/page/model", page.model),
            Route("/page/search", page.search, methods=["POST"]),
            Route("/page/heatmap", page.heatmap, methods=["POST"]),
            Route("/page/pictures/{row:int}", page.picture),
            Route("/{version}/{path:path}", rest.serving, methods=every),
        ]
        app = Starlette(
            routes=routes,
            exception_handlers={404: _not_found, 405: _not_found, 500: _failed},
        )
        app.router.redirect_slashes = False
        return app


class _QuietServer(uvicorn.Server):
    """A server that leaves signals to `Server`."""

    @contextlib.contextmanager
    def capture_signals(self):
        """See `uvicorn.Server`."""
        yield


async def _not_found(request, error):
    return JSONResponse({"error": "Not Found"}, error.status_code)


async def _failed(request, error):
    return JSONResponse({"error": "the server failed"}, 500)
