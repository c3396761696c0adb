"""python -m tfclip.export RUN: write one SavedModel that takes raw pictures and raw strings."""

import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from tfclip.console import Command, run, say
from tfclip.evaluation.prompts import templates_by_name
from tfclip.inputs.tiles import tile_groups
from tfclip.serving.classifier import THRESHOLDS_FILE, Classifier, read_labels
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
    official classes), a text file with one label per line, or none for no classifier."""
    thresholds: str = FITTED
    """The decisions of `classify`: fitted (RUN/thresholds.json), another such file, or none: then
    the label with the highest score is predicted, and no other."""
    templates: str | None = None
    """With --thresholds none: the prompts of the labels, by name; single when not given. Fitted
    thresholds bring the prompts they were fitted with."""
    tiles: str | None = None
    """With --thresholds none: the views of a picture, 1, 1+4, 1+9 or 1+4+9, of which the highest
    score counts; 1 when not given. Fitted thresholds bring theirs, and their fusion."""

    def __post_init__(self):
        if not self.run.is_dir():
            raise FileNotFoundError(
                f"no run at {self.run}; train one with: python -m tfclip.fit RECIPE --records DIR "
                "--run RUN"
            )
        if self.out.exists() and not self.out.is_dir():
            raise FileExistsError(f"--out {self.out} is a file; give a directory")
        if self.templates is not None:
            templates_by_name(self.templates)
        for flag in ("templates", "tiles"):
            if getattr(self, flag) is not None and (NONE not in (self.thresholds, self.labels)):
                raise ValueError(
                    f"received --{flag} {getattr(self, flag)}, but fitted thresholds bring the "
                    f"{flag} they were fitted with; leave it out, or add --thresholds none"
                )
        tile_groups(self.tiles or "1")
        self.classifier()

    def classifier(self) -> Classifier | None:
        """Return what `classify` answers with, or None.

        Raises:
            FileNotFoundError: a file is not there.
            ValueError: a file is damaged, or a label has no fitted threshold.
        """
        if self.labels == NONE:
            if (self.thresholds, self.templates, self.tiles) != (FITTED, None, None):
                raise ValueError(
                    "received --labels none, which makes no classifier; leave out --thresholds, "
                    "--templates and --tiles"
                )
            return None
        labels = self._labels()
        if self.thresholds != NONE:
            named = self.thresholds != FITTED
            path = Path(self.thresholds) if named else self.run / THRESHOLDS_FILE
            return Classifier.from_thresholds(path, self.run, labels, f"--labels {self.labels}")
        if labels is None:
            labels = Classifier.from_thresholds(self.run / THRESHOLDS_FILE, self.run).labels
        templates = templates_by_name(self.templates or "single")
        return Classifier.from_templates(labels, templates, self.tiles or "1")

    def _labels(self) -> tuple[str, ...] | None:
        """The labels by name, or None for those of the thresholds file."""
        if self.labels == FITTED:
            return None
        return CLASS_NAMES if self.labels == VOC else read_labels(Path(self.labels))


def export(flags: ExportFlags) -> dict:
    """Write the SavedModel and say where it lies and what it answers."""
    classifier = flags.classifier()

    from tfclip.inputs.text import check_lengths
    from tfclip.models.saved import load_model
    from tfclip.serving.saved_model import write_saved_model
    from tfclip.serving.signatures import signature_names

    model = load_model(flags.run)
    if classifier is not None and classifier.thresholds is None:
        check_lengths([text for texts in classifier.prompts for text in texts], model.tokenizer)
    path = write_saved_model(model, flags.out, classifier)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    signatures = sorted(signature_names(classifier is not None))
    labels = f"{len(classifier.labels)} labels" if classifier else "no labels"
    say(f"{path}: {size / 1e6:.1f} MB, {labels}; signatures {', '.join(signatures)}")
    say(f"check it with: python -m tfclip.serve check {flags.out}")
    return {
        "path": str(path),
        "bytes": size,
        "labels": list(classifier.labels) if classifier else [],
        "tiles": classifier.tiles if classifier else None,
        "signatures": signatures,
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("tfclip.export", Command(ExportFlags, export), argv)


if __name__ == "__main__":
    sys.exit(main())
