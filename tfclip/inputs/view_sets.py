"""Fixed sets of views of a picture, by name; stored features hold each of them."""

from __future__ import annotations

from dataclasses import dataclass

from tfclip.naming import unknown

WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class View:
    """One fixed way to see a picture: a box y0,x0,y1,x1 in shares of its sides, maybe mirrored."""

    box: tuple[float, float, float, float] = WHOLE
    mirrored: bool = False

    def to_list(self) -> list:
        """The same as JSON types."""
        return [*self.box, self.mirrored]


# What a locked tower sees of each training picture. The first view is the whole picture, which
# evaluation takes.
VIEW_SETS: dict[str, tuple[View, ...]] = {
    "1": (View(),),
    "2": (View(), View(mirrored=True)),
}


def view_set(name: str) -> tuple[View, ...]:
    """The views of that name.

    Raises:
        ValueError: for an unknown name; lists the known ones.
    """
    if name not in VIEW_SETS:
        raise unknown("set of views", name, VIEW_SETS)
    return VIEW_SETS[name]
