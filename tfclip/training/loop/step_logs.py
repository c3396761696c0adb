"""The graph of a training step, and its scalars: read from the device for several steps at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import keras
import tensorflow as tf

from tfclip.models.dual_encoder import DualEncoder
from tfclip.training.loop.batch_statistics import batch_health
from tfclip.training.loop.replicas import first_replica

# The most steps between two reads. Reading waits for the device, which then waits for the host.
LONGEST = 10
# A single worker also reads after this time, so that it soon sees a signal or a NaN.
SECONDS = 0.2
# The methods by which a callback sees single steps.
OF_STEPS = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")


class StepGraph:
    """A training step as one graph, which returns all its scalars as one tensor.

    Args:
        model: compiled, created within `strategy`.
        strategy: the distribution strategy.
        batch_spec: the element specification of the batches.
        jit_compile: whether XLA compiles the update, once for each length of texts.
    """

    def __init__(
        self,
        model: DualEncoder,
        strategy: tf.distribute.Strategy,
        batch_spec,
        jit_compile: bool = False,
    ):
        self.names: tuple[str, ...] = ()
        context = model.config.context_length
        update = model.train_step
        if jit_compile:
            update = tf.function(update, jit_compile=True, autograph=False)

        def step(batch):
            return {**update(batch), **batch_health(batch, context)}

        def row_of(batch) -> tf.Tensor:
            values = first_replica(strategy, strategy.run(step, args=(batch,)))
            self.names = tuple(values)
            return tf.stack([tf.cast(value, tf.float32) for value in values.values()])

        # One graph for texts of all lengths: with several, the first shape to be traced would
        # differ in a resumed run, and results would differ in the last bits.
        @tf.function(input_signature=[batch_spec], autograph=False)
        def train_step(batch):
            return row_of(batch)

        # Any number of steps has the same graph, so that their grouping changes no bit.
        @tf.function(autograph=False)
        def train_steps(iterator, count):
            def one_more(number, rows):
                return number + 1, rows.write(number, row_of(next(iterator)))

            rows = tf.TensorArray(tf.float32, count)
            start = (tf.constant(0), rows)
            done = tf.while_loop(
                lambda number, _: number < count, one_more, start, parallel_iterations=1
            )
            return done[1].stack()

        self._train_step, self._train_steps = train_step, train_steps

    def __call__(self, batch) -> tf.Tensor:
        """Update the weights; return the values of `names`, (S,) float32, perhaps before they are
        computed."""
        return self._train_step(batch)

    def several(self, iterator, count: int) -> list[tf.Tensor]:
        """Update the weights `count` times with the next batches; return a row for each."""
        return tf.unstack(self._train_steps(iterator, tf.constant(count)), count)


class StepLogs:
    """The scalars of the steps that have been started and not yet been read."""

    def __init__(self):
        self._names: tuple[str, ...] = ()
        self._rows: list[tf.Tensor] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, names: tuple[str, ...], row: tf.Tensor) -> None:
        """Add a step; the names are those of all steps since the last `read`."""
        self._names = names
        self._rows.append(row)

    def read(self) -> Iterator[dict[str, float]]:
        """Wait for the steps, and yield the scalars of each in order; none are left."""
        rows, self._rows = self._rows, []
        # One transfer from the device for all of them.
        table = rows[0].numpy()[None] if len(rows) == 1 else tf.stack(rows).numpy()
        for row in table:
            yield dict(zip(self._names, row.tolist(), strict=True))


def steps_between_reads(
    callbacks: Sequence[keras.callbacks.Callback], strategy: tf.distribute.Strategy
) -> int:
    """Return the number of steps after which scalars must be read at the latest.

    A callback with methods for steps sees each step before the next one begins, because it may read
    or stop the model. One that only uses the logs says so by an attribute `reads_every`: it is
    called later, but in time after each step that is a multiple of it; 0 for any time.

    Several workers on CPUs, which gain nothing, read after each step, so that all stop soon after a
    signal to one of them.
    """
    if strategy.cluster_resolver is not None and not tf.config.list_physical_devices("GPU"):
        return 1
    every = LONGEST
    for callback in callbacks:
        if any(_has_own(callback, name) for name in OF_STEPS):
            every = math.gcd(every, getattr(callback, "reads_every", 1))
    return every


def refuse_single_steps(
    callbacks: Sequence[keras.callbacks.Callback], strategy: tf.distribute.Strategy, count: int
) -> None:
    """Refuse what must see each step before the next one, where `count` steps are one call.

    Raises:
        ValueError: there are several workers, or a callback has methods for single steps.
    """
    if count == 1:
        return
    if strategy.cluster_resolver is not None:
        raise ValueError(
            f"received --steps-per-execution {count} with several workers, which ask each other "
            "after each step whether to go on; omit it"
        )
    for callback in callbacks:
        if steps_between_reads([callback], strategy) == 1:
            raise ValueError(
                f"received --steps-per-execution {count}, but the callback "
                f"{type(callback).__name__} has methods for single steps; omit the flag, or set "
                "reads_every = 0 on the callback if it only uses the logs"
            )


def group_end(step: int, *multiples: int, last: int) -> int:
    """Return the step up to which the steps after `step` are one call: the next multiple of any
    number, at most `last`."""
    return min(last, *(step - step % every + every for every in multiples))


def _has_own(callback: keras.callbacks.Callback, name: str) -> bool:
    method = getattr(callback, name, None)
    return getattr(method, "__func__", method) not in (
        None,
        getattr(keras.callbacks.Callback, name),
    )


def is_sound(model: keras.Model, logs: Mapping[str, float]) -> bool:
    """Return whether the loss and the gradient of a step are finite.

    With loss scaling only the loss is checked: an update whose gradient overflows is skipped.
    """
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    names = ("batch_loss",) if scaled else ("batch_loss", "gradient_norm")
    return all(math.isfinite(logs.get(name, 0.0)) for name in names)
