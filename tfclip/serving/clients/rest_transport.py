"""Calls over REST: the blocking transport uses requests, the asynchronous one httpx."""

from __future__ import annotations

import asyncio
import ssl
import time

import requests

from tfclip.serving.clients.calls import Answer, Call
from tfclip.serving.clients.target import Target
from tfclip.serving.rest import decode_answer, encode_request

# Temporary errors: a full queue, a server that is starting, a proxy without a server.
_PASSING = (429, 502, 503)
_TOO_LONG = 504
# Parts of errors when the server speaks HTTP/2, as a gRPC server does.
_HTTP2_SIGNS = ("BadStatusLine", "HTTP/2", "x00", "illegal status line", "illegal request line")


class _Rest:
    """The code that both transports share."""

    def __init__(self, target: Target):
        self._target = target
        self._headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}

    def _decoded(self, call: Call, body: dict) -> Answer:
        try:
            answer = decode_answer(call.row, body)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self._target.url} answered {call.row} in an unexpected format: {error}"
            ) from None
        return call.check(answer, self._target.url)

    def _content(self, status: int, reason: str, text: str, parse) -> dict:
        """Return the JSON object of an answer."""
        try:
            answer = parse()
        except ValueError:
            answer = {"error": text[:200] or "an empty body"}
        if status < 400 and isinstance(answer, dict) and "error" not in answer:
            return answer
        error = answer.get("error", reason) if isinstance(answer, dict) else reason
        message = " ".join(str(error).split())[:500]
        if status == _TOO_LONG:
            raise self._target.gave_up(message)
        if status >= 500:
            raise self._target.failed(status, message)
        raise self._target.refused(status, message, status == 404)

    def _lost(self, reason: str) -> ConnectionError:
        if any(sign in reason for sign in _HTTP2_SIGNS):
            return self._target.wrong_port()
        return self._target.unreachable(reason)


def _is_lasting(lost: ConnectionError) -> bool:
    """Return whether another attempt would fail in the same way."""
    return any(sign in str(lost) for sign in ("gRPC port", "CERTIFICATE_VERIFY_FAILED"))


def _states(body: dict) -> dict[int, str]:
    return {int(state["version"]): state["state"] for state in body["model_version_status"]}


class RestTransport(_Rest):
    """The blocking transport; connections are reused."""

    def __init__(self, target: Target):
        super().__init__(target)
        self._session = requests.Session()
        self._session.headers.update(self._headers)
        # Passed with each request: on a session, the environment's certificates would win.
        self._verify = str(target.certificate) if target.certificate is not None else None

    def status(self) -> dict[int, str]:
        """Return the state of each version."""
        return _states(self._json("GET", self._target.url, None))

    def ask(self, call: Call) -> Answer:
        """Send a call and return its answer."""
        body = encode_request(call.row, call.inputs)
        return self._decoded(call, self._json("POST", f"{self._target.url}:predict", body))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _json(self, method: str, url: str, body: dict | None) -> dict:
        for attempt in range(1, self._target.retries + 2):
            is_last = attempt > self._target.retries
            try:
                response = self._session.request(
                    method, url, json=body, timeout=self._target.timeout, verify=self._verify
                )
            except requests.Timeout:
                raise self._target.timed_out() from None
            except requests.RequestException as error:
                reason = getattr(error.args[0], "reason", error) if error.args else error
                lost = self._lost(str(reason))
                if is_last or _is_lasting(lost):
                    raise lost from None
            else:
                if is_last or response.status_code not in _PASSING:
                    return self._content(
                        response.status_code, response.reason, response.text, response.json
                    )
            time.sleep(self._target.wait(attempt))
        raise AssertionError("unreachable")


class AsyncRestTransport(_Rest):
    """The asynchronous transport; needs httpx, of the extra [serving]."""

    def __init__(self, target: Target):
        super().__init__(target)
        try:
            import httpx
        except ImportError:
            raise ValueError(
                "an asynchronous client needs httpx; install the extra: pip install "
                "'tfclip[serving]'"
            ) from None
        self._httpx = httpx
        verify: ssl.SSLContext | bool = True
        if target.certificate is not None:
            verify = ssl.create_default_context(cafile=str(target.certificate))
        self._session = httpx.AsyncClient(
            headers=self._headers, timeout=target.timeout, trust_env=False, verify=verify
        )

    async def status(self) -> dict[int, str]:
        """Return the state of each version."""
        return _states(await self._json("GET", self._target.url, None))

    async def ask(self, call: Call) -> Answer:
        """Send a call and return its answer."""
        body = encode_request(call.row, call.inputs)
        return self._decoded(call, await self._json("POST", f"{self._target.url}:predict", body))

    async def close(self) -> None:
        """Close the connections."""
        await self._session.aclose()

    async def _json(self, method: str, url: str, body: dict | None) -> dict:
        for attempt in range(1, self._target.retries + 2):
            is_last = attempt > self._target.retries
            try:
                response = await self._session.request(method, url, json=body)
            except self._httpx.TimeoutException:
                raise self._target.timed_out() from None
            except self._httpx.TransportError as error:
                lost = self._lost(f"{type(error).__name__}: {error}")
                if is_last or _is_lasting(lost):
                    raise lost from None
            else:
                if is_last or response.status_code not in _PASSING:
                    return self._content(
                        response.status_code, response.reason_phrase, response.text, response.json
                    )
            await asyncio.sleep(self._target.wait(attempt))
        raise AssertionError("unreachable")
