"""Fixed sets of views of a picture, by name; stored features hold each of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tfclip.naming import unknown

WHOLE = (0.0, 0.0, 1.0, 1.0)
# Names what `inputs.images` does to pixels, for stored features; raise it when that changes.
PIXELS_VERSION = 1


@dataclass(frozen=True)
class View:
    """One way to see a picture, which stays the same for that picture.

    Either its `box` y0,x0,y1,x1 in shares of the sides, or, with `crop`, a box whose share of the
    area lies in that range, drawn by the picture's id; maybe mirrored.
    """

    box: tuple[float, float, float, float] = WHOLE
    crop: tuple[float, float] | None = None
    mirrored: bool = False

    def to_dict(self) -> dict:
        """The same as JSON types."""
        return asdict(self)


# The first view is the whole picture, which evaluation takes.
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
    """The views of that name.

    Raises:
        ValueError: for an unknown name; lists the known ones.
    """
    if name not in VIEW_SETS:
        raise unknown("set of views", name, VIEW_SETS)
    return VIEW_SETS[name]
