"""The flags of `fit`, in groups: what a run trains on and how, checked before TensorFlow starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tfclip.config_file import without_defaults
from tfclip.inputs.sampling_options import SamplingOptions
from tfclip.training.options.checks import above_zero, not_negative
from tfclip.training.options.data import DataOptions
from tfclip.training.options.evaluation import EvaluationOptions
from tfclip.training.options.execution import ExecutionOptions
from tfclip.training.options.flat import SAVED_NAMES, flatten
from tfclip.training.options.freeze import FreezeOptions
from tfclip.training.options.model import ModelOptions
from tfclip.training.options.objective import ObjectiveOptions
from tfclip.training.options.optimizer import OptimizerOptions

# Flags that earlier runs did not have are saved only where they are set: those runs go on.
NOT_SAVED_AS = {"resize": "squash", "interpolation": "area", "callback": (), "init": None}


@dataclass(frozen=True)
class FitFlags:
    """Train a dual encoder on packed records."""

    records: tuple[str, ...]
    """Training records: DIR or DIR:SPLIT (the split is train when not given); several are mixed."""
    run: Path
    """The run directory to write."""
    val: str | None = None
    """Validation records, DIR:SPLIT, for the loss and for retrieval recall."""
    steps: int = 10_000
    """Updates to make in all."""
    epochs: int | None = None
    """Passes over the training records, in the place of --steps; where a recipe has epochs, --steps
    takes theirs."""
    batch_size: int = 128
    """Pictures in a batch, over all replicas."""
    seed: int = 0
    """Of the weights, the order of the data and all sampling."""
    overwrite: bool = False
    """Replace a run that is there, instead of going on with it."""

    model: ModelOptions = ModelOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    objective: ObjectiveOptions = ObjectiveOptions()
    data: DataOptions = DataOptions()
    sampling: SamplingOptions = SamplingOptions()
    freeze: FreezeOptions = FreezeOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    execution: ExecutionOptions = ExecutionOptions()

    def __post_init__(self):
        """Refuse what cannot be trained, before TensorFlow starts; groups have checked themselves.

        Raises:
            ValueError: naming the flag, what was received and what is allowed.
        """
        above_zero(self, "steps", "epochs")
        not_negative(self, "seed")
        if isinstance(self.records, str):
            object.__setattr__(self, "records", (self.records,))
        if isinstance(self.records, tuple):  # or a command's defaults, records still to be given
            self.data.check_records(self.records)
            if len(self.records) > 1:
                self._check_one_set_only()
        if self.objective.word_weight:
            self.sampling.require_whole_pictures("--word-weight")
        self.freeze.check_sampling(self.sampling)
        after = self.freeze.unfreeze_after
        if after is not None and after >= self.steps:
            raise ValueError(f"--unfreeze-after {after} must be below --steps {self.steps}")
        if self.batch_size < 2:
            raise ValueError(f"--batch-size must be 2 or more; received {self.batch_size}")
        replicas = self.execution.replicas
        if replicas and self.batch_size % replicas:
            raise ValueError(
                f"--batch-size {self.batch_size} cannot be shared equally by {replicas} "
                f"replicas; use a multiple of {replicas}"
            )
        if self.evaluation.monitor in ("val_loss", "val_recall") and self.val is None:
            raise ValueError(f"--monitor {self.evaluation.monitor} needs --val")

    def _check_one_set_only(self) -> None:
        """Refuse what works with one set of records alone."""
        if self.objective.word_weight:
            raise ValueError("--word-weight takes the words of one --records; leave it out or 0")
        if self.freeze.stores_features:
            raise ValueError(
                "outputs of frozen towers are stored for one --records at a time; with several add "
                "--no-cache-features"
            )

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

    def to_dict(self) -> dict:
        """The flags of all groups in one mapping of JSON types, by the names of `config.json`."""
        return {
            SAVED_NAMES.get(name, name): str(value) if isinstance(value, Path) else value
            for name, value in without_defaults(flatten(self), NOT_SAVED_AS).items()
        }
