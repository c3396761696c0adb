"""Diagnostics of a run: what goes wrong, in words, and what to do about it.

They read the logs of the steps. Each diagnosis is printed once when it is made, and again at the
end of the run.
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

# Steps between two looks: enough to tell chance from a trend.
WINDOW = 100
COLLAPSED_WITHIN = 0.02
# Hits of this many times chance over a window are more than luck.
CHANCE_HITS = 1.5
EMPTY, FULL, REPEATED = 0.02, 0.05, 0.25
FAINT = 1e-3
WAITING = 0.2
FEW_ROWS = 8


class Diagnostics(keras.callbacks.Callback):
    """Watches the steps of a run, and adds their mean shares to the logs of each epoch.

    Args:
        step_timer: of the loop.
        chance: of a model that knows nothing.
        known_faults: what is wrong before training begins, in words.
        cut: the share of the texts that are longer than the context, where that is known.
        window: steps between two looks.
    """

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
        for number, words in enumerate(known_faults):
            self._say(f"before training {number}", words)

    def on_epoch_begin(self, epoch, logs=None):
        """Begin the means of the epoch."""
        self.epoch_sums, self.epoch_steps = {}, 0

    def on_train_batch_end(self, batch, logs=None):
        """Add a step; look at the window when it is full."""
        if not math.isfinite(logs["batch_loss"]):
            return
        for name, value in logs.items():
            self.window_sums[name] = self.window_sums.get(name, 0.0) + value
            if name in EPOCH_MEANS:
                self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + value
        self.window_steps += 1
        self.epoch_steps += 1
        if self.window_steps == self.window:
            self.look({k: v / self.window for k, v in self.window_sums.items()})
            self.window_sums, self.window_steps = {}, 0

    def on_epoch_end(self, epoch, logs=None):
        """Put the means of the epoch in the place of the numbers of its last step."""
        for name, total in self.epoch_sums.items():
            logs[name] = total / max(self.epoch_steps, 1)

    def on_train_end(self, logs=None):
        """Look at the texts of a run that is shorter than a window; say all diagnoses again."""
        if self.window_steps and not self.looked:
            self._look_at_texts({k: v / self.window_steps for k, v in self.window_sums.items()})
        if self.diagnoses:
            say("diagnoses of this run:" + "".join(f"\n  - {words}" for words in self.diagnoses))

    @property
    def diagnoses(self) -> list[str]:
        """All diagnoses so far, in words."""
        return [*self.messages.values(), *filter(None, [self.step_timer.diagnosis])]

    def look(self, means: dict[str, float]) -> None:
        """Compare the means of a window to what is healthy."""
        self.looked = True
        if self.chance is not None:
            self._look_for_collapse(means, self.chance)
        scale = means["logit_scale"]
        if scale > 0.999 * LARGEST_LOGIT_SCALE:
            self._say(
                "temperature",
                f"the temperature is at its limit, a factor of {scale:.0f} on the cosine. With "
                "millions of pictures that is usual; with few the training pairs are being learnt "
                "by heart: train for fewer --steps, with more pictures or more --weight-decay",
            )
        if scale < 1.001:
            self._say(
                "temperature low",
                f"the temperature is at its limit, a factor of {scale:.2f} on the cosine: the "
                "model is less and less sure. Look whether captions and pictures belong together "
                "(make_records inspect), and try a lower --learning-rate",
            )
        self._look_at_texts(means)
        names = {modality: f"gradient_norm_{modality}" for modality in MODALITIES}
        if means.keys() >= set(names.values()):
            norms = {modality: means[name] for modality, name in names.items()}
            for modality, other in (MODALITIES, MODALITIES[::-1]):
                if norms[modality] <= FAINT * norms[other]:
                    self._say(
                        f"faint {modality}",
                        f"the {modality} tower hardly learns: the norm of its gradient is "
                        f"{norms[modality]:.2g}, that of the {other} tower {norms[other]:.2g}. "
                        "Check whether its inputs are all alike, or begin it with other weights",
                    )
        if self.step_timer.diagnosis is None and self.step_timer.share_waiting > WAITING:
            self.step_timer.diagnosis = (
                f"the training waits for its data {self.step_timer.share_waiting:.0%} of the time. "
                "Pack the records smaller (make_records --image-size), put them on a faster disk, "
                "give the machine more cores, or use --freeze with stored features"
            )
            say(f"diagnosis: {self.step_timer.diagnosis}")

    def _look_for_collapse(self, means: dict[str, float], chance: Chance) -> None:
        if chance.loss is None:
            collapsed = means["accuracy"] < CHANCE_HITS * chance.accuracy
            observed = (
                f"{means['accuracy']:.2%} of the pictures find their text in the batch, by chance "
                f"it is {chance.accuracy:.2%}"
            )
        else:
            collapsed = abs(means["batch_loss"] - chance.loss) < COLLAPSED_WITHIN * chance.loss
            observed = (
                f"the loss stays at {means['batch_loss']:.3f}, what a model has that tells nothing "
                f"apart ({chance.source}: {chance.loss:.3f})"
            )
        if collapsed:
            self._say(
                "collapse",
                f"{observed}: all embeddings may have become one. Try a lower --learning-rate, a "
                "longer --warmup-steps, pretrained weights, or texts that say more of their "
                "pictures",
            )

    def _look_at_texts(self, means: dict[str, float]) -> None:
        if means.get("empty_texts", 0.0) > EMPTY:
            self._say(
                "empty texts",
                f"{means['empty_texts']:.0%} of the texts are empty or nothing but padding: their "
                "pictures teach nothing. Pack without them, or look whether the vocabulary fits "
                "the language of the captions",
            )
        # Where it is known how many are cut, that was said before training.
        if self.cut is None and means.get("full_texts", 0.0) > FULL:
            self._say(
                "cut texts",
                f"{means['full_texts']:.0%} of the texts fill the whole context: those that are "
                "longer are cut. If there are some, give a longer --context-length",
            )
        if means.get("repeated_texts", 0.0) > REPEATED:
            self._say(
                "repeated texts",
                f"{means['repeated_texts']:.0%} of the texts of a batch belong to other pictures "
                "of it as well, which then count as right and not as wrong. Use captions that say "
                "more, or a smaller --batch-size",
            )

    def _say(self, what: str, words: str) -> None:
        if what not in self.messages:
            self.messages[what] = words
            say(f"diagnosis: {words}")


EPOCH_MEANS = ("repeated_texts", "empty_texts", "full_texts")


@dataclass(frozen=True)
class Chance:
    """What a model has that tells nothing apart.

    Attributes:
        accuracy: from pictures to texts of a batch.
        loss: None where it is not known: with a tagging loss.
        source: where the loss comes from, in words.
    """

    accuracy: float
    loss: float | None = None
    source: str = ""

    @classmethod
    def of(cls, flags: FitFlags) -> Chance:
        """Where all embeddings are one, and every text of a batch belongs to one picture.

        The softmax loss is then ln(batch), in both directions. The sigmoid loss is what a bias
        alone can reach: for each picture and caption that of one positive among the batch, the
        entropy of one in batch, batch times.
        """
        batch, captions = flags.batch_size, flags.sampling.captions
        if flags.objective.word_weight:
            return cls(1 / batch)
        if flags.objective.loss == "softmax":
            loss = math.log(batch) + 0.5 * math.log(captions)
            return cls(1 / batch, loss, "ln of the batch")
        loss = captions * (math.log(batch) + (batch - 1) * math.log(batch / (batch - 1)))
        return cls(1 / batch, loss, "one positive in a batch, known by the bias alone")


def wrong_normalization(model: DualEncoder, rows: int, replicas: int) -> list[str]:
    """What is wrong with the mode of the batch normalisation, in words.

    Args:
        model: ready to train.
        rows: examples on one replica.
        replicas: how many there are.
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
                    f"the {modality} tower is frozen, but its batch normalisation would follow the "
                    "batches: call model.freeze after building the tower"
                )
            continue
        frozen = sum(not layer.trainable for layer in layers)
        if frozen:
            faults.append(
                f"{frozen} of {len(layers)} batch normalisations of the {modality} tower are "
                "frozen while the rest of it trains; set layer.trainable = True, or use "
                f"--freeze {modality}"
            )
        trained = [layer for layer in layers if layer.trainable]
        if replicas > 1 and not all(layer.synchronized for layer in trained):
            faults.append(
                f"the batch normalisation of the {modality} tower sees one replica's part of the "
                "batch: call models.normalization.synchronize_normalization"
            )
        seen = rows if replicas == 1 else rows * replicas
        if trained and seen < FEW_ROWS:
            faults.append(
                f"the {modality} tower normalises over batches of {seen}, whose mean and deviation "
                f"say little; use a --batch-size of {FEW_ROWS} or more, or --freeze {modality}"
            )
    return faults


def other_preprocessing(
    flags: FitFlags, train: Sequence[Manifest], val: Manifest | None
) -> list[str]:
    """What is unsuitable, or unequal, in how the records were packed, in words."""
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
        sizes = " and ".join(f"{name} {size or 'as found'}" for name, size in packed.items())
        faults.append(
            f"the records were packed differently ({sizes}): the figures of the validation are of "
            "other pixels than were trained on; pack both with the same --image-size"
        )
    return faults
