"""Refusals of requests: a gRPC status code, its HTTP status, and a message."""

from __future__ import annotations

import logging

_LOG = logging.getLogger(__name__)
# The HTTP status of each gRPC status code, as in TensorFlow Serving's REST interface.
HTTP_STATUS = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "UNAUTHENTICATED": 401,
}


class Refused(Exception):
    """The refusal of a request.

    Args:
        code: the name of a gRPC status code, one of `HTTP_STATUS`.
        message: the message for the client.
        http_status: a more specific HTTP status, such as 413 for a body that is too large.
    """

    def __init__(self, code: str, message: str, http_status: int | None = None):
        # A name from a request may contain bytes that are not UTF-8.
        message = message.encode("utf-8", "replace").decode()
        super().__init__(message)
        self.code = code
        self.message = message
        self.http_status = http_status or HTTP_STATUS[code]


def invalid(message: str) -> Refused:
    """Return the refusal of a malformed request: INVALID_ARGUMENT, HTTP status 400."""
    return Refused("INVALID_ARGUMENT", message)


def internal(error: BaseException) -> Refused:
    """Log an unexpected error with its traceback and return its refusal: INTERNAL, HTTP status 500.

    The client gets no text of the error: it may hold paths or data of the server.
    """
    _LOG.error("unexpected error while answering a request", exc_info=error)
    return Refused("INTERNAL", "the server failed on this request; the reason is in its log")
