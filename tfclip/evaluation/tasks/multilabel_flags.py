"""The flags of `tfclip.evaluate RUN voc|multilabel`, checked before TensorFlow is imported."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from tfclip.evaluation.decisions.adapted_classes import read_adapted
from tfclip.evaluation.decisions.options import MultilabelOptions
from tfclip.evaluation.embedding.class_words import OTHERS, OWN, ClassWords, read_class_words
from tfclip.evaluation.report.json_files import FORMATS, check_format
from tfclip.models.compute import FLOAT32, check_compute
from tfclip.models.model_directory import model_directory, model_fingerprint
from tfclip.naming import unknown
from tfclip.records.manifest import load_manifest, records_reference
from tfclip.text_lists import read_lines

NONE = "none"


@dataclass(frozen=True)
class VocFlags:
    """Multi-label: mean average precision, and thresholds fitted on another split."""

    run: Positional[Path]
    """A run directory, or a model folder."""
    data: Path | None = None
    """A raw VOC devkit, VOCdevkit/VOC2007; or else --records."""
    records: Path | None = None
    """A directory of packed records with labels; or else --data."""
    split: str = "test"
    """The split to measure on; several as train+val."""
    calibrate: str = "trainval"
    """The split to fit thresholds and probabilities on; it must share no picture with --split.
    none: thresholds come from --negatives and bound the false-positive rate only."""
    negatives: str | None = None
    """With --calibrate none: captioned records, DIR:SPLIT, whose pictures are negatives of every
    class that their captions do not name; default: the validation records of the run."""
    false_positives: float = 0.05
    """With --calibrate none: the bound of the false-positive rate."""
    tiles: str = "1"
    """The views of a picture: 1 (the whole picture); 1+4, 1+9 or 1+4+9 with overlapping crops; or
    dense: the same 14 parts from one pass of the image tower, as windows of its feature maps."""
    fusion: str = "max"
    """How the scores of the views are combined: max, or logsumexp with the model's temperature as
    sharpness."""
    objective: str = "f1"
    """What thresholds are fitted for: f1, accuracy, youden, or a bound such as sensitivity:0.9
    (also specificity and precision)."""
    shrink: bool = True
    """Shrink the thresholds of classes with few positives towards a shared one; cross-validation on
    --calibrate chooses the strength."""
    probabilities: str = "platt"
    """The calibration of probabilities in predict and exports: platt or isotonic."""
    templates: str = "single"
    """The prompts, by name: single, voc (CLIP_benchmark's, official names), openai (80), short,
    region; or a text file with one prompt per line, {} for the class."""
    all_templates: bool = False
    """Also measure the mean average precision with every named set of prompts."""
    class_words: Annotated[str | None, tyro.conf.arg(aliases=["--synonyms"])] = None
    """A text file with lines CLASS: word, word, not word. The words replace the class name, and
    their prompts are averaged; those after "not" are subtracted. Or auto: add words of the training
    captions that mean the same as the name. Or others: all other classes are negatives of each."""
    compute: str = FLOAT32
    """Number format in which the image tower computes: float32, in which exports compute as well;
    bfloat16 (OpenVINO, the extra [openvino]), whose thresholds fit export --compute bfloat16;
    float32-openvino, whose thresholds fit no export; or auto."""
    format: str = FORMATS[0]
    """tfclip, or clip-benchmark: then metrics/voc.clip_benchmark.json is written too."""
    adapted: str | None = None
    """Evaluate the classes of RUN/adapted/NAME.npz, fitted by tfclip.adapt, instead of texts."""
    seed: int = 0
    """Random seed of the bootstrap intervals and of the folds of the cross-validation."""

    def __post_init__(self):
        check_run(self.run)
        if (self.data is None) == (self.records is None):
            raise ValueError("give one of --data VOCdevkit/VOC2007 and --records DIR")
        if set(self.split.split("+")) & set(self.calibrate.split("+")):
            raise ValueError(
                f"received --split {self.split} and --calibrate {self.calibrate}, which share "
                "pictures; thresholds must be fitted on other pictures than they are reported on"
            )
        check_format(self.format)
        check_compute(self.compute)
        self.options()
        model_directory(self.run)
        if self.adapted is not None:
            self._check_adapted(self.adapted)
        if self.records is not None:
            splits = load_manifest(self.records).splits
            for split in self.splits():
                if split not in splits:
                    raise unknown(f"split of {self.records}", split, splits)
        if self.calibrate == NONE:
            directory, split = self.negatives_reference()
            load_manifest(directory).shards_of(split)
        elif self.negatives is not None:
            raise ValueError(f"received --negatives {self.negatives}; it needs --calibrate none")

    def _check_adapted(self, name: str) -> None:
        for flag in ("templates", "class_words", "all_templates"):
            default = VocFlags.__dataclass_fields__[flag].default
            if getattr(self, flag) != default:
                raise ValueError(
                    f"received --adapted {name} and --{flag.replace('_', '-')}, which is for "
                    "prompts; adapted classes have none. Omit one of them"
                )
        read_adapted(self.run, name, model_fingerprint(self.run))

    @property
    def benchmark(self) -> str:
        """The name of the result files."""
        return "voc" if self.adapted is None else f"multilabel-voc-{self.adapted}"

    def classes(self) -> tuple[str, ...] | None:
        """Return the classes to measure, None for all."""
        return None

    def options(self) -> MultilabelOptions:
        """Return the options of the measurement; ValueError for an invalid one."""
        return MultilabelOptions(
            templates=self.templates,
            words=self.words(),
            tiles=self.tiles,
            fusion=self.fusion,
            objective=self.objective,
            shrink=self.shrink,
            probabilities=self.probabilities,
            false_positives=self.false_positives if self.calibrate == NONE else None,
            all_templates=self.all_templates,
            seed=self.seed,
        )

    def words(self) -> ClassWords:
        """Return the words of a file; none for auto and others, which need the model or classes."""
        if self.class_words in (None, OWN, OTHERS):
            return ClassWords()
        return read_class_words(Path(self.class_words))

    def splits(self) -> tuple[str, ...]:
        """Return the splits to read, without duplicates."""
        used = [self.split] + ([] if self.calibrate == NONE else [self.calibrate])
        return tuple(dict.fromkeys(part for split in used for part in split.split("+")))

    def negatives_reference(self) -> tuple[Path, str]:
        """Return the records and the split that negatives come from.

        Raises:
            ValueError: the flag is missing and the run has no validation records; or no split is
                given where there are several.
        """
        reference = self.negatives or _validated_on(self.run)
        if reference is None:
            raise ValueError(
                "--calibrate none needs pictures: give --negatives DIR:SPLIT, captioned records"
            )
        directory, split = records_reference(reference)
        splits = load_manifest(directory).splits
        if split is None and len(splits) > 1:
            raise ValueError(f"{directory} has several splits; give one of {', '.join(splits)}")
        return directory, split or next(iter(splits))


@dataclass(frozen=True)
class MultilabelFlags(VocFlags):
    """Multi-label with your own classes: like voc, for any packed records with labels."""

    calibrate: str = "val"
    """The split to fit thresholds and probabilities on; it must share no picture with --split.
    none: thresholds come from --negatives and bound the false-positive rate only."""
    class_names: Path | None = None
    """A text file with the classes to measure, one per line, in the order of tables and exports;
    default: all classes of the records in their order."""
    name: str | None = None
    """The name of the results, metrics/multilabel-NAME.json; default: the name of the data's
    folder."""

    def __post_init__(self):
        super().__post_init__()
        if self.class_names is not None and not self.class_names.is_file():
            raise FileNotFoundError(f"no file of class names at {self.class_names}")
        if not re.fullmatch(r"[\w.-]+", self.benchmark):
            raise ValueError(f"received --name {self.name!r}; allowed: letters, digits, _ . -")

    @property
    def benchmark(self) -> str:
        """The name of the result files."""
        folder = self.records or self.data or Path()
        name = self.name or folder.resolve().name
        if self.name is None and self.adapted is not None:
            name += f"-{self.adapted}"
        return f"multilabel-{name}"

    def classes(self) -> tuple[str, ...] | None:
        """Return the classes to measure, None for all."""
        if self.class_names is None:
            return None
        return read_class_names(self.class_names)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Return the non-blank lines of a file; ValueError if a name is repeated or there are none."""
    names = tuple(line for line in read_lines(path) if line)
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"{path} has no class, or one more than once")
    return names


def check_run(path: Path) -> None:
    """Raise FileNotFoundError when there is no directory."""
    if not path.is_dir():
        raise FileNotFoundError(
            f"no run at {path}; train one with: python -m tfclip.fit RECIPE --records DIR --run RUN"
        )


def _validated_on(run: Path) -> str | None:
    """Return the validation records of a run's configuration, if they still exist."""
    config = run / "config.json"
    if not config.is_file():
        return None
    val = json.loads(config.read_text(encoding="utf-8")).get("flags", {}).get("val")
    return val if val and records_reference(val)[0].is_dir() else None
