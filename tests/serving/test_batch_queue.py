"""The order in which the tasks of requests run."""

import threading

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
