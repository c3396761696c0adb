"""How training examples are sampled from records: options that check themselves, no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from tfclip.inputs.view_sets import view_set
from tfclip.naming import unknown

# How records with regions are shown, and the share of the examples that show one by default.
REGIONS = {"whole": 0.0, "crop": 1.0, "context": 1.0, "mix": 2 / 3}


@dataclass(frozen=True)
class SamplingOptions:
    """How training examples are sampled from records."""

    captions: int = 1
    """Captions that come with each picture in a batch; all are its positives."""
    flip: bool = False
    """Mirror every second picture, but none whose text says left or right."""
    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Range of the area of the random crop of a whole picture, 1 1 for none."""
    views: str = "1"
    """The set of fixed views, by name, of which one is sampled each time a whole picture is
    shown."""
    regions: str = "whole"
    """How records with regions are shown: whole; crop (one region); context (one region and half
    of the others at least); or mix, of all three."""
    region_share: float | None = None
    """Share of the examples that show one region and its phrase; by default all with --regions crop
    and context, and two thirds with mix."""
    region_margin: float = 0.0
    """Largest margin around a region, in its sizes."""
    max_phrases: int | None = None
    """At most so many region phrases of each picture are trained on, chosen by --seed."""
    phrases: int = 1
    """2 joins two of a picture's region phrases into one text."""

    def __post_init__(self):
        """Check the values.

        Raises:
            ValueError: naming the flag, what was received and what is allowed.
        """
        view_set(self.views)
        if self.regions not in REGIONS:
            raise unknown("regions", self.regions, REGIONS)
        if self.phrases not in (1, 2):
            raise ValueError(f"--phrases must be 1 or 2; received {self.phrases}")
        if self.captions < 1:
            raise ValueError(f"--captions must be 1 or more; received {self.captions}")
        if self.max_phrases is not None and self.max_phrases < 1:
            raise ValueError(f"--max-phrases must be above 0; received {self.max_phrases}")
        if self.region_margin < 0:
            raise ValueError(f"--region-margin must be 0 or more; received {self.region_margin}")
        if self.region_share is not None and not 0 <= self.region_share <= 1:
            raise ValueError(f"--region-share must be 0 to 1; received {self.region_share}")
        if self.region_share and self.regions == "whole":
            raise ValueError(
                f"--region-share {self.region_share} needs --regions crop, context or mix; for "
                "whole pictures alone add --region-share 0"
            )
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(
                f"--crop-scale takes two shares, 0 < least <= greatest <= 1; "
                f"received {self.crop_scale[0]} {self.crop_scale[1]}"
            )
        if self.captions > 1:
            self.require_whole_pictures("--captions above 1")

    @property
    def share_of_regions(self) -> float:
        """The share of the examples of records with regions that show a region, 0 to 1."""
        return REGIONS[self.regions] if self.region_share is None else self.region_share

    def require_whole_pictures(self, flag: str) -> None:
        """Refuse regions and joined phrases, which `flag` cannot be combined with.

        Raises:
            ValueError: regions are shown or phrases are joined.
        """
        if self.share_of_regions or self.phrases > 1:
            raise ValueError(
                f"{flag} is for captions of whole pictures; leave out --regions and --phrases"
            )
