"""Flags of make_records' subcommands on packed records: verify, duplicates, inspect, ..."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
    """Store scores of each caption, its cosines with the picture and with the picture's other
    captions, and optionally drop the worst.

    If the run was trained on these pictures, models like it are trained by cross-validation, each
    without the pictures that it scores.
    """

    records: Positional[Path]
    """A directory of packed records, which is not changed."""
    out: Path
    """The directory to create: the same records with the features image/caption/score and
    image/caption/agreement."""
    run: Path | None = None
    """The run whose model scores the captions; by default the stored scores are used."""
    drop_worst: float = 0.0
    """Drop this fraction of the captions, those that fit worst, such as 0.1."""
    worst_by: Literal["both", "cosine"] = "both"
    """What makes a caption fit badly: a low sum of its cosine with the picture and its mean cosine
    with the other captions of the picture (of three or more), or a low cosine with the picture
    alone."""
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


@dataclass(frozen=True)
class EmbedFlags:
    """Store the embeddings of a teacher beside the records, for fit --teacher NAME.

    A run whose towers were frozen, trained on these records, uses the stored outputs of its towers.
    """

    records: Positional[Path]
    """A directory of packed records; RECORDS/teachers/NAME is written."""
    teacher: Path
    """The teacher: a run directory, or a CLIP that tfclip convert has converted."""
    name: str | None = None
    """Name of the teacher for fit --teacher; by default the last part of its path."""
    splits: tuple[str, ...] = ()
    """The splits to embed; by default those for training."""
    views: str | None = None
    """Set of fixed views to embed, 1, 2 or 4; by default that of the run's training. fit --views
    may be the same or smaller."""
    precision: str = "float16"
    """Number format of the embeddings: float16 or float32."""
    size: int | None = None
    """Store so many principal components of the embeddings, again of unit norm: less disk, cheaper
    steps, and feature losses for a student of this --embed-dim. By default all numbers."""
    words: Path | None = None
    """Also embed a prompt for each word of a text file, one a line, for fit --teacher-words. A
    vocabulary will do, such as RUN/best/vocab.txt: only its whole words are used."""
    overwrite: bool = False
    """Replace the teacher of that name as soon as the new embeddings are complete."""

    def __post_init__(self):
        if self.views not in (None, "1", "2", "4"):
            raise ValueError(f"received --views {self.views}; allowed: 1, 2, 4")
        if self.size is not None and self.size < 1:
            raise ValueError(f"received --size {self.size}; allowed: 1 or more")
        if self.precision not in ("float16", "float32"):
            raise ValueError(f"received --precision {self.precision}; allowed: float16, float32")
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.name):
            raise ValueError(
                f"received --name {self.name}; allowed: letters, digits, '.', '_' and '-'"
            )
