"""Calls over gRPC, blocking and asynchronous; needs grpcio, of the extra [serving]."""

from __future__ import annotations

import asyncio
import time

from tfclip.serving import signatures as names
from tfclip.serving.clients import messages
from tfclip.serving.clients.calls import Answer, Call
from tfclip.serving.clients.target import Target

# Messages over 4 MiB need a limit on both sides; the server has one of its own.
# By default gRPC may wait two minutes before it reconnects to a server that is back.
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
# Parts of gRPC's errors when the server speaks HTTP/1.
_HTTP1_SIGNS = ("http1", "HTTP/1", "Trying to connect an http1.x server")
_MISTAKES = (
    *("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNAUTHENTICATED"),
    *("PERMISSION_DENIED", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "OUT_OF_RANGE"),
)


class _Grpc:
    """The code that both transports share."""

    def __init__(self, target: Target, library):
        import grpc

        self._target = target
        if target.is_secure:
            root = target.certificate.read_bytes() if target.certificate else None
            credentials = grpc.ssl_channel_credentials(root)
            self._channel = library.secure_channel(target.address, credentials, _OPTIONS)
        else:
            self._channel = library.insecure_channel(target.address, _OPTIONS)
        self._metadata = (("authorization", f"Bearer {target.token}"),) if target.token else None
        self._predict = self._channel.unary_unary(
            messages.PREDICT,
            request_serializer=messages.PredictRequest.SerializeToString,
            response_deserializer=messages.PredictResponse.FromString,
        )
        self._status = self._channel.unary_unary(
            messages.STATUS,
            request_serializer=messages.GetModelStatusRequest.SerializeToString,
            response_deserializer=messages.GetModelStatusResponse.FromString,
        )

    def _request(self, call: Call):
        return messages.predict_request(
            self._target.model, self._target.version, call.row, call.inputs
        )

    def _status_request(self):
        request = messages.GetModelStatusRequest()
        request.model_spec.name = self._target.model
        if self._target.version is not None:
            request.model_spec.version.value = self._target.version
        return request

    def _decoded(self, call: Call, response) -> Answer:
        outputs, expected = messages.read_outputs(response), names.SIGNATURES[call.row].outputs
        if not set(expected) <= set(outputs):
            raise ValueError(
                f"{self._target.server} answered {call.row} with {', '.join(sorted(outputs))}; "
                f"expected {', '.join(expected)}"
            )
        return call.check({name: outputs[name] for name in expected}, self._target.server)

    def _again(self, error, attempt: int) -> float:
        """Return the seconds until the next attempt.

        Raises:
            OSError, ValueError: the request must not be repeated, or too often was.
        """
        code, message = error.code().name, " ".join((error.details() or "").split())[:500]
        if any(sign in message for sign in _HTTP1_SIGNS):
            raise self._target.wrong_port() from None
        if code == "UNAVAILABLE" and attempt <= self._target.retries:
            return self._target.wait(attempt)
        if code == "UNAVAILABLE" and "queue is full" not in message:
            raise self._target.unreachable(message) from None
        if code == "DEADLINE_EXCEEDED":
            # gRPC's own words for the deadline of this call; all others are the server's.
            if message == "Deadline Exceeded":
                raise self._target.timed_out() from None
            raise self._target.gave_up(message) from None
        if code in _MISTAKES:
            raise self._target.refused(code, message, code == "NOT_FOUND") from None
        raise self._target.failed(code, message) from None


def _states(response) -> dict[int, str]:
    return {
        state.version: messages.STATES.get(state.state, "UNKNOWN")
        for state in response.model_version_status
    }


def _grpc():
    try:
        import grpc
        import grpc.aio
    except ImportError:
        raise ValueError(
            "a client over gRPC needs grpcio; install the extra: pip install 'tfclip[serving]'"
        ) from None
    return grpc


class GrpcTransport(_Grpc):
    """The blocking transport."""

    def __init__(self, target: Target):
        self._error = _grpc().RpcError
        super().__init__(target, _grpc())

    def status(self) -> dict[int, str]:
        """Return the state of each version."""
        return _states(self._call(self._status, self._status_request()))

    def ask(self, call: Call) -> Answer:
        """Send a call and return its answer."""
        return self._decoded(call, self._call(self._predict, self._request(call)))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _call(self, method, request):
        attempt = 0
        while True:
            attempt += 1
            try:
                return method(request, timeout=self._target.timeout, metadata=self._metadata)
            except self._error as error:
                time.sleep(self._again(error, attempt))


class AsyncGrpcTransport(_Grpc):
    """The asynchronous transport; create it within a running event loop."""

    def __init__(self, target: Target):
        self._error = _grpc().RpcError
        super().__init__(target, _grpc().aio)

    async def status(self) -> dict[int, str]:
        """Return the state of each version."""
        return _states(await self._call(self._status, self._status_request()))

    async def ask(self, call: Call) -> Answer:
        """Send a call and return its answer."""
        return self._decoded(call, await self._call(self._predict, self._request(call)))

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def _call(self, method, request):
        attempt = 0
        while True:
            attempt += 1
            try:
                return await method(request, timeout=self._target.timeout, metadata=self._metadata)
            except self._error as error:
                wait = self._again(error, attempt)
            await asyncio.sleep(wait)
