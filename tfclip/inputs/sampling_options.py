"""Options for sampling training examples from records; needs no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

from tfclip.inputs.view_sets import view_set
from tfclip.naming import unknown

# The values of --regions, with the default fraction of examples that show a region.
REGIONS = {"whole": 0.0, "crop": 1.0, "context": 1.0, "mix": 2 / 3}


@dataclass(frozen=True)
class SamplingOptions:
    """How training examples are sampled from records."""

    captions: int = 1
    """Captions per picture in a batch; all are positives of the picture."""
    flip: bool = False
    """Mirror half of the pictures at random, except those whose text contains left or right."""
    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Range of the area of random crops of whole pictures, as fractions; 1 1 for no crop."""
    views: str = "1"
    """Set of fixed views, 1, 2 or 4, from which one is sampled each time a whole picture is
    used."""
    regions: str = "whole"
    """Part of a picture with regions to train on: whole; crop (a region); context (a region with at
    least half of the others); or mix, all three."""
    region_share: float | None = None
    """Fraction of the examples that show a region with its phrase; by default all with --regions
    crop and context, and two thirds with mix."""
    region_margin: float = 0.0
    """Largest random margin around a region, relative to its size."""
    max_phrases: int | None = None
    """Largest number of region phrases per picture to train on, chosen by --seed."""
    phrases: int = 1
    """Region phrases per text; 2 joins two of them by "and"."""

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
                "whole pictures only, add --region-share 0"
            )
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(
                f"--crop-scale must be two fractions, 0 < smallest <= largest <= 1; received "
                f"{self.crop_scale[0]} {self.crop_scale[1]}"
            )
        if self.captions > 1:
            self.require_whole_pictures("--captions above 1")

    @property
    def share_of_regions(self) -> float:
        """Return the fraction of examples of records with regions that show a region, 0 to 1."""
        return REGIONS[self.regions] if self.region_share is None else self.region_share

    def require_whole_pictures(self, flag: str) -> None:
        """Refuse regions and joined phrases, which `flag` cannot be combined with.

        Raises:
            ValueError: regions are shown or phrases are joined.
        """
        if self.share_of_regions or self.phrases > 1:
            raise ValueError(
                f"{flag} needs captions of whole pictures; omit --regions and --phrases"
            )
