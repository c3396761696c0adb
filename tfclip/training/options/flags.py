"""The flags of `fit`: what a run trains on and how, checked before TensorFlow starts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from tfclip import plugins
from tfclip.inputs.picture_size import INTERPOLATIONS, RESIZES
from tfclip.inputs.view_sets import view_set
from tfclip.models.config import PRECISIONS
from tfclip.models.registry import head, image_tower, text_tower
from tfclip.naming import unknown
from tfclip.training.interval import Interval

MONITORS = ("auto", "val_loss", "val_recall", "voc_map", "top1", "loss")
LOSSES = ("softmax", "sigmoid")
SCHEDULES = ("cosine", "constant")
NOT_NEGATIVE = (
    "warmup_steps",
    "weight_decay",
    "region_margin",
    "replicas",
    "seed",
    "word_weight",
)
LOCKS = {
    "none": (),
    "image": ("image",),
    "text": ("text",),
    "image,text": ("image", "text"),
}
# How records with regions are shown, and the share of the examples that show one by default.
REGIONS = {"whole": 0.0, "crop": 1.0, "context": 1.0, "mix": 2 / 3}
CHOICES = {
    "resize": RESIZES,
    "interpolation": INTERPOLATIONS,
    "precision": PRECISIONS,
    "monitor": MONITORS,
    "loss": LOSSES,
    "schedule": SCHEDULES,
    "feature_precision": ("float32", "float16"),
    "lock": tuple(LOCKS),
    "regions": tuple(REGIONS),
}


@dataclass(frozen=True)
class FitFlags:
    """Train a dual encoder on packed records."""

    records: tuple[str, ...]
    """Training records: DIR or DIR:SPLIT (the split is train when not given); several are mixed."""
    run: Path
    """The run directory to write."""
    val: str | None = None
    """Validation records, DIR:SPLIT, for the loss and for retrieval recall."""
    val_in_training: bool = False
    """Allow --val to be a split that is trained on: its figures then say how well the pictures were
    learnt by heart."""
    voc: str | None = None
    """Labelled records, DIR:SPLIT, for the zero-shot mean average precision while training."""
    class_folders: Path | None = None
    """A folder of class folders, for the zero-shot top-1 accuracy while training."""
    record_weights: tuple[float, ...] = ()
    """How often each of several --records is drawn; by default as often as it has pictures."""
    skip_damaged: bool = False
    """Train without the damaged records of --records, and count them. Reads all shards once before
    training; the sound records of damaged shards are copied to RUN.salvaged."""
    overwrite: bool = False
    """Replace a run that is there, instead of going on with it."""

    init: Path | None = None
    """Begin with the whole model of this run or converted model: towers, heads, temperature,
    tokenizer, preprocessing."""
    image_tower: str = "efficientnet-b5"
    """Image encoder; an unknown name lists the known ones; package.module:function is imported."""
    text_tower: str = "bert-small"
    """Text encoder, as --image-tower."""
    image_weights: str = "none"
    """imagenet, a keras_hub preset name, a folder (Hugging Face, timm, Keras), a .h5 file, or
    none."""
    text_weights: str = "none"
    """A keras_hub preset name, a folder (Hugging Face, Keras), a .weights.h5 file, or none."""
    image_size: int = 224
    """Side of the pictures in pixels."""
    resize: str = "squash"
    """How a whole picture becomes a square: squash (changes its proportions), or crop (the shorter
    side is scaled, the middle of the longer one kept)."""
    interpolation: str = "area"
    """area, bilinear, or bicubic (both antialiased, as Pillow has them; slower)."""
    embed_dim: int = 256
    """Size of the shared embedding."""
    context_length: int | None = None
    """Longest text in tokens; chosen from the training captions when not given."""
    image_head: str = "linear"
    """What comes after the image tower; an unknown name lists the known ones."""
    text_head: str = "linear"
    """What comes after the text tower."""
    vocabulary: Path | None = None
    """A vocab.model, a vocab.txt, or CLIP's byte-pair merges, to use instead of the one in the
    records."""
    precision: str = "float32"
    """float32, bfloat16, or float16 with loss scaling."""

    lock: Annotated[str, tyro.conf.arg(name="freeze", aliases=["--lock"])] = "none"
    """Towers that keep their weights, whose outputs are computed once and stored: none, image,
    text, or image,text."""
    views: str = "1"
    """The set of fixed views of which one is drawn each time a whole picture is shown, by name."""
    cache_features: bool = True
    """Store the outputs of frozen towers, instead of running the towers in every step."""
    feature_cache: Path | None = None
    """Where they are stored; RECORDS/features when not given."""
    feature_precision: str = "float32"
    """How they are stored: float32, or float16 in half the space."""
    unlock_after: Annotated[
        int | None, tyro.conf.arg(name="unfreeze-after", aliases=["--unlock-after"])
    ] = None
    """From this step on train the frozen towers as well."""
    unlocked_learning_rate: float = 1e-5
    """Highest learning rate from then on."""
    layer_decay: float = 0.75
    """From then on, the factor on the learning rate from one twelfth of a tower's depth to the
    next one below."""

    loss: str = "softmax"
    """softmax, or sigmoid (SigLIP); both with several positives to a row."""
    logit_scale: float = 1 / 0.07
    """Starting value of the learnt factor on the cosine."""
    logit_bias: float = -10.0
    """Starting value of the learnt bias of the sigmoid loss."""
    steps: int = 10_000
    """Updates to make in all."""
    epochs: int | None = None
    """Passes over the training records, in the place of --steps; where a recipe has epochs, --steps
    takes theirs."""
    batch_size: int = 128
    """Pictures in a batch, over all replicas."""
    micro_batch: int | None = None
    """Pictures of a replica that go through the towers at a time, so that memory does not grow with
    the batch; the gradients stay those of the whole batch (GradCache)."""
    learning_rate: float = 1e-4
    """Highest learning rate, reached after the warm-up."""
    schedule: str = "cosine"
    """What the learning rate does after the warm-up: cosine (falls to 0) or constant."""
    warmup_steps: int = 500
    """Steps over which the learning rate rises from 0; at most half of all steps."""
    weight_decay: float = 1e-4
    """Decoupled weight decay; not on biases, norms and the temperature. 0 is Adam."""
    beta_1: float = 0.9
    """Adam's decay of the mean of the gradients."""
    beta_2: float = 0.999
    """Adam's decay of the mean of their squares."""
    epsilon: float = 1e-7
    """Adam's smallest divisor."""
    average: float = 0.0
    """Decay of the averaged weights; 0 for none."""
    measure_average: bool = True
    """Measure and choose by the averaged weights, where there are any; or else by the others. Both
    are saved: RUN/best, and RUN/best-unaveraged or RUN/best-averaged, which evaluate, predict and
    export take in the place of RUN."""
    clip_norm: float | None = 1.0
    """Largest norm of the whole gradient, None for no limit."""
    regions: str = "whole"
    """How records with regions are shown: whole; crop (one region); context (one region and half
    of the others at least); or mix, of all three."""
    region_share: float | None = None
    """Share of the examples that show one region and its phrase; by default all with --regions crop
    and context, and two thirds with mix."""
    max_phrases: int | None = None
    """At most so many region phrases of each picture are trained on, drawn by --seed."""
    region_margin: float = 0.0
    """Largest margin around a region, in its sizes."""
    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Range of the area of the random crop of a whole picture, 1 1 for none."""
    flip: bool = False
    """Mirror every second picture, but none whose text says left or right."""
    captions: int = 1
    """Captions that come with each picture in a batch; all are its positives."""
    word_weight: float = 0.0
    """Weight of a loss that asks each picture for the words of its captions, one by one: for
    several labels to a picture. 0 for none."""
    phrases: int = 1
    """2 joins two of a picture's region phrases into one text."""

    evaluate_every: int = 500
    """Steps from one evaluation to the next."""
    checkpoint_every: str = "auto"
    """Steps (500) or time (90s, 10m, 1h) from one checkpoint to the next; auto is every minute or
    more, such that saving takes 2 % of the time at most."""
    monitor: str = "auto"
    """What the best model is chosen by: auto, val_loss, val_recall, voc_map, top1 or loss."""
    patience: int | None = None
    """End after so many evaluations without a better --monitor."""
    replicas: int = 1
    """Logical CPU devices to train on, for trials without several GPUs; 0 takes all GPUs."""
    workers: int = 1
    """Processes to start on this machine, for trials without several machines; those read
    TF_CONFIG, and need no flag."""
    seed: int = 0
    """Of the weights, the order of the data and every draw."""
    never_trained: tuple[str, ...] = ()
    """Class names known not to occur in the training data; evaluation tells them apart."""
    callback: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A Keras callback of your own, package.module:name, of a class, a function that makes one, or
    one that is made; give the flag again for each further one."""

    def __post_init__(self):
        """Refuse what cannot be trained, before TensorFlow starts.

        Raises:
            ValueError: naming the flag, what was received and what is allowed.
        """
        self._check_records()
        image_tower(self.image_tower)
        text_tower(self.text_tower)
        head(self.image_head)
        head(self.text_head)
        view_set(self.views)
        for one in self.callback:
            plugins.check_reference("--callback", one)
        Interval.parse(self.checkpoint_every)
        for what, known in CHOICES.items():
            if getattr(self, what) not in known:
                raise unknown(_flag(what), getattr(self, what), known)
        positive = "steps", "workers", "evaluate_every", "learning_rate", "image_size", "embed_dim"
        positive += "unlocked_learning_rate", "epsilon"
        optional = "epochs", "patience", "unlock_after", "micro_batch", "max_phrases"
        for name in (*positive, *(n for n in optional if getattr(self, n) is not None)):
            if getattr(self, name) <= 0:
                raise ValueError(f"--{_flag(name)} must be above 0; received {getattr(self, name)}")
        for name in NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ValueError(
                    f"--{_flag(name)} must be 0 or more; received {getattr(self, name)}"
                )
        for name in ("beta_1", "beta_2", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"--{_flag(name)} must be 0 or more and below 1; received {getattr(self, name)}"
                )
        if not 0 < self.layer_decay <= 1:
            raise ValueError(
                f"--layer-decay must be above 0 and at most 1; received {self.layer_decay}"
            )
        if self.phrases not in (1, 2):
            raise ValueError(f"--phrases must be 1 or 2; received {self.phrases}")
        if self.captions < 1:
            raise ValueError(f"--captions must be 1 or more; received {self.captions}")
        if self.captions > 1 or self.word_weight:
            given = "--captions above 1" if self.captions > 1 else "--word-weight"
            if self.shown_regions or self.phrases > 1:
                raise ValueError(
                    f"{given} is for captions of whole pictures; leave out --regions and --phrases"
                )
        self._check_lock()
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"--clip-norm must be above 0, or None; received {self.clip_norm}")
        if self.region_share is not None and not 0 <= self.region_share <= 1:
            raise ValueError(f"--region-share must be 0 to 1; received {self.region_share}")
        if self.region_share and self.regions == "whole":
            raise ValueError(
                f"--region-share {self.region_share} needs --regions crop, context or mix; for "
                "whole pictures alone add --region-share 0"
            )
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(
                f"--crop-scale takes two shares, 0 < least <= greatest <= 1; "
                f"received {self.crop_scale[0]} {self.crop_scale[1]}"
            )
        if self.batch_size < 2:
            raise ValueError(f"--batch-size must be 2 or more; received {self.batch_size}")
        if self.replicas and self.batch_size % self.replicas:
            raise ValueError(
                f"--batch-size {self.batch_size} cannot be shared equally by {self.replicas} "
                f"replicas; use a multiple of {self.replicas}"
            )
        needs = {"val_loss": "val", "val_recall": "val", "voc_map": "voc", "top1": "class_folders"}
        if (need := needs.get(self.monitor)) and getattr(self, need) is None:
            raise ValueError(f"--monitor {self.monitor} needs --{_flag(need)}")

    @property
    def shown_regions(self) -> float:
        """The share of the examples that show a region."""
        return REGIONS[self.regions] if self.region_share is None else self.region_share

    @property
    def locked(self) -> tuple[str, ...]:
        """The sides whose towers are frozen at the start."""
        return LOCKS[self.lock]

    def with_steps(self, images: int) -> FitFlags:
        """The same flags with `epochs` turned into `steps`, over so many training pictures.

        Raises:
            ValueError: fewer pictures than a batch takes.
        """
        if self.epochs is None:
            return self
        if images < self.batch_size:
            raise ValueError(
                f"--batch-size {self.batch_size} is more than the {images} training pictures, of "
                f"which no epoch can be made; use {images} or less"
            )
        return replace(self, steps=self.epochs * images // self.batch_size, epochs=None)

    def _check_records(self) -> None:
        if isinstance(self.records, str):
            object.__setattr__(self, "records", (self.records,))
        if not isinstance(self.records, tuple):  # a command's defaults, records still to be given
            return
        for at, reference in enumerate(self.records):
            if reference in self.records[:at]:
                raise ValueError(
                    f"--records names {reference} twice; --record-weights says how often"
                )
        if self.record_weights and len(self.record_weights) != len(self.records):
            raise ValueError(
                f"--record-weights has {len(self.record_weights)} numbers for {len(self.records)} "
                "--records; give one for each, or none"
            )
        if not all(0 < weight < math.inf for weight in self.record_weights):
            told = " ".join(map(str, self.record_weights))
            raise ValueError(f"--record-weights must be above 0; received {told}")
        if len(self.records) > 1 and self.word_weight:
            raise ValueError("--word-weight takes the words of one --records; leave it out or 0")
        if len(self.records) > 1 and self.locked and self.cache_features:
            raise ValueError(
                "outputs of frozen towers are stored for one --records at a time; with several add "
                "--no-cache-features"
            )

    def _check_lock(self) -> None:
        if not self.locked:
            if self.unlock_after is not None:
                raise ValueError("--unfreeze-after needs --freeze image, text, or image,text")
            return
        if self.unlock_after is not None and self.unlock_after >= self.steps:
            raise ValueError(
                f"--unfreeze-after {self.unlock_after} must be below --steps {self.steps}"
            )
        if not self.cache_features:
            return
        drawn = {
            "regions": self.shown_regions > 0,
            "crop-scale": self.crop_scale != (1.0, 1.0),
            "flip": self.flip,
        }
        if "image" in self.locked and any(drawn.values()):
            named = " and ".join(f"--{name}" for name, given in drawn.items() if given)
            raise ValueError(
                f"{named} draws other pixels each time, of which nothing can be stored; with "
                "--freeze image use --views, or add --no-cache-features"
            )
        if "text" in self.locked and (self.phrases > 1 or self.shown_regions or self.max_phrases):
            raise ValueError(
                "--phrases 2, --max-phrases and --regions draw other texts than are stored; with "
                "--freeze text leave them out, or add --no-cache-features"
            )

    def to_dict(self) -> dict:
        """The flags as JSON types; what runs from before did not have, only where it is set."""
        usual = {"resize": "squash", "interpolation": "area", "callback": (), "init": None}
        return {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(self).items()
            if key not in usual or usual[key] != value
        }


def _flag(name: str) -> str:
    return {"lock": "freeze", "unlock_after": "unfreeze-after"}.get(name, name.replace("_", "-"))
