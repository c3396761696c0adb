"""Runs signatures in threads, and merges waiting requests into one call where possible.

While all threads are busy, requests wait, and those for the same signature of the same version are
then answered together; no request waits in order to be merged. Like in TensorFlow Serving, a merged
call is padded to one of `ALLOWED_BATCH_SIZES`, so that the model sees few shapes. A signature whose
tensors differ in their leading dimension (`similarity`) is never merged: its texts belong to one
request. The pixels of all running calls stay below a budget, since a decoded picture of 50 million
pixels takes 150 MB.

The parts of a long request take turns with the requests after it: a thousand texts do not keep a
picture waiting until all of them are embedded.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from tfclip.memory import free_garbage
from tfclip.serving import signatures as names
from tfclip.serving.warmup import drawn_jpeg

MOST_ROWS = max(names.ALLOWED_BATCH_SIZES)
# After calls with more pixels than this garbage is freed and returned to the system.
_MANY_PIXELS = 8_000_000
# A small picture and an empty text for padding.
_FILLING = {names.IMAGE_BYTES: drawn_jpeg(8, 8), names.TEXT: b""}

Signature = Callable[..., Mapping[str, tf.Tensor]]


@dataclass(eq=False)
class Task:
    """A part of a request: inputs of one signature, `MOST_ROWS` rows at most if it may be merged.

    Two tasks with the same `key` may be merged; a task with None is never merged. `pixels` is the
    number of pixels of its pictures. The queue sets `turn`.
    """

    signature: Signature
    key: tuple | None
    inputs: Mapping[str, Sequence[bytes] | np.ndarray]
    pixels: int = 0
    turn: int = 0
    done: Future = field(default_factory=Future)

    @property
    def rows(self) -> int:
        """The length of the leading dimension."""
        return len(next(iter(self.inputs.values())))


class BatchQueue:
    """Threads that run the tasks of requests in the order of their turns.

    Args:
        threads: the number of calls that run concurrently.
        pixel_budget: pixels of the pictures in all running calls; a call with more runs alone.
        merge: whether to merge requests.
        observe: called with the rows of each call, without padding.
    """

    def __init__(
        self,
        threads: int,
        pixel_budget: int,
        merge: bool = True,
        observe: Callable[[int], None] = lambda rows: None,
    ):
        self._budget = pixel_budget
        self._merge = merge
        self._observe = observe
        self._waiting: list[Task] = []  # by turn
        self._requests = 0
        self._pixels = 0
        self._running = 0
        self._stopped = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, tasks: Sequence[Task]) -> list[Future]:
        """Append the tasks of one request; their futures return the outputs by name, as arrays.

        Task i gets the turn of the request that arrives i requests later, before that one's first.
        So a request waits for at most one task more of an earlier one than requests came between,
        and no request waits forever.
        """
        with self._changed:
            if self._stopped:
                raise RuntimeError("the queue is stopped")
            for place, task in enumerate(tasks):
                task.turn = self._requests + place
                insort(self._waiting, task, key=lambda waiting: waiting.turn)
            self._requests += 1
            self._changed.notify(len(tasks))
        return [task.done for task in tasks]

    def waiting(self) -> int:
        """Return the number of tasks that have not started."""
        return len(self._waiting)

    def stop(self) -> None:
        """Finish the waiting tasks, then end the threads."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _fits(self) -> bool:
        return not self._running or self._pixels + self._waiting[0].pixels <= self._budget

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._waiting and self._fits() or self._stopped and not self._waiting
                )
                if not self._waiting:
                    return
                batch = self._take()
                pixels = sum(task.pixels for task in batch)
                self._pixels += pixels
                self._running += 1
            try:
                if batch:
                    self._run(batch)
                    if pixels > _MANY_PIXELS:
                        free_garbage()
            finally:
                batch.clear()
                with self._changed:
                    self._pixels -= pixels
                    self._running -= 1
                    self._changed.notify_all()

    def _take(self) -> list[Task]:
        """Return the first task and those that may be merged with it; the caller holds the lock."""
        first = self._waiting.pop(0)
        if not first.done.set_running_or_notify_cancel():
            return []
        batch, rows, pixels = [first], first.rows, self._pixels + first.pixels
        if first.key is None or not self._merge or rows >= MOST_ROWS:
            return batch
        others = []
        for task in self._waiting:
            if (
                rows == MOST_ROWS
                or task.key != first.key
                or rows + task.rows > MOST_ROWS
                or (task.pixels and pixels + task.pixels > self._budget)
            ):
                others.append(task)
            elif task.done.set_running_or_notify_cancel():
                batch.append(task)
                rows, pixels = rows + task.rows, pixels + task.pixels
        self._waiting = others
        return batch

    def _run(self, batch: list[Task]) -> None:
        try:
            outputs = self._call(batch)
        except BaseException as error:
            for task in batch:
                task.done.set_exception(error)
            return
        start = 0
        for task in batch:
            if len(batch) == 1:
                part = outputs
            else:
                part = {name: value[start : start + task.rows] for name, value in outputs.items()}
            start += task.rows
            task.done.set_result(part)

    def _call(self, batch: list[Task]) -> dict[str, np.ndarray]:
        first = batch[0]
        inputs = {
            name: [value for task in batch for value in task.inputs[name]] for name in first.inputs
        }
        rows = sum(task.rows for task in batch)
        self._observe(rows)
        filled = rows
        if first.key is not None and rows:
            filled = next((n for n in names.ALLOWED_BATCH_SIZES if n >= rows), rows)
            for name, values in inputs.items():
                values += [_FILLING[name]] * (filled - rows)
        tensors = {name: tf.constant(values, tf.string) for name, values in inputs.items()}
        answer = first.signature(**tensors)
        outputs = {name: value.numpy() for name, value in answer.items()}
        if filled != rows:
            outputs = {name: value[:rows] for name, value in outputs.items()}
        return outputs
