"""A server that speaks TensorFlow Serving's REST protocol, written from its documentation."""

import base64
import contextlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import tensorflow as tf

from tfclip.serving.server.options import Access, Limits, ServerOptions
from tfclip.serving.server.run import Server

PATH = re.compile(r"/v1/models/(\w+)(?:/versions/(\d+))?(:predict)?")


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class FakeServing:
    """One model, `tfclip`, in version 1, behind signatures of a loaded SavedModel.

    `failures` are statuses to answer the next requests with; `merges` refuses, as a batching
    session does, inputs of different leading size; `sizes` notes what was asked for.
    """

    def __init__(self, signatures):
        self.signatures = signatures
        self.failures: list[int] = []
        self.sizes: list[dict[str, int]] = []
        self.merges = False

    def status(self, name, version):
        if name != "tfclip" or version not in (None, "1"):
            raise Refused(404, f"Could not find any versions of model {name}")
        state = {"error_code": "OK", "error_message": ""}
        return {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": state}]}

    def predict(self, name, version, body):
        if name != "tfclip" or version not in (None, "1"):
            raise Refused(404, f"Servable not found for request: Latest({name})")
        signature = self.signatures.get(body.get("signature_name", "serving_default"))
        if signature is None:
            raise Refused(400, f"Serving signature name not found: {body['signature_name']}")
        wanted = signature.structured_input_signature[1]
        if ("inputs" in body) == ("instances" in body):
            raise Refused(400, "Request must have one of instances, inputs")
        if "inputs" in body:
            columns = body["inputs"]
            columns = columns if isinstance(columns, dict) else {next(iter(wanted)): columns}
        else:
            columns = {key: [row[key] for row in body["instances"]] for key in wanted}
        if set(columns) != set(wanted):
            raise Refused(400, f"input keys {sorted(columns)} are not {sorted(wanted)}")
        inputs = {key: [self.value(v) for v in values] for key, values in columns.items()}
        self.sizes.append({key: len(values) for key, values in inputs.items()})
        if self.merges and len(set(self.sizes[-1].values())) > 1:
            raise Refused(400, "Batching session Run() input tensors must have equal 0th-dimension")
        outputs = signature(**{k: tf.constant(v, tf.string) for k, v in inputs.items()})
        answers = {key: self.plain(key, value.numpy()) for key, value in outputs.items()}
        if "inputs" in body:
            return {"outputs": answers if len(answers) > 1 else next(iter(answers.values()))}
        keys, rows = list(answers), zip(*answers.values(), strict=True)
        named = [dict(zip(keys, row, strict=True)) for row in rows]
        return {"predictions": named if len(keys) > 1 else answers[keys[0]]}

    @staticmethod
    def value(value):
        if isinstance(value, dict):
            return base64.b64decode(value["b64"], validate=True)
        return value.encode()

    @staticmethod
    def plain(key, array):
        def text(raw):
            return (
                {"b64": base64.b64encode(raw).decode()} if key.endswith("_bytes") else raw.decode()
            )

        if array.dtype == object:
            return np.vectorize(text, otypes=[object])(array).tolist()
        return array.tolist()


class Handler(BaseHTTPRequestHandler):
    def respond(self, work):
        try:
            if self.server.model.failures:
                raise Refused(self.server.model.failures.pop(0), "queue is full")
            found = PATH.fullmatch(self.path)
            if found is None:
                raise Refused(404, f"Malformed request: {self.command} {self.path}")
            status, body = 200, work(*found.groups())
        except Refused as refusal:
            status, body = refusal.status, {"error": str(refusal)}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.respond(lambda name, version, verb: self.server.model.status(name, version))

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.respond(
            lambda name, version, verb: self.server.model.predict(
                name, version, json.loads(content)
            )
        )

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def listening(model):
    """Serve at a free port; yields the URL."""
    server = ThreadingHTTPServer(("localhost", 0), Handler)
    server.model = model
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def serving(served):
    """The protocol before the tiny export."""
    return FakeServing(served)


@pytest.fixture
def url(serving):
    with listening(serving) as address:
        yield address


@pytest.fixture
def another(served):
    """A second server with the same export."""
    with listening(FakeServing(served)) as address:
        yield address


class RunningServer:
    """`serve run` in this process: its URLs, and the server itself."""

    def __init__(self, exported, **options):
        access = {"port": 0, "grpc_port": 0, **options.pop("access", {})}
        self.said = []
        self.server = Server(
            ServerOptions(
                exported,
                access=Access(**access),
                limits=Limits(**options.pop("limits", {})),
                **{"poll_seconds": 0.2, "warm_up": False, **options},
            ),
            self.said.append,
        )
        self.server.load()
        started = threading.Event()

        def note(addresses):
            self.rest, self.grpc = addresses.rest, addresses.grpc
            started.set()

        self._thread = threading.Thread(
            target=self.server.run, args=(note,), kwargs={"signals": False}, daemon=True
        )
        self._thread.start()
        if not started.wait(30):
            raise RuntimeError("the server did not start")

    def stop(self):
        self.server.stop()
        self._thread.join(60)
        if self._thread.is_alive():
            raise RuntimeError("the server did not end")


@contextlib.contextmanager
def serving_here(exported, **options):
    running = RunningServer(exported, **options)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def start_server():
    """A context manager: `with start_server(exported, limits={...}) as running`."""
    return serving_here


@pytest.fixture(scope="session")
def exported_without_labels(export_once):
    """The tiny run exported without labels: its default signature is `encode_image`."""
    return export_once("exported-without-labels", "--labels", "none")


@pytest.fixture(scope="session")
def running(exported):
    """`serve run` of the tiny export."""
    with serving_here(exported) as server:
        yield server
