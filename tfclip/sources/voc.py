"""Pascal VOC, the devkits of 2007 and 2012: pictures with the classes they show."""

import itertools
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from tfclip.console import say
from tfclip.naming import unknown
from tfclip.sources.safe_paths import (
    find_file,
    first_problem,
    missing,
    no_pictures,
    own_store,
    parse_xml,
)
from tfclip.sources.sample import Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits, count_lines, list_lines

CLASS_NAMES = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor".split()
)
"""The 20 classes, http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ (section 2 of the devkit)."""

ENDINGS = tuple(
    ending for kind in (".jpg", ".jpeg", ".png", ".bmp", ".webp") for ending in (kind, kind.upper())
)
"""Of a picture, in the order they are looked for."""
YES, NO = ("1", "true", "yes"), ("", "0", "false", "no", "unspecified")
"""What the element "difficult" may say, in any case of letters; labelling tools differ."""
SAMPLED = 200
"""Annotations that are looked at for classes that are not Pascal's."""

TREE = (
    "VOCdevkit/VOC2007 (or VOC2012) with JPEGImages/<id>.jpg, Annotations/<id>.xml and "
    "ImageSets/Main/<split>.txt"
)


def open_voc(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a devkit's VOC2007 or VOC2012, or a folder above that holds exactly one.

    The splits are the lists in ImageSets/Main, trainval (train and val together) among them. The
    classes are `options.class_names`; without, the 20 of Pascal, those of the files per class there
    (<class>_<split>.txt) when these name others, or what the annotations of the splits name when
    the first of them name others.

    Raises:
        FileNotFoundError: no devkit, or a split without any picture.
        ValueError: several devkits, an empty split, or one without annotations: it would pass for
            pictures that show nothing.
    """
    root = _find_devkit(data)
    main = root / "ImageSets/Main"
    lists = {path.stem: path for path in sorted(main.glob("*.txt")) if "_" not in path.stem}
    if not lists:
        raise missing(main / "<split>.txt", TREE)
    splits = choose_splits(lists, options.splits)
    counts = {split: count_lines(lists[split]) for split in splits}
    stores = own_store(data) if options.follow_links else ()
    for split in splits:
        _check_split(root, lists[split], stores)
    class_names = options.class_names or _class_names(main, lists)
    if class_names == CLASS_NAMES and not options.class_names:
        class_names = _found_classes(root, [lists[split] for split in splits]) or class_names
    return Source("voc", counts, partial(_read, root, class_names, stores), class_names)


def _find_devkit(data: Path) -> Path:
    for level in ("", "*/", "*/*/"):
        found = sorted(path.parents[1] for path in data.glob(f"{level}ImageSets/Main"))
        if len(found) > 1:
            names = ", ".join(map(str, found))
            raise ValueError(f"{data} holds {len(found)} devkits; give one of them: {names}")
        if found:
            return found[0]
    raise missing(data / "ImageSets/Main" if data.is_dir() else data, TREE)


def _class_names(main: Path, lists: Mapping[str, Path]) -> tuple[str, ...]:
    named = {
        path.stem.removesuffix(f"_{split}")
        for split in lists
        for path in main.glob(f"*_{split}.txt")
    }
    return CLASS_NAMES if named <= set(CLASS_NAMES) else tuple(sorted(named))


def _found_classes(root: Path, lists: list[Path]) -> tuple[str, ...]:
    """Return the classes of all annotations, sorted, when half of those that the first annotations
    name are not Pascal's; () otherwise: a single other name may be a mistake."""
    first = {name for path in lists for name in _named(root, path, SAMPLED)}
    if not first or 2 * len(first - set(CLASS_NAMES)) < len(first):
        return ()
    found = tuple(sorted({name for path in lists for name in _named(root, path)}))
    say(f"{root}: its annotations name {len(found)} classes of their own: {', '.join(found)[:300]}")
    return found


def _named(root: Path, ids: Path, most: int | None = None) -> Iterator[str]:
    """Yield the class of every object in the annotations of a list that can be read."""
    for _, name in itertools.islice(_entries(ids), most):
        try:
            yield from _objects(find_file(root, [root / "Annotations"], f"{name}.xml"))
        except (ValueError, OSError):
            continue  # told when it is read again


def _find_picture(root: Path, name: str, stores: tuple[Path, ...]) -> Path:
    reasons = []
    for ending in ENDINGS:
        try:
            return find_file(root, [root / "JPEGImages"], f"{name}{ending}", stores)
        except ValueError as error:
            reasons.append(error)
    raise reasons[0]


def _check_split(root: Path, ids: Path, stores: tuple[Path, ...]) -> None:
    problem: ValueError | None = None
    for _, name in _entries(ids):
        try:
            _find_picture(root, name, stores)
            break
        except ValueError as reason:
            problem = problem or reason
    else:
        raise no_pictures(ids, [root / "JPEGImages"], TREE, problem)
    folders = [root / "Annotations"]
    names = (f"{name}.xml" for _, name in _entries(ids))
    if first_problem(root, folders, names):
        raise ValueError(
            f"the split {ids.stem} has no annotations (none of its pictures is in {folders[0]}); "
            "name the others with --splits"
        )


def _entries(ids: Path) -> Iterator[tuple[int, str]]:
    # Some lists have a second column, as the files per class do.
    for number, line in list_lines(ids):
        yield number, line.split()[0]


def _read(
    root: Path, class_names: tuple[str, ...], stores: tuple[Path, ...], split: str
) -> Iterator[Sample | Rejected]:
    lines: dict[str, int] = {}
    for number, name in _entries(root / f"ImageSets/Main/{split}.txt"):
        key = f"voc/{name}"
        first = lines.setdefault(name, number)
        if first != number:
            yield Rejected(key, f"listed twice: lines {first} and {number} of {split}.txt", split)
            continue
        try:
            image = _find_picture(root, name, stores)
            annotation = find_file(root, [root / "Annotations"], f"{name}.xml")
            difficult = _objects(annotation)
        except (ValueError, OSError) as reason:
            yield Rejected(key, str(reason), split)
            continue
        for class_name in difficult:
            if class_name not in class_names:
                error = unknown("class", class_name[:100], class_names)
                raise ValueError(f"{annotation}: {error}; --class-names takes a set's own")
        present = [class_name for class_name in class_names if class_name in difficult]
        yield Sample(
            key,
            image,
            labels=tuple(class_name for class_name in present if not difficult[class_name]),
            difficult=tuple(class_name for class_name in present if difficult[class_name]),
            split=split,
        )


def _objects(annotation: Path) -> dict[str, bool]:
    """Return the classes of the objects, and whether all objects of a class are difficult."""
    found: dict[str, bool] = {}
    for thing in parse_xml(annotation).iterfind("object"):
        name = thing.findtext("name", "").strip()
        said = thing.findtext("difficult", "0").strip().lower().removesuffix(".0")
        if not name or said not in YES + NO:
            raise ValueError(f"an object named {name!a:.100}, difficult {said!a:.100}")
        found[name] = found.get(name, True) and said in YES
    return found
