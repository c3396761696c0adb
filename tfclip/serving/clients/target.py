"""The server and model that a client uses, with timeout, retries and error messages."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tfclip.serving import signatures as names
from tfclip.serving.rest import model_url

REST_PORT, GRPC_PORT = 8501, 8500
_SCHEMES = ("http", "https", "grpc", "grpcs")
# Seconds between two attempts: 0.2, 0.4, ... up to this limit, so that an answer comes soon after a
# server is back.
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 2.0


@dataclass(frozen=True)
class Target:
    """A server and a model on it."""

    server: str
    model: str = names.MODEL_NAME
    version: int | None = None
    timeout: float = 60.0
    retries: int = 8
    token: str | None = None
    certificate: Path | None = None

    def __post_init__(self):
        parts = urlsplit(self.server)
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise ValueError(
                f"the server must be a URL like http://localhost:{REST_PORT} or grpc://localhost:"
                f"{GRPC_PORT}. Received: {self.server}"
            )
        if self.certificate is not None and not Path(self.certificate).is_file():
            raise FileNotFoundError(f"no certificate at {self.certificate}")

    @property
    def is_grpc(self) -> bool:
        """Whether requests are sent over gRPC."""
        return self.server.startswith("grpc")

    @property
    def is_secure(self) -> bool:
        """Whether requests are sent over TLS."""
        return urlsplit(self.server).scheme in ("https", "grpcs")

    @property
    def url(self) -> str:
        """The URL of the model for REST."""
        return model_url(self.server, self.model, self.version)

    @property
    def address(self) -> str:
        """The host and port for gRPC."""
        parts = urlsplit(self.server)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{parts.port or GRPC_PORT}"

    def wait(self, attempt: int) -> float:
        """Return the seconds to wait before attempt 1, 2, ..., with a random part.

        The random part keeps clients that failed together from returning together.
        """
        return min(_FIRST_WAIT * 2 ** (attempt - 1), _LONGEST_WAIT) * random.uniform(0.8, 1.0)

    def timed_out(self) -> TimeoutError:
        """Return the error for an answer that did not arrive in the time of this client."""
        return TimeoutError(f"no answer from {self.server} in {self.timeout:g} s (timeout)")

    def gave_up(self, message: str) -> TimeoutError:
        """Return the error for a server that gave up a request in a time limit of its own."""
        return TimeoutError(f"{self.server} gave up this request: {message}")

    def unreachable(self, reason: object) -> ConnectionError:
        """Return the error for a server that cannot be reached."""
        if self.is_grpc:
            other = f"gRPC interface, {GRPC_PORT} by default"
        else:
            other = f"REST interface, {REST_PORT} by default"
        hint = ""
        if self.is_secure and self.certificate is None:
            hint = '. A certificate that no authority signed is given as certificate="cert.pem"'
        return ConnectionError(
            f"no answer from {self.server}: {reason}. Is a server there, and is this the port of "
            f"its {other}? Start one with: python -m tfclip.serve run EXPORTED, or with "
            f"deploy/compose.yaml{hint}"
        )

    def wrong_port(self) -> ConnectionError:
        """Return the error for a server of the other protocol."""
        if self.is_grpc:
            return ConnectionError(
                f"{self.server}: this is not a gRPC port; gRPC is {GRPC_PORT}, REST (http://) is "
                f"{REST_PORT}"
            )
        return ConnectionError(
            f"{self.server}: this is the gRPC port; REST is {REST_PORT} (or use grpc://)"
        )

    def failed(self, status: object, message: str) -> ConnectionError:
        """Return the error for a failed server."""
        return ConnectionError(f"{self.server} failed with status {status}: {message}")

    def refused(self, status: object, message: str, not_found: bool) -> ValueError:
        """Return the error for a refused request."""
        hint = f". Is {self.model} the name in models.config?" if not_found else ""
        return ValueError(f"{self.server} refused with status {status}: {message}{hint}")
