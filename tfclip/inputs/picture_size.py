"""The size of the square pictures of a model, and how pictures are resized to it."""

from __future__ import annotations

from tfclip.config_file import without_defaults
from tfclip.naming import unknown

RESIZES = ("squash", "crop")
INTERPOLATIONS = ("area", "bilinear", "bicubic")
# The settings of earlier versions; they are not written to files.
RESIZE_DEFAULTS = {"resize": "squash", "interpolation": "area"}


class PictureSize(int):
    """The side S of square pictures in pixels, and how whole pictures are resized to it.

    Args:
        side: S.
        resize: "squash" changes the proportions; "crop" scales the shorter side to S and keeps the
            middle of the longer one, as OpenAI's CLIP does. Parts of a picture (regions, tiles,
            random crops) are squashed in both cases, so that they are shown completely.
        interpolation: "area" (the mean of the area under a pixel; bilinear when enlarging), or
            "bilinear" or "bicubic" with antialiasing, as in Pillow.

    Raises:
        ValueError: for another name.
    """

    resize: str
    interpolation: str

    def __new__(cls, side: int, resize: str = "squash", interpolation: str = "area"):
        """Create the size; it compares and calculates as the integer `side`."""
        if resize not in RESIZES:
            raise unknown("resize", resize, RESIZES)
        if interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", interpolation, INTERPOLATIONS)
        size = super().__new__(cls, side)
        size.resize, size.interpolation = resize, interpolation
        return size

    def __getnewargs__(self):
        """Return the arguments of a copy."""
        return int(self), self.resize, self.interpolation

    def squashed(self) -> PictureSize:
        """Return the same size and interpolation with "squash", for parts of a picture."""
        return PictureSize(self, "squash", self.interpolation)

    def non_defaults(self) -> dict[str, str]:
        """Return the settings that differ from `RESIZE_DEFAULTS`, for fingerprints."""
        settings = {"resize": self.resize, "interpolation": self.interpolation}
        return without_defaults(settings, RESIZE_DEFAULTS)


def picture_size(size: int) -> PictureSize:
    """Return `size` as a `PictureSize`; a plain integer is squashed with area interpolation."""
    return size if isinstance(size, PictureSize) else PictureSize(size)
