"""Where a client asks: the parts of its URL, the model, how long and how often. And its errors."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tfclip.serving import signatures as names
from tfclip.serving.rest import model_url

REST_PORT, GRPC_PORT = 8501, 8500
_SCHEMES = ("http", "https", "grpc", "grpcs")
# Seconds between two tries: 0.2, 0.4, ... and no more than this, so that an answer comes soon after
# a server is back.
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 2.0


@dataclass(frozen=True)
class Target:
    """One server and one model on it."""

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
        """Whether it is asked over gRPC."""
        return self.server.startswith("grpc")

    @property
    def is_secure(self) -> bool:
        """Whether over TLS."""
        return urlsplit(self.server).scheme in ("https", "grpcs")

    @property
    def url(self) -> str:
        """The address of the model in REST."""
        return model_url(self.server, self.model, self.version)

    @property
    def address(self) -> str:
        """Host and port for gRPC."""
        parts = urlsplit(self.server)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{parts.port or GRPC_PORT}"

    def wait(self, attempt: int) -> float:
        """Seconds before try number `attempt`, 1, 2, ...; a little at random, so that clients that
        failed together do not come back together."""
        return min(_FIRST_WAIT * 2 ** (attempt - 1), _LONGEST_WAIT) * random.uniform(0.8, 1.0)

    def timed_out(self, kind: str) -> TimeoutError:
        """Nobody answered in time."""
        return TimeoutError(f"no answer from {self.server} in {self.timeout:g} s ({kind})")

    def unreachable(self, reason: object) -> ConnectionError:
        """Nobody answered."""
        if self.is_grpc:
            other = f"gRPC interface, {GRPC_PORT} by default"
        else:
            other = f"REST interface, {REST_PORT} by default"
        return ConnectionError(
            f"no answer from {self.server}: {reason}. Is a server there, and is this the port of "
            f"its {other}? Start one with: python -m tfclip.serve run EXPORTED, or with "
            "deploy/compose.yaml"
        )

    def wrong_port(self) -> ConnectionError:
        """Somebody answered in the other protocol."""
        if self.is_grpc:
            return ConnectionError(
                f"{self.server}: this is no gRPC port; gRPC is {GRPC_PORT}, REST (http://) is "
                f"{REST_PORT}"
            )
        return ConnectionError(
            f"{self.server}: this is the gRPC port; REST is {REST_PORT} (or ask it as grpc://)"
        )

    def failed(self, status: object, said: str) -> ConnectionError:
        """The server failed."""
        return ConnectionError(f"{self.server} failed with status {status}: {said}")

    def refused(self, status: object, said: str, not_found: bool) -> ValueError:
        """The server refused the request."""
        hint = f". Is {self.model} the name in models.config?" if not_found else ""
        return ValueError(f"{self.server} refused with status {status}: {said}{hint}")
