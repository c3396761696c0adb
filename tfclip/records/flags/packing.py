"""Flags of make_records that pack a source: PackFlags for all sources, a subclass for each kind."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from tfclip.records.options import SHUFFLED, PackOptions
from tfclip.sources.registry import TFDS
from tfclip.sources.sample import SourceOptions

# 256 bytes, the special tokens, and room for characters.
LEAST_VOCABULARY = 300


@dataclass(frozen=True)
class PackFlags:
    """Pack a data set: check and store its pictures, captions, regions and labels as TFRecords."""

    data: Path
    """The folder of the data set."""
    out: Path
    """The directory to create."""
    packing: PackOptions = field(default_factory=lambda: PackOptions(order=SHUFFLED))
    vocab: Path | None = None
    """A vocabulary to store with the records: a WordPiece vocab.txt, or the vocab.model of other
    records; by default one is learnt from the training captions."""
    vocab_size: int = 8000
    """The largest size of a learnt vocabulary."""
    cased: bool = False
    """Learn a vocabulary that distinguishes upper and lower case."""
    val_fraction: float = 0.0
    """For data without splits: hold out this fraction of the pictures as val, at random by --seed.
    Near-duplicates and pictures with the same --group-column stay in one split."""
    test_fraction: float = 0.0
    """The fraction to hold out as test."""
    fix_text: bool = False
    """Repair wrongly decoded captions and phrases (ftfy) and HTML entities, as the tokenizers of
    OpenAI's CLIP and open_clip do."""
    exclude_ids: Path | None = None
    """A file with the ids or file names of pictures to exclude, one per line; for visual_genome
    also COCO ids, coco/123."""
    exclude_images: Path | None = None
    """A folder of pictures to exclude, such as a test set: the same files, and near-duplicates by
    perceptual hash."""
    deduplicate: bool = False
    """Exclude pictures that repeat an earlier one, as the same file or as a near-duplicate by
    perceptual hash, and repeated captions."""
    runner: str | None = None
    """Pack with Apache Beam on this runner, for example DirectRunner; by default without Beam."""
    beam_options: tuple[str, ...] = ()
    """Options of the Beam runner, without dashes: direct_num_workers=4."""

    def __post_init__(self):
        for name, fraction in (("val", self.val_fraction), ("test", self.test_fraction)):
            if not 0 <= fraction < 1:
                raise ValueError(
                    f"received --{name}-fraction {fraction}; allowed: 0 to below 1, such as 0.1"
                )
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"received --val-fraction {self.val_fraction} and --test-fraction "
                f"{self.test_fraction}; allowed: a sum below 1, which leaves pictures to train on"
            )
        if self.vocab_size < LEAST_VOCABULARY:
            raise ValueError(
                f"received --vocab-size {self.vocab_size}; allowed: {LEAST_VOCABULARY} or more, "
                "because 256 entries are bytes"
            )
        if self.vocab is not None and self.cased:
            raise ValueError(
                "received --vocab and --cased; --cased is for a learnt vocabulary, the case of a "
                "given one is fixed"
            )
        if self.beam_options and self.runner is None:
            raise ValueError(
                "received --beam-options without --runner; add --runner, for example DirectRunner"
            )
        if self.vocab is not None and not self.vocab.is_file():
            raise FileNotFoundError(
                f"no vocabulary at {self.vocab}; --vocab takes a vocab.txt or a vocab.model"
            )

    def source_options(self) -> SourceOptions:
        """Return the options of the source: the flags of the same names."""
        names = {option.name for option in fields(SourceOptions)}
        given = {flag.name: getattr(self, flag.name) for flag in fields(self) if flag.name in names}
        return SourceOptions(seed=self.packing.seed, splits=self.packing.splits, **given)


@dataclass(frozen=True)
class LinkFlags(PackFlags):
    """Pack a data set of picture files with annotations."""

    follow_links: bool = False
    """Follow the links of a Hugging Face cache into its blobs folder."""


@dataclass(frozen=True)
class VisualGenomeFlags(LinkFlags):
    """Pack Visual Genome: region phrases with boxes, split at random when no id lists are given."""

    id_lists: dict[str, Path] = field(default_factory=dict)
    """For each split a file of image ids, one per line: train ids.txt val more.txt."""
    phrases_as_captions: bool = False
    """Also store the region phrases as captions of the whole picture."""


@dataclass(frozen=True)
class CocoFlags(LinkFlags):
    """Pack COCO: official or Karpathy's captions, and labels of instances_<split>.json."""

    labels: bool = False
    """Also store the classes of instances_<split>.json as labels; a class with crowd annotations
    only is difficult. Always on where there are no captions."""


@dataclass(frozen=True)
class VocFlags(LinkFlags):
    """Pack Pascal VOC, or other data in its layout."""

    class_names: tuple[str, ...] = ()
    """The class names, in order; by default Pascal's, or those in the annotations."""


@dataclass(frozen=True)
class ImageFolderFlags(LinkFlags):
    """Pack class folders, DIR/<class>/*.jpg or DIR/<split>/<class>/*.jpg; their names are
    labels."""

    caption_template: str | None = None
    """Template of a caption with the class name, "a photo of a {}."; by default no caption."""


@dataclass(frozen=True)
class CaptionTableFlags(PackFlags):
    """Pack a table of captions: .csv, .tsv or .jsonl, or a folder with one table per split."""

    images: Path | None = None
    """The folder that the paths are relative to; by default that of the table."""
    image_field: Annotated[str | None, arg(name="path-column")] = None
    """The column of picture paths; by default one with a usual name, such as image or path."""
    caption_fields: Annotated[tuple[str, ...], arg(name="caption-columns")] = ()
    """The columns of captions; by default those with a usual name, such as caption or text."""
    split_field: Annotated[str | None, arg(name="split-column")] = None
    """The column of the split; by default the name of the table gives the split, or train."""
    group_field: Annotated[str | None, arg(name="group-column")] = None
    """The column of group ids: pictures of one group stay in one split of --val-fraction."""
    separator: str | None = None
    """The character between columns; by default that of the extension, or found in the first
    line."""
    caption_separator: str | None = None
    """The character between several captions in one cell; JSON and Python lists need none."""
    labels_field: Annotated[str | None, arg(name="labels-column")] = None
    """The column that lists the classes of a picture."""
    labels_separator: str | None = None
    """The character between classes in one cell; by default | or ; JSON and Python lists need
    none."""
    label_fields: Annotated[tuple[str, ...], arg(name="label-columns")] = ()
    """Columns of 0 and 1 (-1: unknown), one per class."""
    class_names: tuple[str, ...] = ()
    """The class names, in order; by default sorted."""
    follow_links: bool = False
    """Follow the links of a Hugging Face cache into its blobs folder."""


@dataclass(frozen=True)
class ParquetFlags(PackFlags):
    """Pack parquet or Arrow tables that contain pictures, as of Hugging Face and img2dataset."""

    image_field: Annotated[str | None, arg(name="image-column")] = None
    """The column of pictures; by default one with a usual name, such as image."""
    caption_fields: Annotated[tuple[str, ...], arg(name="caption-columns")] = ()
    """The columns of captions; by default those with a usual name, such as caption or text."""
    caption_separator: str | None = None
    """The character between several captions in one cell; lists need none."""
    key_field: Annotated[str | None, arg(name="key-column")] = None
    """The column of picture ids; by default one with a usual name, such as id."""
    labels_field: Annotated[str | None, arg(name="labels-column")] = None
    """The column that lists the classes of a picture; by default a ClassLabel, without captions."""
    labels_separator: str | None = None
    """The character between classes in one cell; by default | or ; JSON and Python lists need
    none."""
    label_fields: Annotated[tuple[str, ...], arg(name="label-columns")] = ()
    """Columns of 0 and 1 (-1: unknown), one per class."""
    class_names: tuple[str, ...] = ()
    """The class names, in order; by default as in the table, or sorted."""


@dataclass(frozen=True)
class ForeignRecordsFlags(PackFlags):
    """Pack TFRecords of other programs: img2dataset, TF Model Garden's COCO, one record per
    caption."""

    image_field: Annotated[str | None, arg(name="image-feature")] = None
    """The feature with the encoded picture; by default one with a usual name."""
    caption_fields: Annotated[tuple[str, ...], arg(name="caption-features")] = ()
    """The features with captions; by default the first with a usual name."""
    key_field: Annotated[str | None, arg(name="key-feature")] = None
    """The feature with the id of the picture; by default one with a usual name."""
    boxes_as_regions: bool = False
    """Store labelled boxes as regions whose phrase is the class name."""


@dataclass(frozen=True)
class WebdatasetFlags(PackFlags):
    """Pack WebDataset shards: .tar files with NAME.jpg and NAME.txt or NAME.json."""

    caption_fields: Annotated[tuple[str, ...], arg(name="caption-fields")] = ()
    """The fields of NAME.json with captions; by default NAME.txt, or the field caption."""


@dataclass(frozen=True)
class ImageTextFlags(LinkFlags):
    """Pack pictures with text files of the same name: NAME.jpg with NAME.txt or NAME.json."""

    caption_fields: Annotated[tuple[str, ...], arg(name="caption-fields")] = ()
    """The fields of NAME.json with captions; by default NAME.txt, or the field caption."""


@dataclass(frozen=True)
class TfdsFlags(PackFlags):
    """Pack a data set of TensorFlow Datasets that has captions or labels."""

    image_field: Annotated[str | None, arg(name="image-feature")] = None
    """The feature with the picture; by default the only one."""
    caption_fields: Annotated[tuple[str, ...], arg(name="caption-features")] = ()
    """The features with captions, captions/text; by default those with a usual name."""
    caption_template: str | None = None
    """Template of a caption for each class, "a photo of a {}."; by default no caption."""
    boxes_as_regions: bool = False
    """Store labelled boxes as regions whose phrase is the class name."""


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
"""The flags of each source."""
