"""Flags of make_records' subcommands on packed records: verify, duplicates, inspect, score."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from tfclip.records.options import PackOptions


@dataclass(frozen=True)
class VerifyFlags:
    """Check every byte, count and hash of packed records; exit code 1 when there is a problem."""

    records: Positional[Path]
    """A directory of packed records."""
    repair: bool = False
    """Pack the damaged shards again; needs --data."""
    data: Path | None = None
    """The folder of the data set that the records were packed from, for --repair."""
    workers: int = PackOptions().workers
    """Processes that check pictures, for --repair."""

    def __post_init__(self):
        if self.repair != (self.data is not None):
            raise ValueError(
                "--repair and --data belong together: --repair packs shards again from --data "
                "DIR, the data set"
            )
        if self.workers < 1:
            raise ValueError(f"received --workers {self.workers}; allowed: 1 or more")


@dataclass(frozen=True)
class DuplicatesFlags:
    """Find repeated pictures and captions in packed records, within and across sets."""

    records: Positional[tuple[str, ...]]
    """Packed records, DIR or DIR:SPLIT; several are compared with each other."""
    out: Path | None = None
    """A file for the list of repeated pictures, duplicates.jsonl."""
    threads: int = 2
    """The number of threads that hash pictures."""

    def __post_init__(self):
        if self.threads < 1:
            raise ValueError(f"received --threads {self.threads}; allowed: 1 or more")
        if not self.records:
            raise ValueError("missing: RECORDS, one or more directories of packed records")


@dataclass(frozen=True)
class InspectFlags:
    """Draw a contact sheet of packed records with captions and boxes, and print statistics."""

    records: Positional[Path]
    """A directory of packed records."""
    out: Path
    """The picture to write, sheet.png."""
    split: str | None = None
    """The split; by default the sheet shows the first one, and the statistics cover all."""
    pictures: int = 16
    """The largest number of pictures on the sheet."""
    seed: int = 0
    """Seed of the sample of pictures."""

    def __post_init__(self):
        if self.pictures < 1:
            raise ValueError(f"received --pictures {self.pictures}; allowed: 1 or more")


@dataclass(frozen=True)
class ScoreFlags:
    """Store a score for each caption, its cosine with the picture, and optionally drop the worst.

    If the run was trained on these pictures, models like it are trained by cross-validation, each
    without the pictures that it scores.
    """

    records: Positional[Path]
    """A directory of packed records, which is not changed."""
    out: Path
    """The directory to create: the same records with the feature image/caption/score."""
    run: Path | None = None
    """The run whose model scores the captions; by default the stored scores are used."""
    drop_worst: float = 0.0
    """Drop this fraction of the captions, those with the lowest cosines, such as 0.1."""
    splits: tuple[str, ...] = ()
    """The splits to score; by default those for training. The others are copied."""
    folds: int = 3
    """The number of folds, each with a model, if the run was trained on the pictures; 1 uses the
    model of the run."""
    sheet: Path | None = None
    """A contact sheet of the worst pairs; by default OUT-worst.png."""
    pictures: int = 16
    """The largest number of pairs on it."""
    overwrite: bool = False
    """Replace a finished set as soon as the new one is complete."""

    def __post_init__(self):
        if not 0 <= self.drop_worst < 1:
            raise ValueError(
                f"received --drop-worst {self.drop_worst}; allowed: 0 to below 1, such as 0.1"
            )
        for name in ("folds", "pictures"):
            if getattr(self, name) < 1:
                raise ValueError(f"received --{name} {getattr(self, name)}; allowed: 1 or more")
        if self.out.resolve() == self.records.resolve():
            raise ValueError(f"--out {self.out} is the same as RECORDS; give another directory")
