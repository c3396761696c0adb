"""Diagnostics of a training run: messages about common faults, each with a remedy.

They use the logs of the steps. Each diagnosis is printed once when it is made, and again at the end
of the run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras

from tfclip.console import say
from tfclip.models.contrastive_model import MODALITIES
from tfclip.models.dual_encoder import DualEncoder
from tfclip.models.layers.logit_scale import LARGEST_LOGIT_SCALE
from tfclip.records.manifest import Manifest
from tfclip.training.loop.step_timer import StepTimer
from tfclip.training.options.flags import FitFlags

# Steps between checks: enough to separate a trend from chance.
WINDOW = 100
COLLAPSED_WITHIN = 0.02
# An accuracy over a window of this many times chance is significant.
CHANCE_HITS = 1.5
EMPTY, FULL, REPEATED = 0.02, 0.05, 0.25
FAINT = 1e-3
WAITING = 0.2
FEW_ROWS = 8


class Diagnostics(keras.callbacks.Callback):
    """Checks windows of steps for faults, and adds text statistics to the logs of each epoch.

    Args:
        step_timer: the timer of the loop.
        chance: the loss and accuracy of a model without information.
        known_faults: messages about faults detected before training.
        cut: the fraction of texts that are longer than the context, if known.
        window: steps between checks.
    """

    # It only uses the logs, see `step_logs.steps_between_reads`.
    reads_every = 0

    def __init__(
        self,
        step_timer: StepTimer,
        *,
        chance: Chance | None = None,
        known_faults: Sequence[str] = (),
        cut: float | None = None,
        window: int = WINDOW,
    ):
        super().__init__()
        self.step_timer = step_timer
        self.chance = chance
        self.window = window
        self.cut = cut
        self.looked = False
        self.messages: dict[str, str] = {}
        self.window_sums: dict[str, float] = {}
        self.window_steps = 0
        self.epoch_sums: dict[str, float] = {}
        self.epoch_steps = 0
        for number, message in enumerate(known_faults):
            self._say(f"before training {number}", message)

    def on_epoch_begin(self, epoch, logs=None):
        """Reset the means of the epoch."""
        self.epoch_sums, self.epoch_steps = {}, 0

    def on_train_batch_end(self, batch, logs=None):
        """Add a step; check the window when it is full."""
        if not math.isfinite(logs["batch_loss"]):
            return
        for name, value in logs.items():
            self.window_sums[name] = self.window_sums.get(name, 0.0) + value
            if name in EPOCH_MEANS:
                self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + value
        self.window_steps += 1
        self.epoch_steps += 1
        if self.window_steps == self.window:
            self.check_window({k: v / self.window for k, v in self.window_sums.items()})
            self.window_sums, self.window_steps = {}, 0

    def on_epoch_end(self, epoch, logs=None):
        """Replace the values of the last step by the means of the epoch."""
        for name, total in self.epoch_sums.items():
            logs[name] = total / max(self.epoch_steps, 1)

    def on_train_end(self, logs=None):
        """Check the texts of a run shorter than a window; print all diagnoses again."""
        if self.window_steps and not self.looked:
            self._check_texts({k: v / self.window_steps for k, v in self.window_sums.items()})
        if self.diagnoses:
            say("diagnoses of this run:" + "".join(f"\n  - {text}" for text in self.diagnoses))

    @property
    def diagnoses(self) -> list[str]:
        """Return the messages of all diagnoses so far."""
        return [*self.messages.values(), *filter(None, [self.step_timer.diagnosis])]

    def check_window(self, means: dict[str, float]) -> None:
        """Compare the means of a window with those of a healthy run."""
        self.looked = True
        if self.chance is not None:
            self._check_collapse(means, self.chance)
        scale = means["logit_scale"]
        if scale > 0.999 * LARGEST_LOGIT_SCALE:
            self._say(
                "temperature",
                f"the logit scale has reached its upper limit of {scale:.0f}. This is usual with "
                "millions of pictures; with few, the model is memorising the training pairs: train "
                "for fewer --steps, with more pictures or more --weight-decay",
            )
        if scale < 1.001:
            self._say(
                "temperature low",
                f"the logit scale has fallen to its lower limit of {scale:.2f}: the model is less "
                "and less confident. Check whether captions match their pictures (make_records "
                "inspect), and try a lower --learning-rate",
            )
        self._check_texts(means)
        names = {modality: f"gradient_norm_{modality}" for modality in MODALITIES}
        if means.keys() >= set(names.values()):
            norms = {modality: means[name] for modality, name in names.items()}
            for modality, other in (MODALITIES, MODALITIES[::-1]):
                if norms[modality] <= FAINT * norms[other]:
                    self._say(
                        f"faint {modality}",
                        f"the {modality} tower hardly learns: the norm of its gradient is "
                        f"{norms[modality]:.2g}, that of the {other} tower {norms[other]:.2g}. "
                        "Check whether its inputs are all the same, or start from other weights",
                    )
        if self.step_timer.diagnosis is None and self.step_timer.waiting_fraction > WAITING:
            self.step_timer.diagnosis = (
                f"training waits for data {self.step_timer.waiting_fraction:.0%} of the time. Pack "
                "smaller pictures (make_records --image-size), move the records to a faster disk, "
                "use a machine with more cores, or use --freeze with stored features"
            )
            say(f"diagnosis: {self.step_timer.diagnosis}")

    def _check_collapse(self, means: dict[str, float], chance: Chance) -> None:
        if chance.loss is None:
            collapsed = means["accuracy"] < CHANCE_HITS * chance.accuracy
            observed = (
                f"{means['accuracy']:.2%} of the pictures retrieve their text from the batch; "
                f"chance is {chance.accuracy:.2%}"
            )
        else:
            collapsed = abs(means["batch_loss"] - chance.loss) < COLLAPSED_WITHIN * chance.loss
            observed = (
                f"the loss stays at {means['batch_loss']:.3f}, the loss of equal embeddings "
                f"({chance.source}: {chance.loss:.3f})"
            )
        if collapsed:
            self._say(
                "collapse",
                f"{observed}: the embeddings may have collapsed into one. Try a lower "
                "--learning-rate, more --warmup-steps, pretrained weights, or more specific "
                "captions",
            )

    def _check_texts(self, means: dict[str, float]) -> None:
        if means.get("empty_texts", 0.0) > EMPTY:
            self._say(
                "empty texts",
                f"{means['empty_texts']:.0%} of the texts are empty or only padding, so that their "
                "pictures do not contribute to training. Pack the records without them, or check "
                "whether the vocabulary fits the language of the captions",
            )
        # If the number of cut texts is known, it was printed before training.
        if self.cut is None and means.get("full_texts", 0.0) > FULL:
            self._say(
                "cut texts",
                f"{means['full_texts']:.0%} of the texts fill the whole context, and longer ones "
                "are cut. If there are longer ones, increase --context-length",
            )
        if means.get("repeated_texts", 0.0) > REPEATED:
            self._say(
                "repeated texts",
                f"{means['repeated_texts']:.0%} of the texts of a batch belong to other pictures "
                "in it as well, which then count as positives, not negatives. Use more specific "
                "captions, or a smaller --batch-size",
            )

    def _say(self, name: str, message: str) -> None:
        if name not in self.messages:
            self.messages[name] = message
            say(f"diagnosis: {message}")


EPOCH_MEANS = ("repeated_texts", "empty_texts", "full_texts")


@dataclass(frozen=True)
class Chance:
    """The accuracy and loss of a model whose embeddings are all equal.

    Attributes:
        accuracy: of retrieving the text of a picture from a batch.
        loss: None if unknown, with a tagging loss.
        source: how the loss is computed, for messages.
    """

    accuracy: float
    loss: float | None = None
    source: str = ""

    @classmethod
    def of(cls, flags: FitFlags) -> Chance:
        """Return the values for a batch in which each text belongs to one picture.

        The softmax loss is then ln(batch), in both directions. The sigmoid loss is the lowest that
        the bias alone can reach: with one positive per picture and caption, `batch` times the
        binary entropy of 1 / batch.
        """
        batch, captions = flags.batch_size, flags.sampling.captions
        if flags.objective.word_weight:
            return cls(1 / batch)
        if flags.objective.loss == "softmax":
            loss = math.log(batch) + 0.5 * math.log(captions)
            return cls(1 / batch, loss, "ln of the batch")
        loss = captions * (math.log(batch) + (batch - 1) * math.log(batch / (batch - 1)))
        return cls(1 / batch, loss, "one positive per batch, fitted by the bias alone")


def wrong_normalization(model: DualEncoder, rows: int, replicas: int) -> list[str]:
    """Return messages about batch normalisation in the wrong mode.

    Args:
        model: ready to train.
        rows: examples per replica.
        replicas: the number of replicas.
    """
    faults = []
    for modality in MODALITIES:
        tower = getattr(model, f"{modality}_tower")
        layers = [
            layer
            for layer in tower._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        if not layers:
            continue
        if modality in model.frozen:
            if any(layer.trainable for layer in layers):
                faults.append(
                    f"the {modality} tower is frozen, but its batch normalisation would use batch "
                    "statistics: call model.freeze after building the tower"
                )
            continue
        frozen = sum(not layer.trainable for layer in layers)
        if frozen:
            faults.append(
                f"{frozen} of {len(layers)} batch normalisation layers of the {modality} tower are "
                "frozen while its other layers train; set layer.trainable = True, or use "
                f"--freeze {modality}"
            )
        trained = [layer for layer in layers if layer.trainable]
        if replicas > 1 and not all(layer.synchronized for layer in trained):
            faults.append(
                f"the batch normalisation of the {modality} tower uses only one replica's part of "
                "the batch: call tfclip.models.layers.normalization.synchronize_normalization"
            )
        batch_size = rows * replicas
        if trained and batch_size < FEW_ROWS:
            faults.append(
                f"the {modality} tower normalises over batches of {batch_size}, whose mean and "
                f"variance are unreliable; use a --batch-size of {FEW_ROWS} or more, or --freeze "
                f"{modality}"
            )
    return faults


def other_preprocessing(
    flags: FitFlags, train: Sequence[Manifest], val: Manifest | None
) -> list[str]:
    """Return messages about records packed with unsuitable or different picture sizes."""
    faults = []
    names = ["training", *(f"{n}th training" for n in range(2, len(train) + 1))]
    packed = {n: one.packing.get("image_size") for n, one in zip(names, train, strict=True)}
    if val is not None:
        packed["validation"] = val.packing.get("image_size")
    for name, size in packed.items():
        if size and size < flags.model.image_size:
            faults.append(
                f"the {name} pictures were packed with a short side of {size} pixels and are "
                f"enlarged to {flags.model.image_size}: pack them again with --image-size "
                f"{flags.model.image_size} or more, or train with --image-size {size}"
            )
    if len(set(packed.values())) > 1:
        sizes = ", ".join(f"{name}: {size or 'original size'}" for name, size in packed.items())
        faults.append(
            f"the records were packed with different picture sizes ({sizes}), so that validation "
            "differs from training; pack both with the same --image-size"
        )
    return faults
