"""Writes TensorBoard logs of a run: scalars of steps and evaluations, and a retrieval grid."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import keras
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from tfclip.training.setup.optimizer import learning_rate

# Steps between points of a curve.
EVERY = 10
OF_STEPS = {
    "batch_loss": "step/loss",
    "logit_scale": "step/temperature",
    "gradient_norm": "step/gradient_norm",
    "gradient_norm_image": "step/gradient_norm_image",
    "gradient_norm_text": "step/gradient_norm_text",
}


class TensorBoardLog(keras.callbacks.Callback):
    """Writes event files; a resumed run makes TensorBoard drop events after the checkpoint.

    Args:
        folder: the folder for event files.
        picture: returns a PNG for each evaluation; None for no picture.
        every: steps between points of the curves of steps.
    """

    def __init__(
        self, folder: Path, picture: Callable[[], bytes] | None = None, every: int = EVERY
    ):
        super().__init__()
        self.folder, self.picture, self.every = Path(folder), picture, every
        # The learning rate is the model's after the step, see `step_logs.steps_between_reads`.
        self.reads_every = every
        self.steps = 0
        self._writer: EventFileWriter | None = None

    def on_train_batch_end(self, batch, logs=None):
        """Write the scalars of every `every`-th step."""
        self.steps += 1
        if self.steps % self.every == 0:
            named = {tag: logs[name] for name, tag in OF_STEPS.items() if name in logs}
            self._write({**named, "step/learning_rate": learning_rate(self.model)})

    def on_epoch_end(self, epoch, logs=None):
        """Write the scalars of the evaluation, and the picture."""
        self._write({f"evaluation/{name}": value for name, value in logs.items()})
        if self.picture is not None:
            image = Summary.Image(encoded_image_string=self.picture(), colorspace=3)
            self._add(Summary(value=[Summary.Value(tag="retrievals", image=image)]))
        self._writer.flush()

    def on_train_end(self, logs=None):
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, scalars: dict[str, float]) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._add(Summary(value=values))

    def _add(self, summary: Summary) -> None:
        if self._writer is None:
            self._writer = EventFileWriter(str(self.folder))
            # START makes TensorBoard drop events of this step and later ones, which are repeated.
            started = SessionLog(status=SessionLog.START)
            self._writer.add_event(self._event(session_log=started))
        self._writer.add_event(self._event(summary=summary))

    def _event(self, **content) -> Event:
        return Event(step=self.steps, wall_time=time.time(), **content)
