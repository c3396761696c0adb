"""What can be set for the server: addresses, access, limits. No TensorFlow."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

MEGABYTE = 1_000_000
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how many may wait. Each is a flag."""

    max_body_mb: float = 32.0
    """Size of one request in megabytes (10^6 bytes); more is answered with 413, in gRPC with
    RESOURCE_EXHAUSTED."""
    max_pictures: int = 64
    """Pictures in one request; more is answered with 400, INVALID_ARGUMENT."""
    max_pixels: int = 50_000_000
    """Pixels of one picture; one with more is answered like a picture that does not decode: valid
    is false. At most 50,000,000, which the export itself has as its limit."""
    max_texts: int = 1_000
    """Texts in one request; more is answered with 400, INVALID_ARGUMENT."""
    max_waiting: int = 64
    """Requests that are worked on or wait; one more is answered with 503, UNAVAILABLE."""
    max_connections: int = 512
    """Open REST connections; one more is answered with 503."""
    timeout: float = 30.0
    """Seconds for one request, from its first byte to its answer; then 504, DEADLINE_EXCEEDED.
    A client that sends or reads slower than that is cut."""

    def __post_init__(self):
        for name in ("max_body_mb", "max_pictures", "max_pixels", "max_texts", "max_waiting"):
            if not getattr(self, name) > 0:
                flag = name.replace("_", "-")
                raise ValueError(f"received --{flag} {getattr(self, name)}; allowed: more than 0")
        if self.max_connections < 1:
            raise ValueError(
                f"received --max-connections {self.max_connections}; allowed: 1 or more"
            )
        if self.max_pixels > 50_000_000:
            raise ValueError(
                f"received --max-pixels {self.max_pixels}; allowed: 1 to 50000000, the limit of "
                "the export itself"
            )
        if not 0 < self.timeout <= 3600:
            raise ValueError(f"received --timeout {self.timeout:g}; allowed: more than 0 to 3600")

    @property
    def max_body_bytes(self) -> int:
        """The size of one request in bytes."""
        return int(self.max_body_mb * MEGABYTE)


@dataclass(frozen=True)
class Access:
    """Where the server listens, and who may ask."""

    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 is every interface of this machine: then give --token."""
    port: int = 8501
    """REST and the page; 0 takes a free port."""
    grpc_port: int = 8500
    """gRPC; 0 takes a free port, -1 serves no gRPC."""
    token: str | None = None
    """Require "Authorization: Bearer TOKEN" (REST header or gRPC metadata). @FILE reads it from a
    file, which keeps it out of the list of processes."""
    tls_cert: Path | None = None
    """Certificate chain (PEM): https and gRPC over TLS. Needs --tls-key."""
    tls_key: Path | None = None
    """Private key (PEM) of --tls-cert."""
    allow_origin: tuple[str, ...] = ()
    """Web sites (https://example.org) whose pages may use this server in a browser; none when not
    given."""
    allow_host: tuple[str, ...] = ()
    """Names under which browsers may reach the server, beside localhost and --host."""

    def __post_init__(self):
        for name, least in (("port", 0), ("grpc_port", -1)):
            if not least <= getattr(self, name) <= 65535:
                flag = name.replace("_", "-")
                raise ValueError(
                    f"received --{flag} {getattr(self, name)}; allowed: {least} to 65535"
                )
        if self.port == self.grpc_port != 0:
            raise ValueError(f"--port and --grpc-port are both {self.port}; give two ports")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key belong together; one of them is missing")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise FileNotFoundError(f"no TLS file at {path}")
        for origin in self.allow_origin:
            if not re.fullmatch(r"https?://[^/\s]+", origin):
                raise ValueError(
                    f"received --allow-origin {origin}; allowed: scheme and host, like "
                    "https://example.org"
                )
        for host in self.allow_host:
            if not _HOST_NAME.fullmatch(host):
                raise ValueError(f"received --allow-host {host}; allowed: a name without port")
        secret = self.secret()
        if secret == "":
            raise ValueError("the --token is empty")
        # Only such characters pass unchanged through a header of HTTP and the metadata of gRPC.
        if secret is not None and not (secret.isascii() and secret.isprintable()):
            raise ValueError("received a --token of other characters; allowed: printable ASCII")

    def secret(self) -> str | None:
        """Return the token itself, read from its file where @FILE was given.

        Raises:
            FileNotFoundError: the file is not there.
        """
        if self.token is None or not self.token.startswith("@"):
            return self.token
        path = Path(self.token[1:])
        if not path.is_file():
            raise FileNotFoundError(f"no token file at {path}")
        return path.read_text(encoding="utf-8", errors="replace").strip()

    def is_loopback(self) -> bool:
        """Return whether only programs on this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def host_names(self) -> frozenset[str] | None:
        """Return the names that a request's Host header may have; None: any.

        On a loopback address a foreign name means that a web site has pointed its own name here
        (DNS rebinding).
        """
        if not self.is_loopback() and not self.allow_host:
            return None
        named = {"localhost", "127.0.0.1", "[::1]", self.host.lower()}
        return frozenset(named | {host.lower() for host in self.allow_host})


@dataclass(frozen=True)
class ServerOptions:
    """All of it."""

    exported: Path
    model: str = "tfclip"
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)
    index: Path | None = None
    poll_seconds: float = 1.0
    merge: bool = True
    warm_up: bool = True
