"""Worker liveness and barriers."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf

from tfclip.console import say
from tfclip.training.workers.cluster import LAUNCHER, Cluster

# A worker is lost after this many failed connections in a row, about 15 s.
CHECK_EVERY_SECONDS = 5.0
CONNECT_SECONDS = 5.0
MISSED_CHECKS = 3
LOST_A_WORKER = 3


@contextlib.contextmanager
def watch(cluster: Cluster) -> Iterator[None]:
    """Context in which the loss of another worker ends this process with an error within a minute.

    Without it a collective operation waits forever for a lost worker, or fails with an internal
    error. Leave the context only when no worker needs this one any more (`barrier`).
    """
    if not cluster.workers:
        yield
        return
    ended = threading.Event()
    met: set[int] = set()
    watcher = threading.Thread(target=_watch, args=(cluster, met, ended), daemon=True)
    watcher.start()
    try:
        yield
    except tf.errors.OpError as error:
        if isinstance(error, tf.errors.UnavailableError | tf.errors.AbortedError):
            # A collective operation failed, so all workers were there, also one that died between
            # two checks of the watcher.
            met.update(range(len(cluster.workers)))
        # If a worker is lost, the watcher thread detects it and ends this process with an error.
        watcher.join((MISSED_CHECKS + 1) * (CHECK_EVERY_SECONDS + CONNECT_SECONDS))
        raise error
    finally:
        ended.set()


def _watch(cluster: Cluster, met: set[int], ended: threading.Event) -> None:
    """Check the workers; those in `met` have been there, the others may not have started yet."""
    missed = dict.fromkeys(range(len(cluster.workers)), 0)
    launcher = os.environ.get(LAUNCHER)
    while not ended.wait(CHECK_EVERY_SECONDS):
        if launcher and os.getppid() != int(launcher):
            _leave("the process that started the workers has ended")
        for index, address in enumerate(cluster.workers):
            if index == cluster.index:
                continue
            if _answers(address):
                met.add(index)
                missed[index] = 0
            elif index in met:
                missed[index] += 1
            if missed[index] == MISSED_CHECKS and not ended.is_set():
                _leave(
                    f"worker {index} ({address}) of {len(cluster.workers)} no longer responds, and "
                    "the others cannot train without it; run the same command on all workers again "
                    "to resume from the last checkpoint"
                )


def _answers(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _leave(why: str) -> None:
    """End the process from any thread; the main thread may wait forever for a lost worker."""
    say(f"error: {why}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(LOST_A_WORKER)


@functools.cache
def _sum_over_workers(strategy: tf.distribute.Strategy) -> Callable:
    """Return a function that sums a tensor over all workers; traced once per tensor length."""

    def add(flags: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(flags))

    return tf.function(lambda flags: strategy.run(add, args=(flags,)), autograph=False)


class AnyWorker:
    """Combines flags of all workers; each worker must call `any` at the same step."""

    def __init__(self, strategy: tf.distribute.Strategy):
        self.several = strategy.cluster_resolver is not None
        self._strategy = strategy

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is true on any worker."""
        if not self.several:
            return flags
        summed = _sum_over_workers(self._strategy)(tf.constant(flags, tf.float32))
        local = self._strategy.experimental_local_results(summed)[0]
        return tuple(bool(value > 0) for value in local.numpy())


def barrier(strategy: tf.distribute.Strategy) -> None:
    """Wait until all workers have reached this call."""
    AnyWorker(strategy).any(True)


@contextlib.contextmanager
def chief_first(strategy: tf.distribute.Strategy, cluster: Cluster) -> Iterator[None]:
    """Context that the chief completes before the others enter it, so that they find its files."""
    if not cluster.is_chief:
        barrier(strategy)
    yield
    if cluster.is_chief:
        barrier(strategy)
