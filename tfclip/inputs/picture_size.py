"""The size of a model's square pictures, and how a picture is brought to it."""

from __future__ import annotations

from tfclip.config_file import without_defaults
from tfclip.naming import unknown

RESIZES = ("squash", "crop")
INTERPOLATIONS = ("area", "bilinear", "bicubic")
# How pictures were resized before there was a choice; files do not mention it.
RESIZE_DEFAULTS = {"resize": "squash", "interpolation": "area"}


class PictureSize(int):
    """The side S of square pictures in pixels, with the way a whole picture is resized to it.

    Args:
        side: S.
        resize: "squash" changes the proportions; "crop" scales the shorter side to S and keeps the
            middle of the longer one, as OpenAI's CLIP does. Parts that are cut out of a picture
            (regions, tiles, drawn crops) are squashed in both cases, so that nothing of them is
            lost.
        interpolation: "area" (the mean of what lies under a pixel; enlarged bilinearly), or
            "bilinear" or "bicubic" with antialiasing, as Pillow has them.

    Raises:
        ValueError: for another name.
    """

    resize: str
    interpolation: str

    def __new__(cls, side: int, resize: str = "squash", interpolation: str = "area"):
        """Make one; it compares and counts as the number `side`."""
        if resize not in RESIZES:
            raise unknown("resize", resize, RESIZES)
        if interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", interpolation, INTERPOLATIONS)
        size = super().__new__(cls, side)
        size.resize, size.interpolation = resize, interpolation
        return size

    def __getnewargs__(self):
        """What a copy is made from."""
        return int(self), self.resize, self.interpolation

    def squashed(self) -> PictureSize:
        """The same size and interpolation for a part that must not lose its ends."""
        return PictureSize(self, "squash", self.interpolation)

    def non_defaults(self) -> dict[str, str]:
        """The settings that differ from `RESIZE_DEFAULTS`, for fingerprints."""
        settings = {"resize": self.resize, "interpolation": self.interpolation}
        return without_defaults(settings, RESIZE_DEFAULTS)


def picture_size(size: int) -> PictureSize:
    """`size` as it is, or a plain number squashed by area."""
    return size if isinstance(size, PictureSize) else PictureSize(size)
