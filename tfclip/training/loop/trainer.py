"""The training loop: `strategy.run(model.train_step)` over Keras callbacks, on any strategy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import keras
import tensorflow as tf

from tfclip.console import progress, say
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.saving import load_weights
from tfclip.training.loop.callback_state import CallbackStates
from tfclip.training.loop.checkpoints import LAST, Checkpoints
from tfclip.training.loop.phase import Phase, Trained
from tfclip.training.loop.replicas import distribute
from tfclip.training.loop.sigterm import Terminated, Termination
from tfclip.training.loop.step_logs import (
    SECONDS,
    StepGraph,
    StepLogs,
    group_end,
    is_sound,
    refuse_single_steps,
    steps_between_reads,
)
from tfclip.training.loop.step_timer import StepTimer
from tfclip.training.loop.variables import changing_variables, checksum, unchanged_variables
from tfclip.training.setup.optimizer import averages, exchange, exchanged, learning_rate
from tfclip.training.workers.worker_health import AnyWorker


def run_steps(
    model: DualEncoder,
    strategy: tf.distribute.Strategy,
    phases: Sequence[Phase],
    *,
    epoch_steps: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoints: Checkpoints | None = None,
    step_timer: StepTimer | None = None,
    measure_average: bool = True,
    jit_compile: bool = False,
    extended_after: Sequence[int] = (),
    steps_per_execution: int = 1,
) -> Trained:
    """Train all phases, calling the callbacks as a single `Model.fit` would.

    An epoch has `epoch_steps` updates, independent of the size of the data; the last one may be
    shorter. `Model.fit` on the same batches results in the same weights; this loop also supports
    several workers and controls the batches. If weights are averaged, the model has the averages
    while callbacks evaluate it at the end of an epoch, and at the end of the run.

    With `checkpoints` the run resumes after the newest one, and ends as if it had not been
    interrupted: the checkpoint has weights, optimizer, random states, metrics, position in the data
    and the state of callbacks (see `callback_state`). SIGTERM and Ctrl-C save after the step. The
    optional method `before_checkpoint` of a callback is called before each save.

    The scalars of a step are read with those of the next ones, so that a GPU does not wait for the
    host, unless a callback must see each step at once (see `step_logs.steps_between_reads`). The
    callbacks still get the logs of every step in order.

    Args:
        model: compiled, with a built optimizer, created within `strategy`.
        phases: the phases in order.
        callbacks: any Keras callbacks; `model.stop_training` ends the run after the step.
        checkpoints: where to resume from and save to.
        step_timer: measures how long each step waits for its batch, and how long it trains.
        measure_average: False evaluates the unaveraged weights.
        jit_compile: compile the steps with XLA; only for one replica.
        extended_after: steps at the end of a phase after which the run had ended; it goes on from
            its last model, with the next phase.
        steps_per_execution: the most steps that one call of a graph computes. Callbacks,
            evaluations and checkpoints keep their steps. Numbers above 1 give the same bits.

    Raises:
        ValueError: all checkpoints are damaged, or they are of another model; or steps cannot be
            executed together.
    """
    refuse_single_steps(callbacks, strategy, steps_per_execution)
    training = _Training(model, strategy, phases, epoch_steps, callbacks, checkpoints)
    training.step_timer = step_timer or StepTimer()
    training.measure_average, training.jit_compile = measure_average, jit_compile
    training.extended_after = tuple(extended_after)
    training.steps_per_execution = steps_per_execution
    with Termination() as termination:
        return training.run(termination)


class _Training:
    """The state of a training loop: the step, the phase, the logs, and the timer."""

    def __init__(self, model, strategy, phases, epoch_steps, callbacks, checkpoints):
        self.model, self.strategy, self.phases = model, strategy, phases
        self.epoch_steps, self.checkpoints = epoch_steps, checkpoints
        self.any_worker, self.to_be_terminated = AnyWorker(strategy), False
        self.steps = sum(phase.steps for phase in phases)
        self.callbacks = keras.callbacks.CallbackList(
            list(callbacks),
            add_history=True,
            model=model,
            epochs=-(-self.steps // epoch_steps),
            steps=self.steps,
        )
        self.step_timer, self.measure_average, self.jit_compile = StepTimer(), True, False
        self.extended_after: tuple[int, ...] = ()
        self.step, self.phase, self.phase_end = 0, 0, 0
        # With several steps per execution, the model may be ahead of `step`, up to `computed`.
        self.steps_per_execution, self.computed = 1, 0
        self.logs: dict[str, float] = {}
        self.unread, self.read_at = StepLogs(), 0.0
        self.reads_every = steps_between_reads(callbacks, strategy)
        if checkpoints and checkpoints.interval.steps:
            self.reads_every = math.gcd(self.reads_every, checkpoints.interval.steps)
        self.unchanged = 0
        # Whether an evaluation was interrupted, which a resumed run repeats first.
        self.evaluation_due = False
        self.saved: tuple[int, bool] | None = None
        self.was_finished = False
        self.seconds_before, self.started = 0.0, time.monotonic()

    def run(self, termination: Termination) -> Trained:
        self.model.stop_training = False
        self.callbacks.on_train_begin()
        self.states = CallbackStates(self.callbacks.callbacks)
        self._resume()
        terminated = False
        try:
            if self.evaluation_due:
                self._end_epoch(termination)
            left = self.steps - self.step
            for update in progress(self._updates(), total=left, what="training"):
                self._update(update)
                if not self._must_read(termination):
                    continue
                self._read()
                self._ask_workers(termination)
                if self.model.stop_training and not self._sound():
                    break
                if self.model.stop_training or self.step == self.steps or not self._in_epoch():
                    self._end_epoch(termination)
                    self._ask_workers(termination)
                if self.model.stop_training:
                    break
                if self.to_be_terminated and self.step < self.steps:
                    raise Terminated
                if self.checkpoints and self.step < self.steps and self.checkpoints.due(self.step):
                    self._save()
            if self._sound():
                self._save()
        except Terminated:
            terminated = True
            self._save()
        if self.measure_average:
            exchange(averages(self.model))
        self.callbacks.on_train_end(self.logs)
        name = termination.signal if terminated else None
        seconds, finished = self._seconds(), self.was_finished
        return Trained(self.model.history, self.step, seconds, terminated, name, finished)

    def _ask_workers(self, termination: Termination) -> None:
        """Stop if any worker is to stop; otherwise the others would wait for it forever."""
        requested = self.any_worker.any(self.model.stop_training, termination.requested)
        self.model.stop_training, self.to_be_terminated = requested

    def _sound(self) -> bool:
        return is_sound(self.model, self.logs)

    def _in_epoch(self) -> int:
        return self.step % self.epoch_steps

    def _update(self, update: Callable[[], None]) -> None:
        in_epoch = self._in_epoch()
        if in_epoch == 0:
            self.model.reset_metrics()
            self.callbacks.on_epoch_begin(self.step // self.epoch_steps)
        self.callbacks.on_train_batch_begin(in_epoch)
        update()
        self.step += 1
        self.step_timer.step = self.step

    def _must_read(self, termination: Termination) -> bool:
        """Return whether to wait for the steps so far; with several workers, the same on each."""
        if self.step < self.computed:
            return False
        if not self._in_epoch() or self.step in (self.steps, self.phase_end) or not self.read_at:
            return True
        if self.step % self.reads_every == 0:
            return True
        if self.any_worker.several:
            return False
        return termination.requested or time.monotonic() - self.read_at >= SECONDS

    def _read(self) -> None:
        """Wait for the steps so far, and give their logs to the callbacks up to a NaN."""
        started, step = time.monotonic(), self.step - len(self.unread)
        rows = list(self.unread.read())
        self.read_at = time.monotonic()
        self.step_timer.read(self.read_at - started)
        for self.logs in rows:
            self.callbacks.on_train_batch_end(step % self.epoch_steps, self.logs)
            step += 1
            if self.model.stop_training and not self._sound():
                break  # what came after it is lost
        self.step = self.step_timer.step = step

    def _end_epoch(self, termination: Termination) -> None:
        """Evaluate; if a signal interrupts it, save the state from before the evaluation."""
        logs, states = dict(self.logs), self.states.taken()
        self.evaluation_due = True
        self.logs["learning_rate"] = learning_rate(self.model)
        measured = exchanged(averages(self.model)) if self.measure_average else nullcontext()
        try:
            # A worker among several cannot stop alone: all stop together after the step.
            alone = nullcontext() if self.any_worker.several else termination.breaking_off()
            with measured, alone:
                self.callbacks.on_epoch_end((self.step - 1) // self.epoch_steps, self.logs)
        except Terminated:
            self.logs = logs
            self._save(states)
            raise
        self.evaluation_due = False

    def _updates(self) -> Iterator[Callable[[], None]]:
        """Yield a function for each update; a phase starts with its first update."""
        while self.step < self.steps and not self.model.stop_training:
            end = self.phase_end = sum(phase.steps for phase in self.phases[: self.phase + 1])
            if self.step == end:
                self.phase += 1
                self._begin_phase()
                continue
            batches = self.phases[self.phase].batches(self.step)
            iterator = iter(distribute(self.strategy, batches))
            spec = iterator.element_spec
            train_step = StepGraph(self.model, self.strategy, spec, self.jit_compile)
            update = self._timed(iterator, train_step)
            for _ in range(end - self.step):
                yield update

    def _timed(self, iterator, train_step: StepGraph) -> Callable[[], None]:
        """Return a function that starts an update with the next batch and records its times."""

        def update() -> None:
            if self.steps_per_execution > 1:
                self._compute_several(iterator, train_step)
                return
            started = time.monotonic()
            batch = next(iterator)
            ready = time.monotonic()
            row = train_step(batch)
            self.unread.add(train_step.names, row)
            self.step_timer.add(ready - started, time.monotonic() - ready)

        return update

    def _compute_several(self, iterator, train_step: StepGraph) -> None:
        """Start the next steps as one call; what is computed already takes none."""
        if self.step < self.computed:
            return
        in_epoch = self._in_epoch()
        self.computed = group_end(
            self.step,
            self.steps_per_execution,
            self.reads_every,
            last=min(self.phase_end, self.step - in_epoch + self.epoch_steps),
        )
        started, count = time.monotonic(), self.computed - self.step
        for row in train_step.several(iterator, count):
            self.unread.add(train_step.names, row)
            # Waiting for batches is a part of the call.
            self.step_timer.add(0.0, (time.monotonic() - started) / count)

    def _begin_phase(self) -> None:
        begin = self.phases[self.phase].begin
        if begin is not None:
            with self.strategy.scope():
                begin()
        if self.checkpoints:
            self.unchanged = checksum(unchanged_variables(self.model))

    def _resume(self) -> None:
        """Start the run, or resume it from the newest checkpoint."""
        self._begin_phase()
        saved = self.checkpoints.newest() if self.checkpoints else None
        if saved is not None:
            while self.phase < saved.state["phase"]:
                self.phase += 1
                self._begin_phase()
            if self.unchanged != saved.state["unchanged"]:
                raise ValueError(
                    f"the frozen towers have other weights than when {saved.path.parent.parent} "
                    "was started; restore the files of --image-weights and --text-weights, or "
                    "start again with --overwrite"
                )
            self.was_finished = not saved.has_weights
            if not self.was_finished:
                saved.restore(changing_variables(self.model))
            self.step, self.logs = saved.step, dict(saved.state["logs"])
            self.evaluation_due = saved.state["evaluation_due"]
            self.seconds_before = saved.state["seconds"]
            if self._in_epoch():
                self.callbacks.on_epoch_begin(self.step // self.epoch_steps)
            self.states.restore(saved.state["callbacks"], saved.arrays)
            self.model.stop_training = saved.state["stopped"]
            if self.was_finished and self.step < self.steps and self.step in self.extended_after:
                load_weights(self.checkpoints.folder / LAST, self.model)
                self.was_finished = self.model.stop_training = False
            ended = self.step == self.steps or self.model.stop_training
            if self.was_finished and not ended:
                raise ValueError(
                    f"{saved.path} is of a run that has ended after step {self.step}; to train "
                    "further, add --extend and more --steps, or start a new run with --init"
                )
            status = "this run has ended" if ended else "resuming"
            say(f"{status} after step {self.step} of {self.steps}, from {saved.path}")
            self.saved = (self.step, self.evaluation_due)
        self.step_timer.begin(self.step, self.steps)
        if self.checkpoints:
            sizes = (
                variable.value.dtype.size * math.prod(variable.shape)
                for variable in changing_variables(self.model)
            )
            self.checkpoints.begin(self.step, sum(sizes))

    def _save(self, states: tuple[dict, dict] | None = None) -> None:
        """Save a checkpoint if this state is not yet saved.

        Args:
            states: the states of callbacks to save; by default the current ones.
        """
        if self.checkpoints is None or self.saved == (self.step, self.evaluation_due):
            return
        started = time.monotonic()
        for callback in self.callbacks.callbacks:
            getattr(callback, "before_checkpoint", lambda: None)()
        callbacks, arrays = states or self.states.taken()
        state = {
            "phase": self.phase,
            "logs": self.logs,
            "evaluation_due": self.evaluation_due,
            "stopped": self.model.stop_training,
            "seconds": self._seconds(),
            "unchanged": self.unchanged,
            "callbacks": callbacks,
        }
        self.checkpoints.save(self.step, changing_variables(self.model), state, arrays, started)
        self.saved = (self.step, self.evaluation_due)

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started
