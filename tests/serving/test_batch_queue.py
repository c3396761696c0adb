"""The order in which the tasks of requests run."""

import gc
import threading
import weakref

import pytest
import tensorflow as tf

from tfclip.serving.server.batch_queue import BatchQueue, Task


def test_parts_of_a_long_request_take_turns_with_later_requests():
    entered, gate, ran = threading.Event(), threading.Event(), []

    def signature(text):
        (name,) = text.numpy()
        if name == b"first":
            entered.set()
            gate.wait(20)
        ran.append(name.decode())
        return {"echo": text}

    def request(*parts):
        return queue.submit([Task(signature, None, {"text": [part]}) for part in parts])

    queue = BatchQueue(threads=1, pixel_budget=1)
    try:
        request("first")
        assert entered.wait(20)
        long = request(*(f"long {part}" for part in range(5)))
        request("short")
        request("other 0", "other 1")
        long[3].cancel()
        gate.set()
        assert tf.compat.as_text(long[4].result(20)["echo"][0]) == "long 4"
    finally:
        gate.set()
        queue.stop()
    # Turns: long 1 to 5, short 2, other 3 and 4; at equal turns, the earlier request.
    assert ran == ["first", "long 0", "long 1", "short", "long 2", "other 0", "other 1", "long 4"]


@pytest.mark.parametrize(("pixels", "freed"), [(49_000_000, True), (1_000, False)])
def test_garbage_of_refused_requests_goes_with_the_next_large_picture(pixels, freed, request):
    """A traceback and its error refer to each other, and the frames to what they were given."""

    class Body:
        """A body of many megabytes."""

    def refuse(body):
        error = ValueError("too large")
        try:
            raise error
        except ValueError:
            return weakref.ref(body)

    request.addfinalizer(gc.enable)
    gc.disable()
    kept = refuse(Body())
    assert kept() is not None
    queue = BatchQueue(threads=1, pixel_budget=50_000_000)
    try:
        task = Task(lambda image_bytes: {}, None, {"image_bytes": [b""]}, pixels)
        queue.submit([task])[0].result(20)
    finally:
        queue.stop()
    assert (kept() is None) == freed
