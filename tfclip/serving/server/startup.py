"""What is checked before TensorFlow starts: versions, index, TLS files, ports. No TensorFlow."""

from __future__ import annotations

import errno
import socket
import ssl
from pathlib import Path

from tfclip.evaluation.search.index import open_index
from tfclip.serving.server.options import Access, ServerOptions


def check_startup(options: ServerOptions) -> None:
    """Check what can be checked in a moment; loading a model takes long.

    Raises:
        FileNotFoundError: there is no version or no index.
        ValueError: the index or the TLS files cannot be used.
        OSError: a port is taken, or the host is not an address of this machine.
    """
    need_versions(options.exported)
    if options.index is not None:
        open_index(options.index)
    access = options.access
    _check_tls(access)
    bind(access.host, access.port, "--port").close()
    if access.grpc_port >= 0:
        bind(access.host, access.grpc_port, "--grpc-port").close()


def find_versions(folder: Path) -> dict[int, Path]:
    """Return the complete versions in a folder by number; `folder` may be a version itself."""
    folder = folder.resolve()
    if (folder / "saved_model.pb").is_file():
        return {int(folder.name) if folder.name.isdigit() else 1: folder}
    try:
        paths = list(folder.iterdir())
    except OSError:
        return {}
    return {
        int(path.name): path
        for path in paths
        if path.name.isascii()
        and path.name.isdigit()
        and len(path.name) <= 18
        and (path / "saved_model.pb").is_file()
    }


def need_versions(folder: Path) -> dict[int, Path]:
    """Return `find_versions`, at least one.

    Raises:
        FileNotFoundError: there is none.
    """
    found = find_versions(folder)
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no version (1, 2, ... with saved_model.pb); make one with: "
            f"python -m tfclip.export RUN --out {folder if folder.is_dir() else 'DIR'}"
        )
    return found


def bind(host: str, port: int, flag: str) -> socket.socket:
    """Bind a socket; uvicorn's own function ends the process if the port is taken.

    Args:
        flag: the flag of the port, for the message.

    Raises:
        OSError: the port is taken, or the host is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small packets immediately only if the protocol is named; otherwise each answer
    # waits 40 ms for an acknowledgement.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise OSError(
                f"received --host {host}, which is no address of this machine ({error}); allowed: "
                "127.0.0.1, 0.0.0.0, or an address of this machine"
            ) from None
        raise OSError(f"cannot listen on {host}:{port}: {error}; choose another {flag}") from None
    return bound


def _check_tls(access: Access) -> None:
    if access.tls_cert is None or access.tls_key is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(access.tls_cert, access.tls_key, password="")
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ValueError(
            f"received --tls-cert {access.tls_cert} and --tls-key {access.tls_key}, which cannot "
            f"be used ({reason}); allowed: a certificate chain and its private key without a "
            "password, both PEM"
        ) from None
