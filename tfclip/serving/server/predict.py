"""Answers predict requests of both protocols: limits, version, queue, deadline."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfclip.failures import one_line
from tfclip.serving import signatures as names
from tfclip.serving.server.batch_queue import MOST_ROWS, BatchQueue, Task
from tfclip.serving.server.metrics import Metrics
from tfclip.serving.server.options import Limits
from tfclip.serving.server.picture_limits import declared_pixels
from tfclip.serving.server.refusals import Refused, internal, invalid
from tfclip.serving.server.versions import LoadedVersion, ModelVersions


@dataclass(frozen=True)
class Answer:
    """An answer: the version, the signature, and the outputs by name."""

    version: int
    signature: str
    outputs: Mapping[str, np.ndarray]


class Admission:
    """Counts the requests that are processed or wait, and refuses those beyond a limit."""

    def __init__(self, most: int):
        self._most = most
        self._inside = 0
        self._changed = threading.Condition()

    @contextmanager
    def one(self):
        """Occupy a place within the block.

        Raises:
            Refused: UNAVAILABLE, all places are occupied.
        """
        with self._changed:
            if self._inside >= self._most:
                raise Refused(
                    "UNAVAILABLE",
                    f"The queue is full: {self._most} requests wait already; try again later",
                )
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @property
    def inside(self) -> int:
        """The number of requests."""
        return self._inside

    def wait_until_empty(self, seconds: float) -> bool:
        """Wait until there is no request; return whether that happened in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._inside, seconds)


class PredictService:
    """The service behind REST and gRPC; call it from threads that may block."""

    def __init__(
        self, versions: ModelVersions, queue: BatchQueue, limits: Limits, metrics: Metrics
    ):
        self.versions = versions
        self.limits = limits
        self.metrics = metrics
        self.admission = Admission(limits.max_waiting)
        self._queue = queue

    def predict(
        self,
        version: LoadedVersion,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        deadline: float,
        output_filter: Collection[str] = (),
    ) -> Answer:
        """Run one request.

        Args:
            version: held by the caller, see `ModelVersions.use`.
            signature: the name of a signature of `version`.
            inputs: arrays of bytes by name.
            deadline: a time of `time.monotonic`.
            output_filter: the outputs to return; all of them if empty.

        Raises:
            Refused: the request is wrong, too large, or took too long.
        """
        row = version.row(signature)
        outputs = list(version.signature_defs[signature].outputs)
        _check_filter(output_filter, outputs)
        self._check(row, inputs)
        inputs = {name: inputs[name] for name in names.SIGNATURES[row].inputs}
        parts = self._run(version, row, inputs, deadline)
        joined = {
            name: parts[0][name] if len(parts) == 1 else np.concatenate([p[name] for p in parts])
            for name in output_filter or sorted(outputs)
        }
        return Answer(version.number, signature, joined)

    def _check(self, row: str, inputs: Mapping[str, np.ndarray]) -> None:
        wanted = set(names.SIGNATURES[row].inputs)
        check_names(wanted, inputs)
        for name, values in inputs.items():
            if values.ndim != 1:
                raise invalid(
                    f"input {name} must be a list: received shape {list(values.shape)}, expected "
                    "[-1]"
                )
        for name, most, what, flag in (
            (names.IMAGE_BYTES, self.limits.max_pictures, "pictures", "--max-pictures"),
            (names.TEXT, self.limits.max_texts, "texts", "--max-texts"),
        ):
            if name in inputs and len(inputs[name]) > most:
                raise invalid(
                    f"{len(inputs[name])} {what} in one request; at most {most} are allowed "
                    f"({flag})"
                )

    def _run(
        self, version: LoadedVersion, row: str, inputs: Mapping[str, np.ndarray], deadline: float
    ) -> list[Mapping[str, np.ndarray]]:
        futures = self._queue.submit(self._tasks(version, row, inputs))
        left = deadline - time.monotonic()
        done, late = concurrent.futures.wait(
            futures, timeout=max(left, 0), return_when=concurrent.futures.FIRST_EXCEPTION
        )
        for future in late:
            future.cancel()
        for future in done:
            if error := future.exception():
                raise _refusal(error) from error
        if late:
            raise Refused(
                "DEADLINE_EXCEEDED", f"no answer within {self.limits.timeout:g} s (--timeout)"
            )
        return [future.result() for future in futures]

    def _tasks(
        self, version: LoadedVersion, row: str, inputs: Mapping[str, np.ndarray]
    ) -> list[Task]:
        """Parts of a request with at most `MOST_ROWS` rows and one budget of pixels.

        A signature that may not be merged is split along its pictures; each part has all texts.
        """
        signature = version.signatures[row]
        mergeable = names.is_batchable(names.SIGNATURES[row])
        key = (version.number, row) if mergeable else None
        if names.IMAGE_BYTES not in inputs:
            (values,) = inputs.values()
            return [
                Task(signature, key, {names.TEXT: values[start : start + MOST_ROWS]})
                for start in range(0, max(len(values), 1), MOST_ROWS)
            ]
        contents, pixels = self._within_limit(inputs[names.IMAGE_BYTES])
        tasks, start = [], 0
        for end in _cuts(pixels, self.limits.max_pixels):
            part: dict[str, Sequence[bytes] | np.ndarray] = dict(inputs)
            part[names.IMAGE_BYTES] = contents[start:end]
            tasks.append(Task(signature, key, part, sum(pixels[start:end])))
            start = end
        return tasks

    def _within_limit(self, contents: np.ndarray) -> tuple[list[bytes], list[int]]:
        """Return the pictures, too large ones made empty (and so invalid), and their pixels."""
        kept, pixels = [], []
        for content in contents:
            count = declared_pixels(content)
            if count is not None and count > self.limits.max_pixels:
                self.metrics.pictures_over_limit.inc()
                content, count = b"", 0
            kept.append(content)
            pixels.append(self.limits.max_pixels if count is None else count)
        return kept, pixels


def check_names(wanted: Collection[str], given: Collection[str]) -> None:
    """Raise `Refused` unless the names of the inputs are those of the signature."""
    wanted, given = set(wanted), set(given)
    if len(wanted) != len(given):
        raise invalid(
            f"input size does not match signature: {len(given)}!={len(wanted)} len({{"
            f"{','.join(sorted(given))}}}) != len({{{','.join(sorted(wanted))}}}). Sent extra: "
            f"{{{','.join(sorted(given - wanted))}}}. Missing but required: "
            f"{{{','.join(sorted(wanted - given))}}}."
        )
    for name in sorted(given - wanted):
        raise invalid(
            f"input tensor alias not found in signature: {name}. Inputs expected to be in the set "
            f"{{{','.join(sorted(wanted))}}}."
        )


def _check_filter(requested: Collection[str], outputs: Collection[str]) -> None:
    seen = set()
    for name in requested:
        if name not in outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the "
                f"set {{{','.join(sorted(outputs))}}}."
            )
        if name in seen:
            raise invalid(f"duplicate output tensor alias: {name}")
        seen.add(name)


def _cuts(pixels: list[int], budget: int) -> list[int]:
    """Return the ends of parts with at most `MOST_ROWS` pictures and `budget` pixels."""
    ends, rows, total = [], 0, 0
    for place, count in enumerate(pixels):
        if rows == MOST_ROWS or (rows and total + count > budget):
            ends.append(place)
            rows, total = 0, 0
        rows, total = rows + 1, total + count
    return [*ends, len(pixels)]


def _refusal(error: BaseException) -> Refused:
    if isinstance(error, Refused):
        return error
    if isinstance(error, tf.errors.InvalidArgumentError):
        return invalid(one_line(error)[:500])
    if isinstance(error, tf.errors.ResourceExhaustedError | MemoryError):
        return Refused("RESOURCE_EXHAUSTED", "not enough memory for this request")
    return internal(error)
