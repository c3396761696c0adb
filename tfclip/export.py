"""python -m tfclip.export RUN: write one SavedModel that takes raw pictures and raw strings."""

import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from tfclip.console import Command, run, say
from tfclip.evaluation.embedding.prompts import templates_by_name
from tfclip.inputs.tiles import tile_groups
from tfclip.serving.classifier import THRESHOLDS_FILE, Classifier, read_labels
from tfclip.serving.signatures import IMAGE_SIDE, SIDES, TEXT_SIDE, Variant
from tfclip.sources.voc import CLASS_NAMES

FITTED, VOC, NONE = "fitted", "voc", "none"


@dataclass(frozen=True)
class ExportFlags:
    """Write OUT/1, OUT/2, ...: a SavedModel for TensorFlow Serving, loadable without tfclip."""

    run: Positional[Path]
    """A run directory, or a model folder."""
    out: Path
    """Where the versions lie; the next free integer is written, nothing is overwritten."""
    labels: str = FITTED
    """What `classify` answers with: fitted (the classes of RUN/thresholds.json), voc (the 20
    official classes), none for no classifier, or a text file with one label per line, which makes
    a classifier of these labels: their embeddings are baked in and the text tower is left out."""
    thresholds: str = FITTED
    """The decisions of `classify`: fitted (RUN/thresholds.json), another such file, or none: then
    the label with the highest score is predicted, and no other."""
    templates: str | None = None
    """With --thresholds none: the prompts of the labels, by name; single when not given. Fitted
    thresholds bring the prompts they were fitted with."""
    tiles: str | None = None
    """With --thresholds none: the views of a picture, 1, 1+4, 1+9 or 1+4+9, of which the highest
    score counts; 1 when not given. Fitted thresholds bring theirs, and their fusion."""
    image_only: bool = False
    """Leave the text tower out; labels stay, since their embeddings are baked in."""
    text_only: bool = False
    """Leave the image tower and the labels out."""
    precision: str = "float32"
    """Of the stored weights: float32, or bfloat16 or float16, which halve the size. They become
    float32 when the export is loaded, and are computed with as such."""
    litert: Path | None = None
    """Also write the image tower for LiteRT, with float16 weights, to this .tflite file: pixels
    (1, S, S, 3) uint8 in, an embedding out."""

    def __post_init__(self):
        if not self.run.is_dir():
            raise FileNotFoundError(
                f"no run at {self.run}; train one with: python -m tfclip.fit RECIPE --records DIR "
                "--run RUN"
            )
        if self.out.exists() and not self.out.is_dir():
            raise FileExistsError(f"--out {self.out} is a file; give a directory")
        if self.image_only and self.text_only:
            raise ValueError("received --image-only and --text-only, which leave nothing; give one")
        if self.text_only and (self.labels not in (FITTED, NONE) or self.litert):
            raise ValueError(
                "received --text-only, which leaves out what --labels and --litert need; leave out "
                "one of them"
            )
        if self.litert is not None and self.litert.exists():
            raise FileExistsError(f"--litert {self.litert} is there already; give another name")
        if self.templates is not None:
            templates_by_name(self.templates)
        for flag in ("templates", "tiles"):
            if getattr(self, flag) is not None and (NONE not in (self.thresholds, self.labels)):
                raise ValueError(
                    f"received --{flag} {getattr(self, flag)}, but fitted thresholds bring the "
                    f"{flag} they were fitted with; leave it out, or add --thresholds none"
                )
        tile_groups(self.tiles or "1")
        self.variant()
        self.classifier()

    def variant(self) -> Variant:
        """Return which towers are written, and how; ValueError for an unknown precision."""
        is_own_list = self.labels not in (FITTED, VOC, NONE)
        sides = (TEXT_SIDE,) if self.text_only else SIDES
        if self.image_only or is_own_list:
            sides = (IMAGE_SIDE,)
        return Variant(sides, self.precision)

    def classifier(self) -> Classifier | None:
        """Return what `classify` answers with, or None.

        Raises:
            FileNotFoundError: a file is not there.
            ValueError: a file is damaged, or a label has no fitted threshold.
        """
        if self.labels == NONE or self.text_only:
            if (self.thresholds, self.templates, self.tiles) != (FITTED, None, None):
                raise ValueError(
                    "received --labels none or --text-only, which make no classifier; leave out "
                    "--thresholds, --templates and --tiles"
                )
            return None
        labels = self._labels()
        if self.thresholds != NONE:
            named = self.thresholds != FITTED
            path = Path(self.thresholds) if named else self.run / THRESHOLDS_FILE
            return Classifier.from_thresholds(path, self.run, labels, f"--labels {self.labels}")
        if labels is None:
            labels = Classifier.from_thresholds(self.run / THRESHOLDS_FILE, self.run).labels
        return Classifier.from_templates(labels, self.templates or "single", self.tiles or "1")

    def _labels(self) -> tuple[str, ...] | None:
        """The labels by name, or None for those of the thresholds file."""
        if self.labels == FITTED:
            return None
        return CLASS_NAMES if self.labels == VOC else read_labels(Path(self.labels))


def export(flags: ExportFlags) -> dict:
    """Write the SavedModel and say where it lies and what it answers."""
    classifier = flags.classifier()

    from tfclip.inputs.text import check_lengths
    from tfclip.models.saving import load_model
    from tfclip.serving.litert import write_litert
    from tfclip.serving.operating_points import read_operating_points
    from tfclip.serving.saved_model import write_saved_model
    from tfclip.serving.signatures import signature_names
    from tfclip.serving.warmup import can_warm_up

    model = load_model(flags.run)
    if classifier is not None and classifier.thresholds is None:
        check_lengths([text for texts in classifier.prompts for text in texts], model.tokenizer)
    variant = flags.variant()
    points = None
    if classifier is not None and classifier.thresholds is not None:
        points = read_operating_points(flags.run, classifier.labels)
    path = write_saved_model(model, flags.out, classifier, variant, points)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    signatures = sorted(signature_names(classifier is not None, variant.sides))
    labels = f"{len(classifier.labels)} labels" if classifier else "no labels"
    say(f"{path}: {size / 1e6:.1f} MB, {labels}; signatures {', '.join(signatures)}")
    if not can_warm_up():
        say("without warm-up requests: install tensorflow-serving-api, the extra [serving]")
    if flags.litert is not None:
        write_litert(model, flags.litert)
        say(f"{flags.litert}: {flags.litert.stat().st_size / 1e6:.1f} MB, the image tower")
    say(f"check it with: python -m tfclip.serve check {flags.out}")
    return {
        "path": str(path),
        "bytes": size,
        "labels": list(classifier.labels) if classifier else [],
        "tiles": classifier.tiles if classifier else None,
        "signatures": signatures,
        "litert": str(flags.litert) if flags.litert else None,
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("tfclip.export", Command(ExportFlags, export), argv)


if __name__ == "__main__":
    sys.exit(main())
