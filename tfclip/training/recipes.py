"""The flags of `fit`, and the recipes: named sets of their defaults. Needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import tyro

from tfclip.models.config import PRECISIONS
from tfclip.models.registry import image_tower, text_tower
from tfclip.naming import unknown


@dataclass(frozen=True)
class FitFlags:
    """Train a dual encoder on packed records."""

    records: str
    """Training records: DIR or DIR:SPLIT (the split is train when not given)."""
    run: Path
    """The run directory to write."""
    val: str | None = None
    """Validation records, DIR:SPLIT, for the loss and for retrieval recall."""
    voc: str | None = None
    """Labelled records, DIR:SPLIT, for the zero-shot mean average precision while training."""
    class_folders: Path | None = None
    """A folder of class folders, for the zero-shot top-1 accuracy while training."""
    overwrite: bool = False
    """Replace a run that is there."""

    image_tower: str = "efficientnet-b5"
    """Image encoder; an unknown name lists the known ones."""
    text_tower: str = "bert-small"
    """Text encoder; an unknown name lists the known ones."""
    image_weights: str = "none"
    """imagenet, the path of a weights file (.h5), or none."""
    text_weights: str = "none"
    """A keras_hub preset name, a local folder (Keras or Hugging Face), or none."""
    image_size: int = 224
    """Side of the pictures in pixels."""
    embed_dim: int = 256
    """Size of the shared embedding."""
    context_length: int | None = None
    """Longest text in tokens; chosen from the training captions when not given."""
    vocabulary: Path | None = None
    """A vocab.txt to use instead of the one in the records."""
    precision: str = "float32"
    """float32, bfloat16, or float16 with loss scaling."""

    steps: int = 10_000
    """Updates to make in all."""
    batch_size: int = 128
    """Pictures in a batch, over all replicas."""
    learning_rate: float = 1e-4
    """Highest learning rate, reached after the warm-up; it falls to 0 as a cosine."""
    warmup_steps: int = 500
    """Steps over which the learning rate rises from 0; at most half of all steps."""
    weight_decay: float = 1e-4
    """Decoupled weight decay; not on biases, norms and the temperature."""
    clip_norm: float | None = 1.0
    """Largest norm of the whole gradient, None for no limit."""
    region_share: float = 0.0
    """Share of the examples that show one region and its phrase (records with regions)."""
    region_margin: float = 0.0
    """Largest margin around a region, in its sizes."""
    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Range of the area of the random crop of a whole picture, 1 1 for none."""
    flip: bool = False
    """Mirror every second picture (wrong for captions that say left and right)."""

    evaluate_every: int = 500
    """Steps from one evaluation and checkpoint to the next."""
    monitor: str = "auto"
    """What the best model is chosen by: auto, val_loss, val_recall, voc_map, top1 or loss."""
    replicas: int = 1
    """Logical CPU devices to train on, for trials without several GPUs; 0 takes all GPUs."""
    seed: int = 0
    """Of the weights, the order of the data and every draw."""
    never_trained: tuple[str, ...] = ()
    """Class names known not to occur in the training data; evaluation tells them apart."""

    def __post_init__(self):
        """Refuse what cannot be trained, before TensorFlow starts.

        Raises:
            ValueError: naming the flag, what was received and what is allowed.
        """
        image_tower(self.image_tower)
        text_tower(self.text_tower)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.monitor not in MONITORS:
            raise unknown("monitor", self.monitor, MONITORS)
        positive = "steps", "evaluate_every", "learning_rate", "image_size", "embed_dim"
        for name in positive:
            if getattr(self, name) <= 0:
                raise ValueError(f"--{_flag(name)} must be above 0; received {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "region_margin", "replicas", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"--{_flag(name)} must be 0 or more; received {getattr(self, name)}"
                )
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"--clip-norm must be above 0, or None; received {self.clip_norm}")
        if not 0 <= self.region_share <= 1:
            raise ValueError(f"--region-share must be 0 to 1; received {self.region_share}")
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

    def to_dict(self) -> dict:
        """The flags as JSON types."""
        return {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(self).items()
        }


MONITORS = ("auto", "val_loss", "val_recall", "voc_map", "top1", "loss")


def _flag(name: str) -> str:
    return name.replace("_", "-")


@dataclass(frozen=True)
class Recipe:
    """A system to train by name: what it is, where it comes from, and its defaults."""

    summary: str
    source: str
    defaults: Mapping = field(default_factory=dict)
    image_options: Mapping = field(default_factory=dict)
    text_options: Mapping = field(default_factory=dict)
    vocabulary_size: int = 8000

    def flags(self, **given) -> FitFlags:
        """The flags of this recipe: its defaults under what is given."""
        return FitFlags(**{"records": "", "run": Path(), **self.defaults, **given})

    def defaults_for_command(self) -> FitFlags:
        """The flags with `--records` and `--run` still to be given."""
        return replace(self.flags(), records=tyro.MISSING, run=tyro.MISSING)


RECIPES: dict[str, Recipe] = {
    # The picture size of the original is not stated: 224 is ours. It
    # thresholds a softmax; `evaluate voc` prints that variant beside the independent decisions.
    "visual-genome": Recipe(
        summary="EfficientNetB5 + small-BERT on Visual Genome, one region phrase per picture",
        source="the Visual Genome dual encoder: AdamW 1e-4, weight decay 1e-4, batch 128",
        defaults={"image_weights": "imagenet", "text_weights": "bert_small_en_uncased"},
        vocabulary_size=30_522,
    ),
    "shapes": Recipe(
        summary="a small convolutional tower + a small transformer on drawn shapes",
        source="tfclip's own; minutes on two CPU cores, no download",
        defaults={
            "image_tower": "small-convolutional",
            "text_tower": "small-transformer",
            "image_size": 64,
            "embed_dim": 64,
            "steps": 1100,
            "batch_size": 64,
            "learning_rate": 2e-3,
            "weight_decay": 0.05,
            "warmup_steps": 50,
            "region_share": 0.85,
            "region_margin": 1.0,
            "evaluate_every": 550,
        },
        image_options={"widths": (40, 80, 192), "stem": 4},
        text_options={"width": 96, "blocks": 1},
    ),
}


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: for an unknown name; lists the known ones, the nearest first.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]
