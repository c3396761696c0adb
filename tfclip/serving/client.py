"""Clients of a model on TensorFlow Serving or `tfclip serve run`, over REST or gRPC.

They need no TensorFlow. `Client` blocks; `AsyncClient` has the same methods as coroutines.
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
    """Sends pictures and texts to a server that runs an export, and returns its answers.

    Requests that fail temporarily (no connection, a full queue) are sent again after 0.2, 0.4, 0.8
    ... and at most 2 seconds. Many inputs are split into several requests.

    Args:
        server: http://, https://, grpc:// or grpcs://. The default ports are 8501 for REST and 8500
            for gRPC, in TensorFlow Serving and in `tfclip serve run`.
        unbatched: a server that does not merge requests, for `similarity`; by default `server`.
            `tfclip serve run` needs none: it never merges `similarity`.
        model: the model's name in `models.config`.
        version: the number of a version; by default the highest one.
        timeout: seconds to wait for an answer.
        retries: how often a failed request is sent again.
        token: sent as "Authorization: Bearer TOKEN".
        certificate: a PEM file of certificates to trust, for a server with a certificate that the
            system does not trust.

    Examples:
        >>> client = Client("http://localhost:8501")
        >>> client.status()
        {1: 'AVAILABLE'}
        >>> answer = client.classify(["picture.jpg"])
        >>> answer["labels"].tolist()
        [['red circle', 'blue square', 'green star']]
        >>> answer["scores"].shape, answer["valid"].tolist()
        ((1, 3), [True])
        >>> client.similarity(["picture.jpg"], ["a dog", "a cat"])["logits_per_image"].shape
        (1, 2)
        >>> client.close()
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
        """Return the state of each version on the server: {1: "AVAILABLE"}.

        Raises:
            OSError, ValueError: see `classify`.
        """
        return self._transport.status()

    def classify(self, pictures: Sequence[Picture]) -> Answer:
        """Score the labels of the export for N pictures, given as paths or as bytes of files.

        Returns:
            `labels` (N,C) str, `scores` (N,C) float32 cosine, `probabilities` (N,C) float32,
            `predicted` (N,C) bool, `valid` (N,) bool. Where a picture cannot be decoded `valid` is
            false and its other outputs are zeros.

        Raises:
            OSError: a picture cannot be read, or the server cannot be reached or fails.
            ValueError: there is no picture, or the server refuses the request.
        """
        return self._all(calls.picture_calls(names.CLASSIFY, pictures))

    def encode_image(self, pictures: Sequence[Picture]) -> Answer:
        """Embed N pictures, given as paths or as bytes of files.

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

        A TensorFlow Serving that merges requests cannot answer this: it would join the texts of
        different requests. Such a server refuses requests in which N and M differ but would accept
        equal ones, so the client never sends as many texts as pictures.

        Returns:
            `logits_per_image` (N,M) float32, the learnt scale times cosine; `valid` (N,) bool.

        Raises:
            OSError, ValueError: see `classify`.
        """
        return self._all(calls.similarity_calls(pictures, texts), self._unbatched)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
        self._unbatched.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _all(self, parts: list[Call], transport: Any = None) -> Answer:
        ask = (transport or self._transport).ask
        return calls.joined([ask(call) for call in parts])


class AsyncClient:
    """`Client` with coroutines; its arguments, answers and errors are the same.

    Many inputs are split into requests that run concurrently, at most `concurrency` at a time.
    Create it and use it within one running event loop.

    Examples:
        >>> async def main():
        ...     async with AsyncClient("http://localhost:8501") as client:
        ...         return await client.encode_text(["a dog", "a cat"])
        >>> asyncio.run(main())["embedding"].shape
        (2, 16)
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
        """Close the connections."""
        await self._transport.close()
        await self._unbatched.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _all(self, parts: list[Call], transport: Any = None) -> Answer:
        ask = (transport or self._transport).ask

        async def one(call: Call) -> Answer:
            async with self._places:
                return await ask(call)

        return calls.joined(await asyncio.gather(*map(one, parts)))


def _transport(target: Target) -> RestTransport | GrpcTransport:
    return (GrpcTransport if target.is_grpc else RestTransport)(target)


def _async_transport(target: Target) -> AsyncRestTransport | AsyncGrpcTransport:
    return (AsyncGrpcTransport if target.is_grpc else AsyncRestTransport)(target)
