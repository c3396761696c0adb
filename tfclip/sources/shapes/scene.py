"""A drawn scene: its shapes, their positions, and its pixels."""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
from PIL import Image, ImageDraw

# Hue in degrees, saturation, value. The hues are at least 45 degrees apart; the jitter is 6.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0, 0.90, 0.85),
    "green": (128, 0.80, 0.62),
    "blue": (226, 0.88, 0.85),
    "yellow": (53, 0.92, 0.95),
    "purple": (284, 0.75, 0.66),
    "cyan": (181, 0.85, 0.88),
}
BACKGROUNDS = ("plain", "shaded", "grainy", "striped", "cloudy")
LARGEST = {1: 0.70, 2: 0.55, 3: 0.48, 4: 0.42}
SMALLEST = 0.2
LEAST_VISIBLE = 0.75  # fraction of an item's pixels
OVERSAMPLING = 3

_Contours = Sequence[Sequence[tuple[float, float]]]


def _regular(corners: int, radius: float, turn: float = 0.0) -> list[tuple[float, float]]:
    angles = (2 * math.pi * k / corners + turn - math.pi / 2 for k in range(corners))
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _star(outer: float, inner: float) -> list[tuple[float, float]]:
    tips, dents = _regular(5, outer), _regular(5, inner, math.pi / 5)
    return [point for pair in zip(tips, dents, strict=True) for point in pair]


def _cross(arm: float, half: float) -> list[tuple[float, float]]:
    corner = [(half, -arm), (half, -half), (arm, -half)]
    turned = [(corner, 1, 0), (corner, 0, 1), (corner, -1, 0), (corner, 0, -1)]
    return [(x * c - y * s, x * s + y * c) for points, c, s in turned for x, y in points]


# Outline and hole of every shape, scaled to look equally large at the same diameter (2.0).
SHAPES: dict[str, _Contours] = {
    "circle": (_regular(40, 1.0),),
    "square": (_regular(4, 1.24, math.pi / 4),),
    "triangle": (_regular(3, 1.25),),
    "star": (_star(1.22, 0.5),),
    "cross": (_cross(1.06, 0.34),),
    "ring": (_regular(40, 1.05), _regular(40, 0.55)),
}


@dataclass(frozen=True, slots=True)
class Item:
    """One drawn shape.

    `diameter` is a fraction of the side of the picture; `box` holds left, top, right, bottom of the
    visible pixels (right and bottom exclusive).
    """

    colour: str
    shape: str
    diameter: float
    box: tuple[int, int, int, int]
    difficult: bool = False

    @property
    def name(self) -> str:
        """Colour and shape as a class name, for example "red circle"."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Scene:
    """The content of a picture of `size` x `size` pixels, with the lowest item first."""

    items: tuple[Item, ...]
    background: str
    size: int


@dataclass(slots=True)
class _Placed:
    """A shape at its position. `cut` computes its pixels, after the cheap tests of the geometry."""

    pair: str
    x: float
    y: float
    radius: float
    contours: _Contours  # around (x, y): the outline and perhaps a hole
    difficult: bool = False
    corner: tuple[int, int] = (0, 0)
    alpha: Image.Image | None = None
    visible: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))
    area: int = 0

    @property
    def colour(self) -> str:
        return self.pair.split()[0]

    def cut(self, size: int) -> None:
        """Compute the antialiased outline, and the mask of its pixels in the whole picture."""
        xs, ys = zip(*self.contours[0], strict=True)
        left, top = int(self.x + min(xs)), int(self.y + min(ys))
        wide, high = int(self.x + max(xs)) + 1 - left, int(self.y + max(ys)) + 1 - top
        across, down = self.x - left, self.y - top
        patch = Image.new("L", (wide * OVERSAMPLING, high * OVERSAMPLING))
        for fill, contour in zip((255, 0), self.contours, strict=False):
            points = [((across + x) * OVERSAMPLING, (down + y) * OVERSAMPLING) for x, y in contour]
            ImageDraw.Draw(patch).polygon(points, fill=fill)
        self.corner, self.alpha = (left, top), patch.reduce(OVERSAMPLING)
        self.visible = np.zeros((size, size), bool)
        self.visible[top : top + high, left : left + wide] = np.asarray(self.alpha) >= 64
        self.area = int(np.count_nonzero(self.visible))


def choose_pairs(rng: Random, first: str, number: int, allowed: Sequence[str]) -> list[str]:
    """Choose the colour-shape pairs of a scene that contains `first`.

    In most scenes the colours, the shapes or both are all different, so that the set of colours and
    the set of shapes do not determine the pairs.
    """
    pairs = [first]
    kind = rng.choices(("different", "two colours", "two shapes", "free"), (46, 20, 20, 14))[0]
    two_colours, two_shapes = zip(first.split(), rng.choice(allowed).split(), strict=True)
    while len(pairs) < number:
        colours, shapes = zip(*(pair.split() for pair in pairs), strict=True)
        fits = []
        for colour, shape in (pair.split() for pair in allowed):
            new_colour = colour in two_colours if kind == "two colours" else colour not in colours
            new_shape = shape in two_shapes if kind == "two shapes" else shape not in shapes
            if kind == "free" or (new_colour and new_shape):
                fits.append(f"{colour} {shape}")
        pairs.append(rng.choice(fits or allowed))
    rng.shuffle(pairs)
    return pairs


def draw_scene(
    rng: Random, pairs: Sequence[str], size: int, difficult: str | None = None
) -> tuple[Image.Image, Scene]:
    """Draw `pairs` at random positions, each sufficiently visible, and `difficult` tiny or covered.

    Returns the RGB picture of `size` x `size` pixels, and its content.
    """
    placed = None
    while placed is None:
        placed = _place_all(rng, pairs, size)
    if difficult is not None:
        placed = _add_difficult(rng, placed, difficult, size)
    background = rng.choice(BACKGROUNDS)
    picture = _background(rng, background, size)
    items = []
    for each in placed:
        picture.paste(_shade(rng, each.colour), each.corner, each.alpha)
        left, right = _extent(each.visible, axis=0)
        top, bottom = _extent(each.visible, axis=1)
        diameter = 2 * each.radius / size
        colour, shape = each.pair.split()
        box = (left, top, right, bottom)
        items.append(Item(colour, shape, diameter, box, each.difficult))
    return picture, Scene(tuple(items), background, size)


def _extent(mask: np.ndarray, axis: int) -> tuple[int, int]:
    inside = np.flatnonzero(np.any(mask, axis=axis))
    return int(inside[0]), int(inside[-1]) + 1


def _place_all(rng: Random, pairs: Sequence[str], size: int) -> list[_Placed] | None:
    placed: list[_Placed] = []
    for pair in pairs:
        radius = rng.uniform(SMALLEST, LARGEST[len(pairs)]) * size / 2
        contours = _turn(rng, pair, radius)
        tries = (_propose(rng, pair, radius, contours, size) for _ in range(30))
        if not any(_lay_on_top(placed, new, size) for new in tries):
            return None
    return placed


def _lay_on_top(placed: list[_Placed], new: _Placed, size: int) -> bool:
    """Add `new` above the others if they stay sufficiently visible; return whether it was added."""
    if not all(_apart(new, old) for old in placed):
        return False
    new.cut(size)
    left = [old.visible & ~new.visible for old in placed]
    for mask, old in zip(left, placed, strict=True):
        if np.count_nonzero(mask) < LEAST_VISIBLE * old.area:
            return False
    for mask, old in zip(left, placed, strict=True):
        old.visible = mask
    placed.append(new)
    return True


def _apart(new: _Placed, old: _Placed) -> bool:
    """Return whether two items stay distinguishable.

    Items of the same colour must not touch, because their outlines would merge. Of two colours,
    neither may cover the other's centre: a disc in the middle of a circle would look like a ring.
    """
    distance = math.hypot(new.x - old.x, new.y - old.y)
    if new.colour == old.colour:
        return distance > 1.25 * (new.radius + old.radius)
    return distance > 1.1 * max(new.radius, old.radius)


def _add_difficult(rng: Random, placed: list[_Placed], pair: str, size: int) -> list[_Placed]:
    """Add one difficult item: mostly covered by the others, or tiny and not covered."""
    covered = np.logical_or.reduce([each.visible for each in placed])
    same = [each for each in placed if each.colour == pair.split()[0]]
    tiny = rng.random() < 0.5
    for attempt in range(200):
        tiny = tiny or attempt >= 60
        radius = (rng.uniform(0.07, 0.11) if tiny else rng.uniform(0.2, 0.35)) * size / 2
        new = _propose(rng, pair, radius, _turn(rng, pair, radius), size)
        if not all(_apart(new, each) for each in same):
            continue
        new.cut(size)
        new.visible, new.difficult = new.visible & ~covered, True
        fraction = np.count_nonzero(new.visible) / new.area
        if fraction == 1.0 if tiny else 0.12 <= fraction <= 0.35:
            return [new, *placed]
    return placed


def _turn(rng: Random, pair: str, radius: float) -> _Contours:
    """Scale a shape to its radius and turn it slightly."""
    angle = math.radians(rng.uniform(-18, 18))
    cos, sin = radius * math.cos(angle), radius * math.sin(angle)
    return [
        [(x * cos - y * sin, x * sin + y * cos) for x, y in contour]
        for contour in SHAPES[pair.split()[1]]
    ]


def _propose(rng: Random, pair: str, radius: float, contours: _Contours, size: int) -> _Placed:
    """Return the shape at a random position wholly inside the picture."""
    xs, ys = zip(*contours[0], strict=True)
    x = rng.uniform(1 - min(xs), size - 1 - max(xs))
    y = rng.uniform(1 - min(ys), size - 1 - max(ys))
    return _Placed(pair, x, y, radius, contours)


def _shade(rng: Random, colour: str) -> tuple[int, int, int]:
    hue, saturation, value = COLOURS[colour]
    hue = (hue + rng.uniform(-6, 6)) / 360 % 1
    saturation = min(1.0, saturation + rng.uniform(-0.08, 0.08))
    value = min(1.0, value + rng.uniform(-0.08, 0.08))
    return _rgb(hue, saturation, value)


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _background(rng: Random, kind: str, size: int) -> Image.Image:
    """Paint two shades of a nearly grey colour, so that every item stands out."""
    value, hue, saturation = rng.uniform(0.2, 0.95), rng.random(), rng.uniform(0.0, 0.13)
    first = Image.new("RGB", (size, size), _rgb(hue, saturation, value))
    if kind == "plain":
        return first
    step = rng.choice((-1, 1)) * rng.uniform(0.12, 0.3)
    other = _rgb(hue, saturation, min(0.98, max(0.12, value + step)))
    first.paste(other, mask=_mixture(rng, kind, size))
    return first


def _mixture(rng: Random, kind: str, size: int) -> Image.Image:
    """Return the mask of the second shade, 0 to 255."""
    noise = np.random.default_rng(rng.getrandbits(32))
    if kind == "grainy":
        return Image.fromarray(noise.integers(0, 256, (size, size), np.uint8))
    if kind == "cloudy":
        cells = rng.randint(4, 9)
        blobs = Image.fromarray(noise.integers(0, 256, (cells, cells), np.uint8))
        return blobs.resize((size, size), Image.Resampling.BICUBIC)
    angle = rng.uniform(0, math.pi)
    line = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    across = line[None, :] * math.cos(angle) + line[:, None] * math.sin(angle)
    if kind == "striped":
        across = np.sin(across * (2 * math.pi * rng.uniform(4, 12))) * 3
    return Image.fromarray(np.clip(across * 255 + 127.5, 0, 255).astype(np.uint8))
