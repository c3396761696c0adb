"""TensorFlow Serving's REST API (predict, model status, metadata), and health and metrics."""

from __future__ import annotations

import asyncio
import json
import re
import time
from concurrent.futures import Executor
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from tfclip.serving.server import json_tensors
from tfclip.serving.server.grpc_services import model_metadata, model_status
from tfclip.serving.server.predict import PredictService
from tfclip.serving.server.refusals import Refused, invalid

_VERSION = r"(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
_POST = re.compile(rf"(?i)/v1/models/([^/:]+){_VERSION}:(classify|regress|predict)")
_GET = re.compile(rf"(?i)/v1/models(?:/([^/:]+))?{_VERSION}(?:/(metadata))?")
_LARGEST_VERSION = 2**63


class RestApi:
    """The endpoints of the Starlette application."""

    def __init__(self, service: PredictService, executor: Executor):
        self._service = service
        self._executor = executor
        self.draining = False

    async def serving(self, request: Request) -> Response:
        """All paths below /v1/, in lower or upper case."""
        if request.path_params["version"].lower() != "v1":
            raise HTTPException(404)
        began = time.monotonic()
        method, signature, code = "other", "", "OK"
        try:
            body = b""
            if request.method == "POST":
                body = await read_body(
                    request, self._service.limits.max_body_bytes, self._service.limits.timeout
                )
            loop = asyncio.get_running_loop()
            received, began = began, time.monotonic()
            deadline = received + self._service.limits.timeout
            path = request.scope["raw_path"].decode("ascii", "replace").partition("?")[0]
            method, signature, content = await loop.run_in_executor(
                self._executor, self._answer, request.method, path, body, deadline
            )
            return Response(content, media_type="application/json")
        except Refused as refusal:
            code = refusal.code
            return refused(refusal)
        except ClientDisconnect:
            code = "CANCELLED"
            return Response(status_code=499)
        finally:
            metrics = self._service.metrics
            metrics.requests.labels("rest", method, signature, code).inc()
            metrics.seconds.labels("rest", method).observe(time.monotonic() - began)

    def _answer(
        self, http_method: str, path: str, body: bytes, deadline: float
    ) -> tuple[str, str, bytes]:
        """Return the method, the signature and the body of the answer; runs in a thread."""
        if http_method == "POST" and (found := _POST.fullmatch(path)):
            model, number, label, verb = found.groups()
            with self._service.admission.one():
                return self._predict(unquote(model), _number(number), label, verb, body, deadline)
        if http_method == "GET" and (found := _GET.fullmatch(path)):
            model, number, label, resource = found.groups()
            if model is None:
                raise invalid("Missing model name in request.")
            if resource:
                return "metadata", "", self._metadata(unquote(model), _number(number), label)
            return "status", "", self._status(unquote(model), _number(number), label)
        raise invalid(f"Malformed request: {http_method} {path[:200]}")

    def _predict(self, model, number, label, verb, body, deadline) -> tuple[str, str, bytes]:
        content = json_tensors.read_body(body)
        requested = json_tensors.signature_name(content)
        with self._service.versions.use(model, number, label) as version:
            signature = requested or "serving_default"
            definition = version.signature_defs.get(signature)
            if definition is None:
                raise invalid(f'Serving signature name: "{signature}" not found in signature def')
            if verb.lower() != "predict":
                kind = "classification" if verb.lower() == "classify" else "regression"
                raise invalid(
                    f"Expected {kind} signature method_name to be tensorflow/serving/"
                    f"{verb.lower()}. Was: {definition.method_name}"
                )
            inputs, form = json_tensors.read_inputs(content, definition.inputs)
            content.clear()
            answer = self._service.predict(version, signature, inputs, deadline)
        return "predict", signature, json_tensors.write_answer(answer.outputs, form)

    def _status(self, model, number, label) -> bytes:
        request = get_model_status_pb2.GetModelStatusRequest()
        _fill(request.model_spec, model, number, label)
        answer = _as_dict(model_status(self._service, request))
        for state in answer["model_version_status"]:
            state.setdefault("status", {"error_code": "OK", "error_message": ""})
        return json.dumps(answer, indent=1).encode()

    def _metadata(self, model, number, label) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.metadata_field.append("signature_def")
        _fill(request.model_spec, model, number, label)
        response = model_metadata(self._service, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        answer = {
            "model_spec": {"signature_name": "", **_as_dict(response.model_spec)},
            "metadata": {"signature_def": _as_dict(signatures)},
        }
        return json.dumps(answer, indent=1).encode()

    async def healthz(self, request: Request) -> Response:
        """Health: 200 while requests are answered, 503 while the server shuts down."""
        if self.draining:
            return JSONResponse({"status": "ending"}, 503)
        return JSONResponse({"status": "ok", "version": self._service.versions.current().number})

    async def metrics(self, request: Request) -> Response:
        """The metrics for Prometheus."""
        return Response(
            self._service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )


def refused(refusal: Refused) -> Response:
    """Return the answer to a refused request: its status and {"error": ...}."""
    headers = {"Retry-After": "1"} if refusal.http_status == 503 else {}
    if refusal.http_status in (408, 413):
        headers["Connection"] = "close"
    return JSONResponse({"error": refusal.message}, refusal.http_status, headers)


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """Read the body of a request, at most `most` bytes, within `seconds`.

    Raises:
        Refused: 413 or 408.
    """
    parts, size = [], 0

    async def read() -> None:
        nonlocal size
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise Refused(
                    "RESOURCE_EXHAUSTED",
                    f"the body is larger than {most} bytes (--max-body-mb)",
                    413,
                )
            parts.append(part)

    try:
        await asyncio.wait_for(read(), seconds)
    except TimeoutError:
        raise Refused(
            "DEADLINE_EXCEEDED", f"the body did not arrive within {seconds:g} s (--timeout)", 408
        ) from None
    return b"".join(parts)


def _as_dict(message: Message) -> dict:
    """Return a message with its fields by their names in the .proto file, also those that are 0."""
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _number(digits: str | None) -> int | None:
    if digits is None:
        return None
    # Parsing more digits than an int64 has could take long.
    if len(digits) > 19 or int(digits) >= _LARGEST_VERSION:
        raise invalid(f"Failed to convert version: {digits[:100]} to numeric.")
    return int(digits)


def _fill(spec, model: str, number: int | None, label: str | None) -> None:
    try:
        spec.name = model
    except (UnicodeEncodeError, ValueError):
        raise invalid("Failed to decode model name") from None
    if number is not None:
        spec.version.value = number
    if label:
        spec.version_label = unquote(label)
