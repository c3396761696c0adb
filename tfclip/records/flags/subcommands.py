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
    """Store how well each caption fits its picture, and leave out the worst: the cosine by a model.

    Where the run was trained on these pictures, models like it are trained, each without the part
    of the pictures that it scores.
    """

    records: Positional[Path]
    """A directory of packed records; it stays as it is."""
    out: Path
    """The directory to make: the same records with the feature image/caption/score."""
    run: Path | None = None
    """The run whose model rates the captions; without it the scores count that are there."""
    drop_worst: float = 0.0
    """Leave out this share of the captions, those with the lowest cosines: 0.1."""
    splits: tuple[str, ...] = ()
    """The splits to score; by default those for training. The others are copied."""
    folds: int = 3
    """Parts of the pictures, one model each, where the run was trained on them. 1 takes the run."""
    sheet: Path | None = None
    """A picture of the worst pairs, OUT-worst.png by default."""
    pictures: int = 16
    """Pairs in it, at most."""
    overwrite: bool = False
    """Replace a finished set, when the new one is complete."""

    def __post_init__(self):
        if not 0 <= self.drop_worst < 1:
            raise ValueError(
                f"received --drop-worst {self.drop_worst}; allowed: 0 to below 1, such as 0.1"
            )
        for name in ("folds", "pictures"):
            if getattr(self, name) < 1:
                raise ValueError(f"received --{name} {getattr(self, name)}; allowed: 1 or more")
        if self.out.resolve() == self.records.resolve():
            raise ValueError(f"--out {self.out} is RECORDS; give another directory")
