"""Named sets of fixed views of a picture; stored features contain one feature per view."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tfclip.naming import unknown

WHOLE = (0.0, 0.0, 1.0, 1.0)
# The version of the pixels of `inputs.images`, for stored features; raise it when they change.
PIXELS_VERSION = 1


@dataclass(frozen=True)
class View:
    """One view of a picture, always the same for that picture.

    Attributes:
        box: y0,x0,y1,x1 as fractions of the sides.
        crop: instead of `box`, the range of the area of a random box, as a fraction of the picture;
            the id of the picture is the seed.
        mirrored: whether the view is mirrored.
    """

    box: tuple[float, float, float, float] = WHOLE
    crop: tuple[float, float] | None = None
    mirrored: bool = False

    def to_dict(self) -> dict:
        """Return the view as JSON types."""
        return asdict(self)


# The first view is the whole picture, which evaluation uses.
VIEW_SETS: dict[str, tuple[View, ...]] = {
    "1": (View(),),
    "2": (View(), View(mirrored=True)),
    "4": (
        View(),
        View(mirrored=True),
        View(crop=(0.6, 0.85)),
        View(crop=(0.6, 0.85), mirrored=True),
    ),
}


def view_set(name: str) -> tuple[View, ...]:
    """Return the views of a set.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if name not in VIEW_SETS:
        raise unknown("set of views", name, VIEW_SETS)
    return VIEW_SETS[name]
