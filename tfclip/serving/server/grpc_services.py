"""gRPC: PredictionService, ModelService and grpc.health, with TensorFlow Serving's messages."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import nullcontext

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from tfclip.serving.server.options import ServerOptions
from tfclip.serving.server.predict import PredictService, check_names
from tfclip.serving.server.refusals import Refused, internal, invalid
from tfclip.serving.server.tensor_protos import read_tensor, write_tensor

_PREDICTION, _MODEL = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
# A connection is closed at this age (seconds); its calls then have the time of one request to end.
# So a slow client cannot hold a connection for ever. Clients reconnect by themselves.
_CONNECTION_AGE = 300
_ENVELOPE = 65_536


class _Services:
    """The methods as coroutines; their blocking parts run in `executor`."""

    def __init__(self, service: PredictService, executor: Executor):
        self._service = service
        self._executor = executor
        self.serving = True

    async def answer(self, method: str, work, request, context):
        """Run `work(request, deadline)` in a thread and return its response.

        A refusal becomes the status of the call, any other error INTERNAL: gRPC itself would answer
        UNKNOWN with the text of the error.
        """
        began = time.monotonic()
        metrics = self._service.metrics
        code, signature = "OK", ""
        seconds = self._service.limits.timeout
        if (left := context.time_remaining()) is not None:
            seconds = min(seconds, left)
        try:
            # Health is answered even if the queue is full.
            place = nullcontext() if method == "health" else self._service.admission.one()
            with place:
                loop = asyncio.get_running_loop()
                response, signature = await loop.run_in_executor(
                    self._executor, work, request, began + seconds
                )
            return response
        except Exception as error:
            refusal = error if isinstance(error, Refused) else internal(error)
            code = refusal.code
            if code == "DEADLINE_EXCEEDED" and seconds < self._service.limits.timeout:
                # The client's deadline ended the call; a larger --timeout would not help.
                message = f"no answer within {seconds:.2g} s, the client's own deadline"
                refusal = Refused(code, message)
            await context.abort(grpc.StatusCode[refusal.code], refusal.message)
        finally:
            metrics.requests.labels("grpc", method, signature, code).inc()
            metrics.seconds.labels("grpc", method).observe(time.monotonic() - began)

    def predict(self, request: predict_pb2.PredictRequest, deadline: float):
        """PredictionService.Predict."""
        spec = request.model_spec
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        with self._service.versions.use(*_spec(spec)) as version:
            signature = spec.signature_name or "serving_default"
            if signature not in version.signature_defs:
                raise Refused(
                    "FAILED_PRECONDITION", f'Serving signature key "{signature}" not found.'
                )
            check_names(version.signature_defs[signature].inputs, request.inputs)
            inputs = {name: read_tensor(name, request.inputs[name]) for name in request.inputs}
            answer = self._service.predict(
                version, signature, inputs, deadline, list(request.output_filter)
            )
        response = predict_pb2.PredictResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = answer.version
        response.model_spec.signature_name = answer.signature
        for name, values in answer.outputs.items():
            response.outputs[name].CopyFrom(write_tensor(values))
        return response, answer.signature

    def metadata(self, request, deadline: float):
        """PredictionService.GetModelMetadata."""
        return model_metadata(self._service, request), ""

    def status(self, request, deadline: float):
        """ModelService.GetModelStatus."""
        return model_status(self._service, request), ""

    def health(self, request: health_pb2.HealthCheckRequest, deadline: float):
        """grpc.health.v1.Health.Check."""
        if request.service not in ("", _PREDICTION, _MODEL):
            raise Refused("NOT_FOUND", "unknown service")
        states = health_pb2.HealthCheckResponse
        return states(status=states.SERVING if self.serving else states.NOT_SERVING), ""


def _spec(spec) -> tuple[str, int | None, str]:
    number = spec.version.value if spec.HasField("version") else None
    return spec.name, number, spec.version_label


def model_status(
    service: PredictService, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Return the state of one version, or of all.

    Raises:
        Refused: NOT_FOUND, INVALID_ARGUMENT.
    """
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    name, number, label = _spec(request.model_spec)
    if label:
        raise invalid(f"Unrecognized servable version label: {label}")
    known = service.versions.states() if name == service.versions.model else {}
    if number is not None:
        if number not in known:
            raise Refused("NOT_FOUND", f"Could not find version {number} of model {name}")
        known = {number: known[number]}
    if not known:
        raise Refused("NOT_FOUND", f"Could not find any versions of model {name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, state in sorted(known.items(), reverse=True):
        added = response.model_version_status.add(version=version, state=state.state)
        added.status.error_code = state.error_code
        added.status.error_message = state.error_message
    return response


def model_metadata(
    service: PredictService, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Return the signatures of a version.

    Raises:
        Refused: NOT_FOUND, INVALID_ARGUMENT.
    """
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise invalid(f"Metadata field {field} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with service.versions.use(*_spec(request.model_spec)) as version:
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in version.signature_defs.items():
            signatures.signature_def[name].CopyFrom(definition)
        response.model_spec.name = service.versions.model
        response.model_spec.version.value = version.number
    response.metadata["signature_def"].Pack(signatures)
    return response


class _TokenCheck(grpc.aio.ServerInterceptor):
    """Refuses calls without the token; health stays open for orchestrators."""

    def __init__(self, token: str):
        self._wanted = f"Bearer {token}".encode()

        async def refuse(request, context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong or missing token")

        self._refusal = grpc.unary_unary_rpc_method_handler(refuse)

    async def intercept_service(self, continuation, details):
        """See `grpc.aio.ServerInterceptor`."""
        given = dict(details.invocation_metadata or ()).get("authorization", "")
        given = given if isinstance(given, bytes) else given.encode()
        if details.method.startswith("/grpc.health.") or hmac.compare_digest(given, self._wanted):
            return await continuation(details)
        return self._refusal


def make_grpc_server(
    service: PredictService, executor: Executor, options: ServerOptions
) -> tuple[grpc.aio.Server, _Services, int]:
    """Return a server that is bound but not started; call it within the running event loop.

    Returns:
        The server, its services, and the port.

    Raises:
        OSError: the port is taken.
    """
    services = _Services(service, executor)
    limits, access = options.limits, options.access
    secret = access.secret()
    server = grpc.aio.server(
        interceptors=[_TokenCheck(secret)] if secret else [],
        options=[
            ("grpc.max_receive_message_length", limits.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_metadata_size", 16_384),
            ("grpc.max_connection_age_ms", _CONNECTION_AGE * 1000),
            ("grpc.max_connection_age_grace_ms", int(limits.timeout * 1000)),
            ("grpc.server_handshake_timeout_ms", 10_000),
            ("grpc.max_concurrent_streams", 128),
            ("grpc.so_reuseport", 0),
        ],
    )
    server.add_generic_rpc_handlers(_handlers(services))
    host = f"[{access.host}]" if ":" in access.host else access.host
    address = f"{host}:{access.grpc_port}"
    try:
        if access.tls_cert is None or access.tls_key is None:
            port = server.add_insecure_port(address)
        else:
            pair = (access.tls_key.read_bytes(), access.tls_cert.read_bytes())
            port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    except RuntimeError:
        port = 0
    if not port:
        raise OSError(f"cannot listen for gRPC on {address}: is the port taken? See --grpc-port")
    return server, services, port


def _handlers(services: _Services) -> list[grpc.GenericRpcHandler]:
    """Return the methods by their full names.

    They are not registered by tensorflow-serving-api, whose handlers answer malformed messages with
    UNKNOWN.
    """

    def method(name: str, work: Callable, request: type[Message]) -> grpc.RpcMethodHandler:
        def parse(content: bytes):
            try:
                return request.FromString(content)
            except DecodeError:
                return None

        async def call(message, context):
            if message is None:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, f"the message is not a {request.__name__}"
                )
            return await services.answer(name, work, message, context)

        return grpc.unary_unary_rpc_method_handler(call, parse, _serialized)

    async def unimplemented(message, context):
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "not served: exports of tfclip answer Predict"
        )

    def not_served(*methods: str) -> dict[str, grpc.RpcMethodHandler]:
        return {name: grpc.unary_unary_rpc_method_handler(unimplemented) for name in methods}

    health = health_pb2.HealthCheckRequest
    return [
        grpc.method_handlers_generic_handler(service, methods)
        for service, methods in {
            _PREDICTION: {
                "Predict": method("predict", services.predict, predict_pb2.PredictRequest),
                "GetModelMetadata": method(
                    "metadata", services.metadata, get_model_metadata_pb2.GetModelMetadataRequest
                ),
                **not_served("Classify", "Regress", "MultiInference"),
            },
            _MODEL: {
                "GetModelStatus": method(
                    "status", services.status, get_model_status_pb2.GetModelStatusRequest
                ),
                **not_served("HandleReloadConfigRequest"),
            },
            "grpc.health.v1.Health": {"Check": method("health", services.health, health)},
        }.items()
    ]


def _serialized(message) -> bytes:
    return message.SerializeToString()
