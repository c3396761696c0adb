"""The size of a model's square pictures, and how a picture is brought to it."""

from __future__ import annotations

from tfclip.naming import unknown

RESIZES = ("squash", "crop")
INTERPOLATIONS = ("area", "bilinear", "bicubic")


class PictureSize(int):
    """The side S of square pictures in pixels, which also says how a whole picture gets there.

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
        """What differs from squashing by area, for fingerprints and files from before."""
        found = {"resize": self.resize, "interpolation": self.interpolation}
        return {k: v for k, v in found.items() if v not in ("squash", "area")}


def picture_size(size: int) -> PictureSize:
    """`size` as it is, or a plain number squashed by area."""
    return size if isinstance(size, PictureSize) else PictureSize(size)
