"""python -m tfclip.export RUN: write a SavedModel that takes the bytes of pictures and strings."""

import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from tfclip.console import Command, run, say
from tfclip.evaluation.decisions.thresholds import parse_objective
from tfclip.evaluation.embedding.class_words import ClassWords
from tfclip.evaluation.embedding.prompts import templates_by_name
from tfclip.inputs.tiles import tile_groups
from tfclip.models.compute import BFLOAT16, EXPORTED, FLOAT32
from tfclip.naming import unknown
from tfclip.serving.classifier import THRESHOLDS_FILE, Classifier
from tfclip.serving.formats.extra import require_onnx
from tfclip.serving.label_words import check_class_words, label_class_words
from tfclip.serving.labels import CLASS_TEMPLATES, FITTED, NONE, VOC, Labels, read_label_words
from tfclip.serving.signatures import IMAGE_MODALITY, MODALITIES, TEXT_MODALITY, Variant

if TYPE_CHECKING:
    from tfclip.models.saving import TrainedModel


@dataclass(frozen=True)
class ExportFlags:
    """Export a run as OUT/1, OUT/2, ...: a SavedModel that runs without tfclip."""

    run: Positional[Path]
    """A run directory, or a model folder."""
    out: Path | None = None
    """The folder of the versions: the next free integer is written, nothing is overwritten. May be
    omitted with --onnx, --hf or --open-clip: then no SavedModel is written."""
    labels: tuple[str, ...] = (FITTED,)
    """The labels of `classify`: fitted (the classes of RUN/thresholds.json), voc (the 20 official
    classes), none for no classifier; or other labels, as predict takes them: texts, used as typed,
    or a text file with one class per line. Their embeddings are stored and the text tower is
    omitted."""
    thresholds: str = FITTED
    """The decisions of `classify`: fitted (RUN/thresholds.json), another such file, or none, which
    predicts only the label with the highest score."""
    threshold: float | None = None
    """One cosine as the threshold of every label, instead of fitted thresholds."""
    objective: str | None = None
    """Fit the thresholds again for f1, accuracy, youden or sensitivity:0.9 (also specificity and
    precision), on the calibration scores that the run keeps."""
    templates: str | None = None
    """With --thresholds none or --threshold: the name of the prompt templates. By default class
    names become "a photo of a {}." and typed texts are used unchanged. Fitted thresholds use the
    prompts that they were fitted with."""
    class_words: str | None = None
    """Like --templates, for class names: a text file with lines CLASS: word, word, not word; or
    auto or others, as in evaluate."""
    tiles: str | None = None
    """With --thresholds none: the views of a picture, 1, 1+4, 1+9, 1+4+9 or dense, of which the
    highest score counts; by default 1. Fitted thresholds use the views and the fusion of the fit.
    """
    image_only: bool = False
    """Omit the text tower; labels are kept, since their embeddings are stored."""
    text_only: bool = False
    """Omit the image tower and the labels."""
    precision: str = "float32"
    """The precision of the stored weights: float32, or bfloat16 or float16, which halve the size.
    They are converted to float32 when the export is loaded."""
    compute: str = FLOAT32
    """Number format in which the SavedModel computes: float32, or bfloat16 for processors and GPUs
    that multiply it; thresholds must have been fitted with evaluate --compute of the same."""
    litert: Path | None = None
    """Also write the image tower for LiteRT, with float16 weights, to this .tflite file: it takes
    pixels (1, S, S, 3) uint8 and returns an embedding. The text tower is written beside it as
    NAME-text.tflite: it takes token ids and their mask, (1, L) int32."""
    onnx: Path | None = None
    """Write the towers as ONNX models to this new folder, in the layout that Immich reads:
    visual/ and textual/ with preprocessing and tokenizer.json. Needs the extra [onnx]."""
    hf: Path | None = None
    """Write a model of CLIP's architecture to this new folder for transformers' CLIPModel."""
    open_clip: Path | None = None
    """Write a model of CLIP's architecture to this new folder for open_clip."""

    def __post_init__(self):
        if not self.run.is_dir():
            raise FileNotFoundError(
                f"no run at {self.run}; train one with: python -m tfclip.fit RECIPE --records DIR "
                "--run RUN"
            )
        self._check_places()
        self._check_compute()
        if self.image_only and self.text_only:
            raise ValueError("received --image-only and --text-only; give one of them")
        if self.text_only and (self.label_words not in ((FITTED,), (NONE,)) or self.litert):
            raise ValueError(
                "received --text-only, which omits the image tower; --labels and --litert need it; "
                "give one or the other"
            )
        if self.templates is not None:
            templates_by_name(self.templates)
        for flag in ("templates", "tiles", "class_words"):
            is_free = not self.is_fitted or self.label_words == (NONE,)
            if getattr(self, flag) is not None and not is_free:
                name = flag.replace("_", "-")
                raise ValueError(
                    f"received --{name} {getattr(self, flag)}, but fitted thresholds use the "
                    f"{name} of the fit; omit --{name}, or add --thresholds none"
                )
        self._check_decision()
        tile_groups(self.tiles or "1")
        self.variant()
        self.classifier()

    def _check_places(self) -> None:
        if self.out is None and not self.other_formats:
            raise ValueError(
                "received no --out; give the folder of the SavedModel, or --onnx, --hf or "
                "--open-clip DIR"
            )
        if self.out is None and self.litert is not None:
            raise ValueError("received --litert without --out, which it is written with; give both")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise FileExistsError(f"--out {self.out} is a file; give a directory")
        for path in self.litert_files:
            if path.exists():
                raise FileExistsError(f"--litert {path} exists already; give another name")
        for flag, folder in self.other_formats.items():
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise FileExistsError(f"--{flag} {folder} exists already; give a new folder")
        if (self.hf or self.open_clip) and (self.image_only or self.text_only):
            raise ValueError(
                "received --image-only or --text-only with --hf or --open-clip, which hold both "
                "towers; give one or the other"
            )
        if self.onnx is not None:
            require_onnx()

    def _check_compute(self) -> None:
        if self.compute not in EXPORTED:
            raise unknown("--compute", self.compute, EXPORTED)
        if self.compute == BFLOAT16 and (self.other_formats or self.litert):
            raise ValueError(
                "received --compute bfloat16 with --litert, --onnx, --hf or --open-clip, which "
                "hold weights in their own formats; export them without it"
            )

    @property
    def other_formats(self) -> dict[str, Path]:
        """The folders of the formats besides the SavedModel, by flag."""
        named = {"onnx": self.onnx, "hf": self.hf, "open-clip": self.open_clip}
        return {flag: folder for flag, folder in named.items() if folder is not None}

    @property
    def litert_files(self) -> tuple[Path, ...]:
        """The files of --litert: the image tower, and the text tower if it is exported."""
        if self.litert is None:
            return ()
        text = self.litert.with_name(f"{self.litert.stem}-text{self.litert.suffix}")
        has_text = TEXT_MODALITY in self.variant().modalities
        return (self.litert, text) if has_text else (self.litert,)

    @property
    def label_words(self) -> tuple[str, ...]:
        """The words of --labels; from Python it may be one text."""
        return (self.labels,) if isinstance(self.labels, str) else tuple(self.labels)

    @property
    def is_fitted(self) -> bool:
        """Whether labels, prompts and views are those of fitted thresholds."""
        is_other = self.threshold is not None and self.label_words != (FITTED,)
        return self.thresholds != NONE and not is_other

    def _check_decision(self) -> None:
        if self.threshold is not None:
            if not math.isfinite(self.threshold):
                raise ValueError(f"received --threshold {self.threshold}; allowed: a finite cosine")
            if self.thresholds != FITTED:
                raise ValueError(
                    f"received --threshold {self.threshold} and --thresholds {self.thresholds}, "
                    "which both decide; give one"
                )
        if self.objective is not None:
            parse_objective(self.objective)
            if not self.is_fitted or self.threshold is not None:
                raise ValueError(
                    f"received --objective {self.objective}, which fits thresholds, and "
                    "--threshold or --thresholds none; give one"
                )

    def variant(self) -> Variant:
        """Return which towers are written, and their precision.

        Raises:
            ValueError: for an unknown precision.
        """
        has_own_labels = self.label_words not in ((FITTED,), (VOC,), (NONE,))
        modalities: tuple[str, ...] = MODALITIES
        if self.text_only:
            modalities = (TEXT_MODALITY,)
        elif self.image_only or has_own_labels:
            modalities = (IMAGE_MODALITY,)
        return Variant(modalities, self.precision)

    def classifier(self, words: ClassWords = ClassWords()) -> Classifier | None:  # noqa: B008
        """Return the labels of `classify` with their prompts and thresholds, or None.

        Args:
            words: of the classes, see `words`.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, or a label has no fitted threshold.
        """
        if self.label_words == (NONE,) or self.text_only or self.out is None:
            prompts = (self.templates, self.class_words)
            given = (self.thresholds, *prompts, self.tiles, self.threshold, self.objective)
            if given != (FITTED, None, None, None, None, None):
                raise ValueError(
                    "received --labels none, --text-only or no --out, which write no classifier; "
                    "omit --thresholds, --threshold, --objective, --templates, --class-words "
                    "and --tiles"
                )
            if self.out is None and self.label_words not in ((FITTED,), (NONE,)):
                raise ValueError(
                    "received --labels without --out: labels are part of the SavedModel; give --out"
                )
            return None
        labels = self._labels()
        if self.is_fitted:
            named = self.thresholds != FITTED
            path = Path(self.thresholds) if named else self.run / THRESHOLDS_FILE
            origin = f"--labels {' '.join(self.label_words)}"
            names = None if labels is None else labels.names
            classifier = Classifier.from_thresholds(
                path, self.run, names, origin, self.objective, self.compute
            )
        else:
            labels = self._unfitted_labels()
            check_class_words(self.class_words, labels, self.run)
            classifier = Classifier.from_texts(
                labels.names, self.tiles or "1", templates=labels.templates, words=words
            )
        return classifier if self.threshold is None else classifier.with_threshold(self.threshold)

    def words(self) -> ClassWords:
        """Return the words that --class-words gives the labels."""
        if self.class_words is None:
            return ClassWords()
        return label_class_words(self.class_words, self._unfitted_labels(), self.run)

    def _unfitted_labels(self) -> Labels:
        """Return the labels with --thresholds none or --threshold."""
        labels = self._labels()
        if labels is not None:
            return labels
        path = self.run / THRESHOLDS_FILE
        names = Classifier.from_thresholds(path, self.run, compute=self.compute).labels
        return Labels(names, self.templates or CLASS_TEMPLATES)

    def _labels(self) -> Labels | None:
        """Return the labels that --labels names, or None for those of the thresholds file."""
        if self.label_words == (FITTED,):
            return None
        return read_label_words(self.label_words, self.templates)


def export(flags: ExportFlags) -> dict:
    """Write the SavedModel and the other formats; print their paths, labels and signatures."""
    classifier = flags.classifier(flags.words())

    from tfclip.models.saving import load_model

    model = load_model(flags.run)
    if flags.compute == BFLOAT16:
        from tfclip.models.in_bfloat16 import in_bfloat16

        model = in_bfloat16(model)
    written = {}
    if flags.out is not None:
        written = _write_saved_model(flags, flags.out, model, classifier)
    if flags.onnx is not None:
        written["onnx"] = _write_onnx(model, flags.onnx, flags.variant())
    written |= _write_clip(model, flags)
    return written


def _write_clip(model: "TrainedModel", flags: ExportFlags) -> dict[str, str]:
    """Write the folders of transformers and open_clip that the flags name."""
    from tfclip.serving.formats.clip_folders import write_hugging_face, write_open_clip

    written = {}
    for flag, write in (("hf", write_hugging_face), ("open-clip", write_open_clip)):
        if (folder := flags.other_formats.get(flag)) is None:
            continue
        notes = write(model, folder)
        licence = dict(model.trained_on).get("licence", "not stated by the source")
        size = sum(file.stat().st_size for file in folder.iterdir())
        say(f"{folder}: {size / 1e6:.1f} MB; licence: {licence}")
        for note in notes:
            say(f"note: {note}")
        written[flag] = str(folder)
    return written


def _write_saved_model(
    flags: ExportFlags, out: Path, model: "TrainedModel", classifier: Classifier | None
) -> dict:
    from tfclip.inputs.text import check_lengths
    from tfclip.serving.litert import write_litert
    from tfclip.serving.operating_points import read_operating_points
    from tfclip.serving.saved_model import write_saved_model
    from tfclip.serving.signatures import signature_names
    from tfclip.serving.warmup import can_warm_up

    if classifier is not None and not flags.is_fitted:
        check_lengths(classifier.every_text, model.tokenizer)
    variant = flags.variant()
    points = None
    if classifier is not None and classifier.thresholds is not None:
        points = read_operating_points(flags.run, classifier.labels)
    path = write_saved_model(model, out, classifier, variant, points)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    signatures = sorted(signature_names(classifier is not None, variant.modalities))
    labels = f"{len(classifier.labels)} labels" if classifier else "no labels"
    say(f"{path}: {size / 1e6:.1f} MB, {labels}; signatures {', '.join(signatures)}")
    if classifier is not None:
        say(_decision(classifier))
    if not can_warm_up():
        say(
            "note: no warm-up requests were written; for them install the extra: "
            "pip install 'tfclip[serving]', and export again"
        )
    if flags.litert is not None:
        write_litert(model, *flags.litert_files)
        for file, tower in zip(flags.litert_files, ("image", "text"), strict=False):
            say(f"{file}: {file.stat().st_size / 1e6:.1f} MB, the {tower} tower")
    say(f"check it with: python -m tfclip.serve check {out}")
    return {
        "path": str(path),
        "bytes": size,
        "labels": list(classifier.labels) if classifier else [],
        "tiles": classifier.tiles if classifier else None,
        "signatures": signatures,
        "litert": str(flags.litert) if flags.litert else None,
    }


def _write_onnx(model: "TrainedModel", place: Path, variant: Variant) -> dict:
    from tfclip.serving.formats.onnx_folder import write_onnx

    report = write_onnx(model, place, variant.modalities)
    for folder, modality in (("visual", IMAGE_MODALITY), ("textual", TEXT_MODALITY)):
        if modality in report.differences:
            path = place / folder / "model.onnx"
            say(
                f"{path}: {path.stat().st_size / 1e6:.1f} MB; embeddings differ from TensorFlow's "
                f"by at most {report.differences[modality]:.1g}"
            )
    if report.problem is not None:
        say(
            f"note: tokenizer.json was left out ({report.differing} of {report.texts} texts "
            f"differ): {report.problem}"
        )
    elif report.tokenizer:
        say(f"tokenizer.json: the ids of {report.texts} of {report.texts} texts are the model's")
    return {"folder": str(place), **asdict(report)}


def _decision(classifier: Classifier) -> str:
    """Describe the meaning of `predicted` of `classify`."""
    if classifier.thresholds is None:
        return (
            "no thresholds: `predicted` is true only for the label with the highest score, whether "
            "or not it is in the picture; fit thresholds to decide each label separately"
        )
    low, high = min(classifier.thresholds), max(classifier.thresholds)
    return f"`predicted`: score at or above the threshold of each label, {low:.3f} to {high:.3f}"


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("tfclip.export", Command(ExportFlags, export), argv)


if __name__ == "__main__":
    sys.exit(main())
