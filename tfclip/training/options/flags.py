"""The flags of `fit`, in groups, checked before TensorFlow starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tfclip.config_file import without_defaults
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.training.options.checks import above_zero, not_negative
from tfclip.training.options.data import DataOptions
from tfclip.training.options.distillation import DEFAULTS, DistillationOptions
from tfclip.training.options.evaluation import EvaluationOptions
from tfclip.training.options.execution import ExecutionOptions
from tfclip.training.options.flat import SAVED_NAMES, flatten
from tfclip.training.options.freeze import FreezeOptions
from tfclip.training.options.model import ModelOptions
from tfclip.training.options.objective import ObjectiveOptions
from tfclip.training.options.optimizer import OptimizerOptions

# Newer flags are saved only if they are set, so that earlier runs without them can be resumed.
NOT_SAVED_AS = {
    "resize": "squash",
    "interpolation": "area",
    "callback": (),
    # `run` replaces auto by what it chooses.
    "compute": "float32",
    "init": None,
    "extend": False,
    "lora": None,
    **DEFAULTS,
}


@dataclass(frozen=True)
class FitFlags:
    """Train a dual encoder on packed records."""

    records: tuple[str, ...]
    """Training records, DIR or DIR:SPLIT (by default the split train); several are mixed."""
    run: Path
    """The run directory to write."""
    val: str | None = None
    """Validation records, DIR:SPLIT, for the loss and retrieval recall."""
    steps: int = 10_000
    """Number of training steps."""
    epochs: int | None = None
    """Passes over the training records, instead of --steps; if the recipe sets epochs, --steps
    replaces them."""
    batch_size: int = 128
    """Pictures per batch, over all replicas."""
    seed: int = 0
    """Random seed of the weights, the data order and all sampling."""
    extend: bool = False
    """Train a run that has ended further, to a larger --steps: from its last weights, with a new
    optimizer, a new warm-up, and the schedule over the added steps."""
    overwrite: bool = False
    """Replace an existing run instead of resuming it."""

    model: ModelOptions = ModelOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    objective: ObjectiveOptions = ObjectiveOptions()
    distillation: DistillationOptions = DistillationOptions()
    data: DataOptions = DataOptions()
    sampling: SamplingOptions = SamplingOptions()
    freeze: FreezeOptions = FreezeOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    execution: ExecutionOptions = ExecutionOptions()

    def __post_init__(self):
        """Check flags of different groups against each other; each group has checked its own.

        Raises:
            ValueError: names the flag, what was received and what is allowed.
        """
        above_zero(self, "steps", "epochs")
        not_negative(self, "seed")
        if isinstance(self.records, str):
            object.__setattr__(self, "records", (self.records,))
        if isinstance(self.records, tuple):  # not tyro.MISSING, in the defaults of a command
            self.data.check_records(self.records)
            if len(self.records) > 1 and self.distillation.teacher:
                raise ValueError("--teacher needs a single --records; received several")
        if self.objective.word_weight:
            self.sampling.require_whole_pictures("--word-weight")
        self.freeze.check_sampling(self.sampling)
        if self.distillation.teacher:
            self._check_teacher()
        after = self.freeze.unfreeze_after
        if after is not None and after >= self.steps:
            raise ValueError(f"--unfreeze-after {after} must be below --steps {self.steps}")
        if self.batch_size < 2:
            raise ValueError(f"--batch-size must be 2 or more; received {self.batch_size}")
        replicas = self.execution.replicas
        if replicas and self.batch_size % replicas:
            raise ValueError(
                f"--batch-size {self.batch_size} cannot be divided equally among {replicas} "
                f"replicas; use a multiple of {replicas}"
            )
        if self.evaluation.monitor in ("val_loss", "val_recall") and self.val is None:
            raise ValueError(f"--monitor {self.evaluation.monitor} needs --val")
        if self.execution.jit_compile == "on" and self.optimizer.micro_batch:
            raise ValueError("--jit-compile on does not compile --micro-batch; omit one of them")
        self._check_val_images()

    def _check_val_images(self) -> None:
        count = self.evaluation.val_images
        if count is None:
            return
        if self.val is None:
            raise ValueError(f"--val-images {count} needs --val")
        if count < self.batch_size:
            raise ValueError(
                f"received --val-images {count}; allowed: {self.batch_size} or more, because the "
                "loss is measured in batches of --batch-size"
            )

    def _check_teacher(self) -> None:
        """Refuse inputs that differ from those that the teachers have embedded."""
        self.sampling.require_whole_pictures("--teacher")
        changes = {
            "--flip": self.sampling.flip,
            "--crop-scale": self.sampling.crop_scale != (1.0, 1.0),
            "--max-phrases": self.sampling.max_phrases is not None,
            "--skip-damaged": self.data.skip_damaged,
        }
        if given := [name for name, value in changes.items() if value]:
            raise ValueError(
                f"{given[0]} changes the inputs from those that the teachers have embedded; with "
                "--teacher use --views instead"
            )

    def with_steps(self, images: int) -> FitFlags:
        """Return a copy with `epochs` over this many training pictures converted to `steps`.

        Raises:
            ValueError: there are fewer pictures than in a batch.
        """
        if self.epochs is None:
            return self
        if images < self.batch_size:
            raise ValueError(
                f"--batch-size {self.batch_size} is above the {images} training pictures, so that "
                f"an epoch has no batch; use {images} or less"
            )
        return replace(self, steps=self.epochs * images // self.batch_size, epochs=None)

    def to_dict(self) -> dict:
        """Return the flags of all groups as a flat mapping with the names of `config.json`."""
        return {
            SAVED_NAMES.get(name, name): str(value) if isinstance(value, Path) else value
            for name, value in without_defaults(flatten(self), NOT_SAVED_AS).items()
        }
