"""Access control over HTTP: host names, web sites, the token; and the headers of each answer."""

from __future__ import annotations

import hmac
import json

from starlette.datastructures import Headers, MutableHeaders

from tfclip.serving.server.metrics import Metrics
from tfclip.serving.server.options import ServerOptions

# The page loads only what the server itself sends, and may not be framed.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": _PAGE_POLICY,
    "X-Frame-Options": "DENY",
}
# Open without a token: what a browser needs to show the page and ask for the token, and health.
_OPEN = frozenset({"/", "/healthz"})
_OPEN_FOLDER = "/page/static/"


class Gate:
    """ASGI middleware: refuses requests without permission before their body is read."""

    def __init__(self, app, options: ServerOptions, metrics: Metrics):
        self._app = app
        self._hosts = options.access.host_names()
        self._origins = frozenset(options.access.allow_origin)
        secret = options.access.secret()
        self._wanted = f"Bearer {secret}".encode() if secret else None
        self._most_bytes = options.limits.max_body_bytes
        self._metrics = metrics

    async def __call__(self, scope, receive, send):
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        named = origin in self._origins

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    answer.setdefault(name, value)
                if named:
                    answer["Access-Control-Allow-Origin"] = origin
                    answer["Vary"] = "Origin"
                else:
                    answer["Cross-Origin-Resource-Policy"] = "same-origin"
            await send(message)

        refusal = self._refusal(scope, headers, origin, named)
        if refusal is not None:
            status, reason, text = refusal
            self._metrics.refused.labels(reason).inc()
            await _answer(send_with_headers, status, {"error": text})
        elif named and scope["method"] == "OPTIONS":
            allowed = {
                "Access-Control-Allow-Methods": "GET, POST",
                "Access-Control-Allow-Headers": "Content-Type, Authorization",
            }
            await _answer(send_with_headers, 200, {}, allowed)
        else:
            await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope, headers: Headers, origin, named) -> tuple[int, str, str] | None:
        host = headers.get("host", "")
        if self._hosts is not None and _without_port(host) not in self._hosts:
            return (
                403,
                "host",
                f"the Host {host[:100]!r} is not a name of this server (--allow-host NAME)",
            )
        own = f"{scope['scheme']}://{host}"
        if origin is not None and origin != own and not named:
            return (
                403,
                "origin",
                f"pages of {origin[:100]} may not use this server (--allow-origin SITE)",
            )
        if (
            origin is None
            and headers.get("sec-fetch-site") in ("cross-site", "same-site")
            and not (headers.get("sec-fetch-mode") == "navigate" and scope["path"] == "/")
        ):
            return 403, "origin", "pages of other sites may not use this server"
        if self._wanted is not None and not (named and scope["method"] == "OPTIONS"):
            path = scope["path"]
            is_open = path in _OPEN or path.startswith(_OPEN_FOLDER)
            given = headers.get("authorization", "").encode()
            if not is_open and not hmac.compare_digest(given, self._wanted):
                return 401, "token", "wrong or missing token: send Authorization: Bearer TOKEN"
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._most_bytes:
            return (
                413,
                "body",
                f"a body of {length} bytes; at most {self._most_bytes} are allowed (--max-body-mb)",
            )
        return None


def _without_port(host: str) -> str:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
    return name.lower()


async def _answer(send, status: int, content: dict, headers: dict[str, str] | None = None) -> None:
    body = json.dumps(content).encode()
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines |= headers or {}
    if status == 401:
        lines["WWW-Authenticate"] = "Bearer"
    if status >= 400:
        lines["Connection"] = "close"  # The rest of the body is not read.
    raw = [(name.lower().encode(), value.encode()) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
