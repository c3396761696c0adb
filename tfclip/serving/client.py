"""Asks a model that TensorFlow Serving or `tfclip.serve run` serves, over REST or gRPC.

No TensorFlow. `Client` blocks; `AsyncClient` has the same methods as coroutines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfclip.serving import signatures as names
from tfclip.serving.clients import calls
from tfclip.serving.clients.calls import Answer, Call, Picture
from tfclip.serving.clients.grpc_transport import AsyncGrpcTransport, GrpcTransport
from tfclip.serving.clients.rest_transport import AsyncRestTransport, RestTransport
from tfclip.serving.clients.target import Target

__all__ = ["AsyncClient", "Client", "Picture"]


class Client:
    """Pictures and texts to answers, by an export that a server runs.

    Requests that fail in passing (no connection, a full queue) are sent again, after 0.2, 0.4, 0.8
    and at most 2 seconds each time. Many inputs are sent in several requests.

    Args:
        server: http://, https://, grpc:// or grpcs://. REST is on port 8501 and gRPC on 8500, in
            TensorFlow Serving as in `tfclip.serve run`.
        unbatched: a server that does not merge requests, for `similarity`; `server` by default.
            `tfclip.serve run` needs none: it never merges `similarity`.
        model: its name in `models.config`.
        version: one version; the highest by default.
        timeout: seconds to wait for one answer.
        retries: how often a request is sent again.
        token: sent as "Authorization: Bearer TOKEN".
        certificate: a file of certificates (PEM) to trust, for a server with one of its own.

    Example:
        >>> client = Client("http://localhost:8501")
        >>> client.status()  # doctest: +SKIP
        {1: 'AVAILABLE'}
    """

    def __init__(
        self,
        server: str = "http://localhost:8501",
        *,
        unbatched: str | None = None,
        model: str = names.MODEL_NAME,
        version: int | None = None,
        timeout: float = 60.0,
        retries: int = 8,
        token: str | None = None,
        certificate: Path | None = None,
    ):
        more = (model, version, timeout, retries, token, certificate)
        targets = Target(server, *more), Target(unbatched or server, *more)
        self.model = model
        self._transport, self._unbatched = map(_transport, targets)

    def status(self) -> dict[int, str]:
        """The state of each version that the server knows: {1: "AVAILABLE"}.

        Raises:
            OSError, ValueError: see `classify`.
        """
        return self._transport.status()

    def classify(self, pictures: Sequence[Picture]) -> Answer:
        """Score the labels of the export for N pictures, paths or the bytes of files.

        Returns:
            `labels` (N,C) str, `scores` (N,C) float32 cosine, `probabilities` (N,C) float32,
            `predicted` (N,C) bool, `valid` (N,) bool: false, and zeros beside it, where a picture
            does not decode.

        Raises:
            OSError: a picture cannot be read, or the server cannot be reached or fails.
            ValueError: there is no picture, or the server refuses the request.
        """
        return self._all(calls.picture_calls(names.CLASSIFY, pictures))

    def encode_image(self, pictures: Sequence[Picture]) -> Answer:
        """Embed N pictures, paths or the bytes of files.

        Returns:
            `embedding` (N,D) float32 of unit norm, `valid` (N,) bool.

        Raises:
            OSError, ValueError: see `classify`.
        """
        return self._all(calls.picture_calls(names.ENCODE_IMAGE, pictures))

    def encode_text(self, texts: Sequence[str]) -> Answer:
        """Embed M texts.

        Returns:
            `embedding` (M,D) float32 of unit norm.

        Raises:
            OSError, ValueError: see `classify`.
        """
        return self._all(calls.text_calls(texts))

    def similarity(self, pictures: Sequence[Picture], texts: Sequence[str]) -> Answer:
        """Compare N pictures with M texts.

        A TensorFlow Serving that merges requests cannot answer this: it joins the texts of
        strangers. It is never asked with as many texts as pictures, which is the one case that it
        takes for its own.

        Returns:
            `logits_per_image` (N,M) float32, the learnt scale times cosine; `valid` (N,) bool.

        Raises:
            OSError, ValueError: see `classify`.
        """
        return self._all(calls.similarity_calls(pictures, texts), self._unbatched)

    def close(self) -> None:
        """Let the connections go."""
        self._transport.close()
        self._unbatched.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _all(self, asked: list[Call], transport: Any = None) -> Answer:
        ask = (transport or self._transport).ask
        return calls.joined([ask(call) for call in asked])


class AsyncClient:
    """`Client` as coroutines; its arguments, answers and errors are the same.

    The parts of many inputs are sent side by side, at most `concurrency` at a time. It is made and
    used within one running loop.

    Example:
        >>> async def main():  # doctest: +SKIP
        ...     async with AsyncClient("grpc://localhost:8500") as client:
        ...         return await client.classify(["picture.jpg"])
    """

    def __init__(
        self,
        server: str = "http://localhost:8501",
        *,
        unbatched: str | None = None,
        model: str = names.MODEL_NAME,
        version: int | None = None,
        timeout: float = 60.0,
        retries: int = 8,
        token: str | None = None,
        certificate: Path | None = None,
        concurrency: int = 8,
    ):
        more = (model, version, timeout, retries, token, certificate)
        targets = Target(server, *more), Target(unbatched or server, *more)
        self.model = model
        self._transport, self._unbatched = map(_async_transport, targets)
        self._places = asyncio.Semaphore(concurrency)

    async def status(self) -> dict[int, str]:
        """See `Client.status`."""
        return await self._transport.status()

    async def classify(self, pictures: Sequence[Picture]) -> Answer:
        """See `Client.classify`."""
        return await self._all(calls.picture_calls(names.CLASSIFY, pictures))

    async def encode_image(self, pictures: Sequence[Picture]) -> Answer:
        """See `Client.encode_image`."""
        return await self._all(calls.picture_calls(names.ENCODE_IMAGE, pictures))

    async def encode_text(self, texts: Sequence[str]) -> Answer:
        """See `Client.encode_text`."""
        return await self._all(calls.text_calls(texts))

    async def similarity(self, pictures: Sequence[Picture], texts: Sequence[str]) -> Answer:
        """See `Client.similarity`."""
        return await self._all(calls.similarity_calls(pictures, texts), self._unbatched)

    async def close(self) -> None:
        """Let the connections go."""
        await self._transport.close()
        await self._unbatched.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _all(self, asked: list[Call], transport: Any = None) -> Answer:
        ask = (transport or self._transport).ask

        async def one(call: Call) -> Answer:
            async with self._places:
                return await ask(call)

        return calls.joined(await asyncio.gather(*map(one, asked)))


def _transport(target: Target) -> RestTransport | GrpcTransport:
    return (GrpcTransport if target.is_grpc else RestTransport)(target)


def _async_transport(target: Target) -> AsyncRestTransport | AsyncGrpcTransport:
    return (AsyncGrpcTransport if target.is_grpc else AsyncRestTransport)(target)
