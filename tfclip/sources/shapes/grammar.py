"""Grammar of true captions and region phrases of a drawn scene."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from tfclip.sources.shapes.scene import Item, Scene

# The first word of a row is that of the class name, and the most frequent one.
COLOUR_WORDS = {
    "red": ("red", "crimson", "scarlet"),
    "green": ("green", "emerald"),
    "blue": ("blue", "cobalt", "sapphire"),
    "yellow": ("yellow", "golden", "lemon"),
    "purple": ("purple", "violet"),
    "cyan": ("cyan", "turquoise", "aqua"),
}
SHAPE_WORDS = {
    "circle": ("circle", "disc", "disk", "round shape"),
    "square": ("square", "box", "block"),
    "triangle": ("triangle", "three-sided shape"),
    "star": ("star", "five-pointed star"),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "hoop"),
}
# The largest and smallest diameter, as fractions of the side, for which the words are true.
SMALL_WORDS, SMALL = ("small", "little", "tiny"), 0.26
LARGE_WORDS, LARGE = ("large", "big"), 0.42
NUMBERS = ("no", "one", "two", "three", "four")
RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "higher than"),
    "below": ("below", "under"),
}
FRAMES = (
    "{}",
    "a photo of {}",
    "a photo of {}.",
    "a picture of {}",
    "an image showing {}",
    "this shows {}",
    "we see {}",
)


def _word(rng: Random, words: Sequence[str]) -> str:
    return words[0] if rng.random() < 0.6 else rng.choice(words[1:])


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _plural(noun: str) -> str:
    return noun + ("es" if noun[-1] in "sx" else "s")


def _noun(rng: Random, item: Item, size_word: float = 0.25) -> str:
    words = [_word(rng, COLOUR_WORDS[item.colour]), _word(rng, SHAPE_WORDS[item.shape])]
    if rng.random() < size_word:
        if item.diameter <= SMALL:
            words.insert(0, rng.choice(SMALL_WORDS))
        elif item.diameter >= LARGE:
            words.insert(0, rng.choice(LARGE_WORDS))
    return " ".join(words)


def _single(rng: Random, item: Item) -> str:
    noun = _noun(rng, item)
    # Some are framed: a tower that has never seen "a photo of" fails on the usual prompts.
    framed = rng.choice(FRAMES).format(_article(noun))
    return rng.choices((_article(noun), f"the {noun}", noun, framed), (4, 2, 2, 3))[0]


def relation(first: Item, second: Item, size: int) -> str | None:
    """Return the position of `first` relative to `second`: left, right, above or below; None when
    it is ambiguous."""
    across, down = (
        (first.box[k] + first.box[k + 2] - second.box[k] - second.box[k + 2]) / (2 * size)
        for k in (0, 1)
    )
    if max(abs(across), abs(down)) < 0.15 or 0.7 < abs(across) / max(abs(down), 1e-9) < 1.4:
        return None
    if abs(across) > abs(down):
        return "left" if across < 0 else "right"
    return "above" if down < 0 else "below"


def _relational(rng: Random, scene: Scene) -> tuple[str, tuple[Item, Item]] | None:
    if len(scene.items) < 2:
        return None
    first, second = rng.sample(scene.items, 2)
    where = relation(first, second, scene.size)
    if where is None:
        return None
    one, other = _article(_noun(rng, first)), _noun(rng, second)
    other = f"another {other}" if first.name == second.name else _article(other)
    return f"{one} {rng.choice(RELATIONS[where])} {other}", (first, second)


def _listing(rng: Random, scene: Scene) -> str:
    number = len(scene.items)
    mentioned = number if rng.random() < 0.7 else rng.randint(1, number)
    items = rng.sample(scene.items, mentioned)
    parts = []
    for name, count in Counter(item.name for item in items).items():
        item = next(item for item in items if item.name == name)
        if count == 1:
            parts.append(_article(_noun(rng, item)))
        else:
            parts.append(f"{NUMBERS[count]} {_plural(_noun(rng, item, size_word=0.0))}")
    text = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    choice = rng.random()
    if choice < 0.15:
        return f"{text} on a {scene.background} background"
    if choice < 0.30 and 1 < number == mentioned:
        return f"{NUMBERS[number]} shapes: {text}"
    return rng.choice(FRAMES).format(text)


def _count(rng: Random, scene: Scene) -> str | None:
    """Return a text that counts the items of one shape or colour; None when all are different."""
    shapes = Counter(item.shape for item in scene.items)
    colours = Counter(item.colour for item in scene.items)
    counts = [(n, _plural(_word(rng, SHAPE_WORDS[shape]))) for shape, n in shapes.items()]
    counts += [(n, f"{_word(rng, COLOUR_WORDS[name])} shapes") for name, n in colours.items()]
    several = [(number, noun) for number, noun in counts if number > 1]
    if not several:
        return None
    number, noun = rng.choice(several)
    return rng.choice(FRAMES).format(f"{NUMBERS[number]} {noun}")


def _distinct(rng: Random, number: int, write: Callable[[], str]) -> list[str]:
    """Return `number` texts. One is repeated only when `20 * number` attempts give too few
    distinct."""
    texts: list[str] = []
    for _ in range(20 * number):
        text = write()
        if text not in texts:
            texts.append(text)
        if len(texts) == number:
            return texts
    return texts + [rng.choice(texts) for _ in range(number - len(texts))]


def write_captions(rng: Random, scene: Scene, number: int = 5) -> list[str]:
    """Return `number` captions of a scene: listings of all or some items, relations, counts."""

    def write() -> str:
        kind = rng.random()
        text = None
        if kind < 0.25:
            relational = _relational(rng, scene)
            text = relational and rng.choice(FRAMES).format(relational[0])
        elif kind < 0.32:
            text = _count(rng, scene)
        text = text or _listing(rng, scene)
        return text[0].upper() + text[1:] if rng.random() < 0.15 else text

    return _distinct(rng, number, write)


def write_regions(rng: Random, scene: Scene) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Return regions: two phrases for the box of every item, and relations of two items for the
    union of their boxes (left, top, right, bottom in pixels)."""
    regions: list[tuple[str, tuple[int, int, int, int]]] = []
    for item in scene.items:
        for phrase in _distinct(rng, 2, partial(_single, rng, item)):
            regions.append((phrase, item.box))
    for _ in range(len(scene.items) - 1):
        relational = _relational(rng, scene)
        if relational:
            text, (first, second) = relational
            left, top = (min(first.box[k], second.box[k]) for k in (0, 1))
            right, bottom = (max(first.box[k], second.box[k]) for k in (2, 3))
            regions.append((text, (left, top, right, bottom)))
    return regions
