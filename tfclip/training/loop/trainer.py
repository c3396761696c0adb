"""The training loop: `strategy.run(model.train_step)` over Keras callbacks, on any strategy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import keras
import tensorflow as tf

from tfclip.console import progress, say
from tfclip.models.dual_encoder import DualEncoder
from tfclip.training.loop.batch_statistics import batch_health
from tfclip.training.loop.callback_state import CallbackStates
from tfclip.training.loop.checkpoints import Checkpoints
from tfclip.training.loop.replicas import distribute, first_replica
from tfclip.training.loop.sigterm import Terminated, Termination
from tfclip.training.loop.step_timer import StepTimer
from tfclip.training.loop.variables import changing_variables, checksum, unchanged_variables
from tfclip.training.setup.optimizer import averages, exchange, exchanged, learning_rate
from tfclip.training.workers.worker_health import AnyWorker


@dataclass(frozen=True)
class Phase:
    """A part of a run: `steps` updates, after `begin` has prepared the model.

    `batches` makes the endless batches of the global size that come after so many updates of the
    whole run; it is called when the phase begins, or goes on.
    """

    steps: int
    batches: Callable[[int], tf.data.Dataset]
    begin: Callable[[], None] | None = None


@dataclass(frozen=True)
class Trained:
    """How the loop ended.

    Attributes:
        history: of the epochs' logs, also of those before the run was interrupted.
        step: updates made in all.
        seconds: that took, all parts of the run together.
        terminated: a signal ended it, and the same run can go on.
        signal: which one, "SIGTERM" or "SIGINT" (Ctrl-C); of several machines, this one's; None
            where it went to its end.
    """

    history: keras.callbacks.History
    step: int
    seconds: float
    terminated: bool
    signal: str | None = None


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
) -> Trained:
    """Train phase after phase, telling the callbacks what one `Model.fit` would tell them.

    An epoch is `epoch_steps` updates, whatever the size of the data; the last one may be shorter.
    `Model.fit` on the same batches gives the same weights; this loop also runs where `fit` does
    not (several machines), and leaves the batches in our hands. At the end of an epoch the model
    has its averaged weights, where it keeps some, and after the last one it keeps them.

    With `checkpoints` it goes on after the last one that is there, and ends as if it had never been
    interrupted: weights, optimizer, draws, metrics, order of the data and what callbacks remember
    (see `callback_state`). SIGTERM and Ctrl-C save after the step. A callback's
    `before_checkpoint`, where it has one, is called before each save.

    Args:
        model: compiled, its optimizer built, created within `strategy`.
        phases: in their order.
        callbacks: any Keras callbacks; `model.stop_training` ends the run after the step.
        checkpoints: what to go on from and to save to.
        step_timer: measures how long each step waits for its batch, and how long it trains.
        measure_average: False leaves the model its own weights, where it keeps averaged ones.

    Raises:
        ValueError: no checkpoint is sound, or they are of another model.
    """
    training = _Training(model, strategy, phases, epoch_steps, callbacks, checkpoints)
    training.step_timer = step_timer or StepTimer()
    training.measure_average = measure_average
    with Termination() as termination:
        return training.run(termination)


class _Training:
    """The state of one loop: the step, the phase, the logs, and the step_timer."""

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
        self.step_timer, self.measure_average = StepTimer(), True
        self.step, self.phase = 0, 0
        self.logs: dict[str, float] = {}
        self.unchanged = 0
        # An evaluation that was broken off, and comes first when the run goes on.
        self.evaluation_due = False
        self.saved: tuple[int, bool] | None = None
        self.seconds_before, self.started = 0.0, time.monotonic()

    def run(self, termination: Termination) -> Trained:
        self.model.stop_training = False
        self.callbacks.on_train_begin()
        self.states = CallbackStates(self.callbacks.callbacks)
        self._go_on()
        terminated = False
        try:
            if self.evaluation_due:
                self._end_epoch(termination)
            left = self.steps - self.step
            for update in progress(self._updates(), total=left, what="training"):
                self._update(update)
                self._agree(termination)
                if self.model.stop_training and not self._sound():
                    break
                if self.model.stop_training or self.step == self.steps or not self._in_epoch():
                    self._end_epoch(termination)
                    self._agree(termination)
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
        return Trained(self.model.history, self.step, self._seconds(), terminated, name)

    def _agree(self, termination: Termination) -> None:
        """End where any of several machines is to end; alone, one would wait for the others."""
        requested = self.any_worker.any(self.model.stop_training, termination.requested)
        self.model.stop_training, self.to_be_terminated = requested

    def _sound(self) -> bool:
        return is_sound(self.model, self.logs)

    def _in_epoch(self) -> int:
        return self.step % self.epoch_steps

    def _update(self, update: Callable[[], dict]) -> None:
        in_epoch = self._in_epoch()
        if in_epoch == 0:
            self.model.reset_metrics()
            self.callbacks.on_epoch_begin(self.step // self.epoch_steps)
        self.callbacks.on_train_batch_begin(in_epoch)
        self.logs = update()
        self.callbacks.on_train_batch_end(in_epoch, self.logs)
        self.step += 1
        self.step_timer.step = self.step

    def _end_epoch(self, termination: Termination) -> None:
        """Evaluate; where a signal breaks that off, save what it was to begin with."""
        logs, remembered = dict(self.logs), self.states.taken()
        self.evaluation_due = True
        self.logs["learning_rate"] = learning_rate(self.model)
        measured = exchanged(averages(self.model)) if self.measure_average else nullcontext()
        try:
            # One of several machines cannot leave alone: it ends with the others, after the step.
            alone = nullcontext() if self.any_worker.several else termination.breaking_off()
            with measured, alone:
                self.callbacks.on_epoch_end((self.step - 1) // self.epoch_steps, self.logs)
        except Terminated:
            self.logs = logs
            self._save(remembered)
            raise
        self.evaluation_due = False

    def _updates(self) -> Iterator[Callable[[], dict[str, float]]]:
        """One function for each update; a phase begins when its first update is asked for."""
        while self.step < self.steps and not self.model.stop_training:
            end = sum(phase.steps for phase in self.phases[: self.phase + 1])
            if self.step == end:
                self.phase += 1
                self._begin_phase()
                continue
            batches = self.phases[self.phase].batches(self.step)
            iterator = iter(distribute(self.strategy, batches))
            update = self._timed(iterator, self._train_step(iterator))
            for _ in range(end - self.step):
                yield update

    def _train_step(self, iterator) -> Callable:
        """The graph of one step: the update, and a look at the texts of its batch."""
        context = self.model.config.context_length

        def step(batch):
            return {**self.model.train_step(batch), **batch_health(batch, context)}

        # One graph for texts of all lengths: which one a shape was traced with first would differ
        # after a kill, and with it the last bits.
        @tf.function(input_signature=[iterator.element_spec])
        def train_step(batch):
            return first_replica(self.strategy, self.strategy.run(step, args=(batch,)))

        return train_step

    def _timed(self, iterator, train_step: Callable) -> Callable[[], dict[str, float]]:
        """An update with the next batch, which tells the step_timer where its time went."""

        def update() -> dict[str, float]:
            started = time.monotonic()
            batch = next(iterator)
            ready = time.monotonic()
            logs = {name: float(value) for name, value in train_step(batch).items()}
            self.step_timer.add(ready - started, time.monotonic() - ready)
            return logs

        return update

    def _begin_phase(self) -> None:
        begin = self.phases[self.phase].begin
        if begin is not None:
            with self.strategy.scope():
                begin()
        if self.checkpoints:
            self.unchanged = checksum(unchanged_variables(self.model))

    def _go_on(self) -> None:
        """Begin the run, or take up the last checkpoint."""
        self._begin_phase()
        saved = self.checkpoints.newest() if self.checkpoints else None
        if saved is not None:
            while self.phase < saved.state["phase"]:
                self.phase += 1
                self._begin_phase()
            if self.unchanged != saved.state["unchanged"]:
                raise ValueError(
                    f"the frozen towers have other weights than when {saved.path.parent.parent} "
                    "was begun; give back the files of --image-weights and --text-weights, or "
                    "begin anew with --overwrite"
                )
            saved.restore(changing_variables(self.model))
            self.step, self.logs = saved.step, dict(saved.state["logs"])
            self.evaluation_due = saved.state["evaluation_due"]
            self.seconds_before = saved.state["seconds"]
            if self._in_epoch():
                self.callbacks.on_epoch_begin(self.step // self.epoch_steps)
            self.states.give_back(saved.state["callbacks"], saved.arrays)
            self.model.stop_training = saved.state["stopped"]
            ended = self.step == self.steps or self.model.stop_training
            what = "this run has ended" if ended else "going on"
            say(f"{what} after step {self.step} of {self.steps}, from {saved.path}")
            self.saved = (self.step, self.evaluation_due)
        self.step_timer.begin(self.step, self.steps)
        if self.checkpoints:
            sizes = (
                variable.value.dtype.size * math.prod(variable.shape)
                for variable in changing_variables(self.model)
            )
            self.checkpoints.begin(self.step, sum(sizes))

    def _save(self, remembered: tuple[dict, dict] | None = None) -> None:
        """Save, unless just this is saved; what callbacks remember, or did at another time."""
        if self.checkpoints is None or self.saved == (self.step, self.evaluation_due):
            return
        started = time.monotonic()
        for callback in self.callbacks.callbacks:
            getattr(callback, "before_checkpoint", lambda: None)()
        callbacks, arrays = remembered or self.states.taken()
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


def is_sound(model: keras.Model, logs: Mapping[str, float]) -> bool:
    """Whether a step left the weights sound: a finite loss and a finite gradient.

    With loss scaling a gradient may overflow; that update is then left out.
    """
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    names = ("batch_loss",) if scaled else ("batch_loss", "gradient_norm")
    return all(math.isfinite(logs.get(name, 0.0)) for name in names)
