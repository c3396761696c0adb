"""Requests whose answers are known, and connections that send them, for `benchmarks.serve_load`."""

from __future__ import annotations

import http.client
import json
import random

import numpy as np

from benchmarks.served import ServedProcess
from tfclip.serving import signatures as names
from tfclip.serving.clients import messages
from tfclip.serving.rest import encode_request

TOLERANCE = 2e-3
"""Batches of other sizes are computed in another order."""
DAMAGED_SHARE = 0.01
PICTURES, TEXTS = 24, 24
# Longer than any server's own limit here: a busy machine is slow, and that is no lost answer.
CLIENT_SECONDS = 200


class Kind:
    """One request that is encoded once for each protocol, and its answer."""

    def __init__(self, row: str, inputs: dict[str, list], expected: dict[str, np.ndarray]):
        self.row = row
        self.expected = {
            name: value for name, value in expected.items() if value.dtype.kind in "fb"
        }
        self.body = json.dumps(encode_request(row, inputs)).encode()
        self.message = messages.predict_request(
            names.MODEL_NAME, None, row, inputs
        ).SerializeToString()

    def is_right(self, answer: dict[str, np.ndarray]) -> bool:
        """Whether an answer is the one that belongs to the request."""
        for name, wanted in self.expected.items():
            got = answer[name]
            if got.shape != wanted.shape:
                return False
            if wanted.dtype.kind == "b":
                # A score that lies on its threshold may fall to either side.
                if name == names.VALID and (got != wanted).any():
                    return False
            elif np.abs(got - wanted).max(initial=0) > TOLERANCE * max(
                1.0, np.abs(wanted).max(initial=0)
            ):
                return False
        return True


def make_kinds(served: dict, seed: int) -> list[Kind]:
    """Requests of every signature, with pictures and texts that are all different."""
    import tensorflow as tf

    pictures = drawn_pictures(seed)
    rng = random.Random(seed)
    words = (
        "red blue green small large circle square star dog cat on beside above two three".split()
    )
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 8))) for _ in range(TEXTS)]
    kinds = []

    def add(row: str, inputs: dict[str, list]) -> None:
        answer = served[row](**{name: tf.constant(v) for name, v in inputs.items()})
        kinds.append(Kind(row, inputs, {name: value.numpy() for name, value in answer.items()}))

    for row in sorted(set(served) - {names.SERVING_DEFAULT}):
        for number in range(PICTURES):
            inputs: dict[str, list] = {}
            if names.IMAGE_BYTES in names.SIGNATURES[row].inputs:
                size = 1 + number % 3
                inputs[names.IMAGE_BYTES] = [pictures[(number + k) % PICTURES] for k in range(size)]
                if rng.random() < DAMAGED_SHARE * 4 or number == 0:
                    inputs[names.IMAGE_BYTES][0] = pictures[number][: len(pictures[number]) // 3]
            if names.TEXT in names.SIGNATURES[row].inputs:
                size = 1 + number % 5
                inputs[names.TEXT] = [texts[(number + k) % TEXTS] for k in range(size)]
            add(row, inputs)
    return kinds


def drawn_pictures(seed: int, count: int = PICTURES, size: tuple[int, int] = (320, 240)) -> list:
    """JPEGs of coloured noise, all different."""
    import io

    from PIL import Image

    rng = np.random.default_rng(seed)
    contents = []
    for _ in range(count):
        rough = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        file = io.BytesIO()
        rough.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG")
        contents.append(file.getvalue())
    return contents


class RestConnection:
    """One kept connection with encoded requests."""

    def __init__(self, server: ServedProcess):
        self._connection = http.client.HTTPConnection(
            server.host, server.port, timeout=CLIENT_SECONDS
        )

    def renew(self) -> None:
        """Connect anew at the next request: a server closes a connection that was idle for long."""
        self._connection.close()

    def ask(self, kind: Kind) -> dict[str, np.ndarray]:
        from tfclip.serving.rest import decode_answer

        self._connection.request("POST", f"/v1/models/{names.MODEL_NAME}:predict", kind.body)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise ConnectionError(f"status {response.status}: {content[:200]!r}")
        return decode_answer(kind.row, json.loads(content))

    def close(self) -> None:
        self._connection.close()


class GrpcConnection:
    """One channel with serialized requests."""

    def __init__(self, server: ServedProcess):
        import grpc

        self._channel = grpc.insecure_channel(
            server.grpc.removeprefix("grpc://"), [("grpc.use_local_subchannel_pool", 1)]
        )
        self._predict = self._channel.unary_unary(
            messages.PREDICT,
            request_serializer=None,
            response_deserializer=messages.PredictResponse.FromString,
        )

    def ask(self, kind: Kind) -> dict[str, np.ndarray]:
        return messages.read_outputs(self._predict(kind.message, timeout=CLIENT_SECONDS))

    def close(self) -> None:
        self._channel.close()
