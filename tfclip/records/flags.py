"""The flags of make_records: what all sources take, what some take beside, and its other tasks."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from tfclip.records.options import SHUFFLED, PackOptions
from tfclip.sources.registry import TFDS
from tfclip.sources.sample import SourceOptions

# Bytes and special tokens, and some for characters.
LEAST_VOCABULARY = 300


@dataclass(frozen=True)
class PackFlags:
    """Pack a data set: check and store its pictures, captions, regions and labels as TFRecords."""

    data: Path
    """The folder of the data set."""
    out: Path
    """The directory to make."""
    packing: PackOptions = field(default_factory=lambda: PackOptions(order=SHUFFLED))
    vocab: Path | None = None
    """A vocabulary to put beside the records: a WordPiece vocab.txt, or the vocab.model of other
    records; by default one is learnt from the training captions."""
    vocab_size: int = 8000
    """The largest size of a learnt vocabulary."""
    cased: bool = False
    """Learn a vocabulary that keeps upper and lower case apart."""
    val_fraction: float = 0.0
    """For data without splits: hold out this share of the pictures as val, by --seed; pictures that
    are alike stay together, and so do those of one --group-column."""
    test_fraction: float = 0.0
    """The same for test."""
    exclude_ids: Path | None = None
    """A file of ids or file names of pictures to leave out, one per line; for visual_genome also
    coco/123."""
    exclude_images: Path | None = None
    """A folder of pictures, such as a test set: pictures that match one of them, as the same file
    or by perceptual hash, are left out."""
    deduplicate: bool = False
    """Leave out pictures that repeat an earlier one, as the same file or by perceptual hash, and
    repeated captions."""
    runner: str | None = None
    """Pack with Apache Beam, on DirectRunner or any other that Beam knows; by default without."""
    beam_options: tuple[str, ...] = ()
    """Beam's own options for --runner, without dashes: direct_num_workers=4."""

    def __post_init__(self):
        for name, fraction in (("val", self.val_fraction), ("test", self.test_fraction)):
            if not 0 <= fraction < 1:
                raise ValueError(
                    f"received --{name}-fraction {fraction}; allowed: 0 to below 1, such as 0.1"
                )
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError("--val-fraction and --test-fraction leave nothing to train on")
        if self.vocab_size < LEAST_VOCABULARY:
            raise ValueError(
                f"received --vocab-size {self.vocab_size}; allowed: {LEAST_VOCABULARY} or more, "
                "256 of which are bytes"
            )
        if self.vocab is not None and self.cased:
            raise ValueError("--cased is for a learnt vocabulary; a given one says it itself")
        if self.beam_options and self.runner is None:
            raise ValueError("--beam-options go with --runner, DirectRunner for instance")
        if self.vocab is not None and not self.vocab.is_file():
            raise FileNotFoundError(
                f"no vocabulary at {self.vocab}; --vocab takes a vocab.txt or a vocab.model"
            )

    def source_options(self) -> SourceOptions:
        """Return what the source is opened with: the flags that have the names of its options."""
        known = {option.name for option in fields(SourceOptions)}
        given = {flag.name: getattr(self, flag.name) for flag in fields(self) if flag.name in known}
        return SourceOptions(seed=self.packing.seed, splits=self.packing.splits, **given)


@dataclass(frozen=True)
class LinkFlags(PackFlags):
    """Pack a data set of annotations and pictures."""

    follow_links: bool = False
    """Follow the links of a Hugging Face cache into its own store."""


@dataclass(frozen=True)
class VisualGenomeFlags(LinkFlags):
    """Pack Visual Genome: region phrases with their boxes, split by seed when no ids are given."""

    id_lists: dict[str, Path] = field(default_factory=dict)
    """Files of image ids, one per line, for every split: train ids.txt val more.txt."""
    phrases_as_captions: bool = False
    """Store the region phrases as captions of the whole picture too."""


@dataclass(frozen=True)
class CocoFlags(LinkFlags):
    """Pack COCO: captions, official or Karpathy's; labels of instances_<split>.json."""

    labels: bool = False
    """Store the classes of instances_<split>.json too; what is crowds alone is difficult. Without
    any file of captions labels are stored by themselves."""


@dataclass(frozen=True)
class VocFlags(LinkFlags):
    """Pack Pascal VOC, or a set of one's own in its layout."""

    class_names: tuple[str, ...] = ()
    """The classes in their order; by default Pascal's, or those that the annotations name."""


@dataclass(frozen=True)
class ImageFolderFlags(LinkFlags):
    """Pack class folders, DIR/<class>/*.jpg or DIR/<split>/<class>/*.jpg; folders are labels."""

    caption_template: str | None = None
    """Give each picture a caption made of its class, "a photo of a {}."; by default none."""


@dataclass(frozen=True)
class CaptionTableFlags(PackFlags):
    """Pack a table of captions: .csv, .tsv or .jsonl, or a folder with one for each split."""

    images: Path | None = None
    """The folder that the paths start from; by default that of the table."""
    image_field: Annotated[str | None, arg(name="path-column")] = None
    """The column of paths; by default one that is named like one."""
    caption_fields: Annotated[tuple[str, ...], arg(name="caption-columns")] = ()
    """The columns of captions; by default those that are named like some."""
    split_field: Annotated[str | None, arg(name="split-column")] = None
    """The column that names the split of a row; by default the table's name does, or train."""
    group_field: Annotated[str | None, arg(name="group-column")] = None
    """The column that tells which pictures belong together, for --val-fraction."""
    separator: str | None = None
    """The sign between columns; by default that of the ending, or what the first line holds."""
    caption_separator: str | None = None
    """The sign between several captions in one cell; JSON and Python lists are read without."""
    labels_field: Annotated[str | None, arg(name="labels-column")] = None
    """The column that lists the classes of a picture."""
    labels_separator: str | None = None
    """The sign between classes in one cell; by default | or ; or that of a list."""
    label_fields: Annotated[tuple[str, ...], arg(name="label-columns")] = ()
    """Columns of 0 and 1 (-1: not known), one for each class."""
    class_names: tuple[str, ...] = ()
    """The classes in their order; by default sorted."""
    follow_links: bool = False
    """Follow the links of a Hugging Face cache into its own store."""


@dataclass(frozen=True)
class ParquetFlags(PackFlags):
    """Pack parquet or Arrow tables with pictures inside: Hugging Face's, img2dataset's."""

    image_field: Annotated[str | None, arg(name="image-column")] = None
    """The column of pictures; by default one of the usual names."""
    caption_fields: Annotated[tuple[str, ...], arg(name="caption-columns")] = ()
    """The columns of captions; by default those that are named like some."""
    caption_separator: str | None = None
    """The sign between several captions in one cell; lists are read without."""
    key_field: Annotated[str | None, arg(name="key-column")] = None
    """The column with the id of the picture; by default one of the usual names."""
    labels_field: Annotated[str | None, arg(name="labels-column")] = None
    """The column that lists the classes of a picture; without captions a ClassLabel by default."""
    labels_separator: str | None = None
    """The sign between classes in one cell; by default | or ; or that of a list."""
    label_fields: Annotated[tuple[str, ...], arg(name="label-columns")] = ()
    """Columns of 0 and 1 (-1: not known), one for each class."""
    class_names: tuple[str, ...] = ()
    """The classes in their order; by default sorted, or as the table has them."""


@dataclass(frozen=True)
class ForeignRecordsFlags(PackFlags):
    """Pack TFRecords that others wrote: img2dataset's, TF Model Garden's COCO, rows of captions."""

    image_field: Annotated[str | None, arg(name="image-feature")] = None
    """The feature with the encoded picture; by default one of the usual names."""
    caption_fields: Annotated[tuple[str, ...], arg(name="caption-features")] = ()
    """The features with captions; by default the first of the usual names."""
    key_field: Annotated[str | None, arg(name="key-feature")] = None
    """The feature with the id of the picture; by default one of the usual names."""
    boxes_as_regions: bool = False
    """Store objects as regions, with the class name for a phrase."""


@dataclass(frozen=True)
class WebdatasetFlags(PackFlags):
    """Pack webdataset shards: .tar files holding NAME.jpg with NAME.txt or NAME.json."""

    caption_fields: Annotated[tuple[str, ...], arg(name="caption-fields")] = ()
    """Take captions from these fields of NAME.json; by default from NAME.txt, or caption."""


@dataclass(frozen=True)
class ImageTextFlags(LinkFlags):
    """Pack pictures with texts in files of the same name: NAME.jpg with NAME.txt or NAME.json."""

    caption_fields: Annotated[tuple[str, ...], arg(name="caption-fields")] = ()
    """Take captions from these fields of NAME.json; by default from NAME.txt, or caption."""


@dataclass(frozen=True)
class TfdsFlags(PackFlags):
    """Pack a data set of TensorFlow Datasets that has captions or labels."""

    image_field: Annotated[str | None, arg(name="image-feature")] = None
    """The feature with the picture; by default the only one."""
    caption_fields: Annotated[tuple[str, ...], arg(name="caption-features")] = ()
    """The features with captions, captions/text; by default those named like some."""
    caption_template: str | None = None
    """Make a caption of each class of a picture, "a photo of a {}."; by default none."""
    boxes_as_regions: bool = False
    """Store objects as regions, with the class name for a phrase."""


FLAGS = {
    "visual_genome": VisualGenomeFlags,
    "open_images": VocFlags,
    "coco": CocoFlags,
    "flickr8k": LinkFlags,
    "flickr30k": LinkFlags,
    "voc": VocFlags,
    "image_folder": ImageFolderFlags,
    "caption_table": CaptionTableFlags,
    "parquet": ParquetFlags,
    "foreign_tfrecord": ForeignRecordsFlags,
    "webdataset": WebdatasetFlags,
    "image_text": ImageTextFlags,
    TFDS: TfdsFlags,
}
"""What the sources take beside the flags of all."""


@dataclass(frozen=True)
class VerifyFlags:
    """Check every byte, count and hash of packed records; exit code 1 when something is wrong."""

    records: Positional[Path]
    """A directory of packed records."""
    repair: bool = False
    """Pack the damaged shards again, and those alone; needs --data."""
    data: Path | None = None
    """The folder of the data set that the records were packed from, for --repair."""
    workers: int = PackOptions().workers
    """Processes that check pictures, for --repair."""

    def __post_init__(self):
        if self.repair != (self.data is not None):
            raise ValueError("--repair packs shards again, and takes --data DIR, the data set")
        if self.workers < 1:
            raise ValueError(f"received --workers {self.workers}; allowed: 1 or more")


@dataclass(frozen=True)
class DuplicatesFlags:
    """Find pictures and captions that packed records hold several times, within and across sets."""

    records: Positional[tuple[str, ...]]
    """Packed records, DIR or DIR:SPLIT; several are compared with each other."""
    out: Path | None = None
    """A file to list every repeated picture in, duplicates.jsonl."""
    threads: int = 2
    """Pictures that are looked at side by side."""

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
    """What to look at; by default the sheet shows the first split, and all of them are counted."""
    pictures: int = 16
    """At most so many."""
    seed: int = 0
    """Decides which."""

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
