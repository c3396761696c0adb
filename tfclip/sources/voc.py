"""Pascal VOC (Everingham et al. 2010), the devkits of 2007 and 2012: multi-label pictures."""

import itertools
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from tfclip.console import say
from tfclip.naming import unknown
from tfclip.sources.safe_paths import (
    cache_blobs,
    find_file,
    first_problem,
    missing,
    no_pictures,
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
"""Extensions of pictures, in the order of the search."""
YES, NO = ("1", "true", "yes"), ("", "0", "false", "no", "unspecified")
"""Values of the element "difficult", in lower case; labelling tools write different ones."""
SAMPLED = 200
"""The number of annotations searched for class names other than Pascal's."""

TREE = (
    "VOCdevkit/VOC2007 (or VOC2012) with JPEGImages/<id>.jpg, Annotations/<id>.xml and "
    "ImageSets/Main/<split>.txt"
)


def open_voc(data: Path, options: SourceOptions) -> Source:
    """Open `data`: a devkit's VOC2007 or VOC2012, or a folder above that holds exactly one.

    The splits are the lists in ImageSets/Main, including trainval. The classes are
    `options.class_names` or, without it, the first of these that applies:

    - the classes of the files <class>_<split>.txt beside the lists, if these name others than
      Pascal's;
    - all classes in the annotations, if at least half of the names in the first annotations are not
      Pascal's;
    - Pascal's 20.

    Raises:
        FileNotFoundError: no devkit, or a split none of whose pictures exist.
        ValueError: several devkits, an empty split, or a split without annotations, whose pictures
            would otherwise count as showing none of the classes.
    """
    root = _find_devkit(data)
    main = root / "ImageSets/Main"
    lists = {path.stem: path for path in sorted(main.glob("*.txt")) if "_" not in path.stem}
    if not lists:
        raise missing(main / "<split>.txt", TREE)
    splits = choose_splits(lists, options.splits)
    counts = {split: count_lines(lists[split]) for split in splits}
    stores = cache_blobs(data) if options.follow_links else ()
    for split in splits:
        _check_split(root, lists[split], stores)
    class_names = options.class_names or _class_names(main, lists)
    if class_names == CLASS_NAMES and not options.class_names:
        class_names = _annotated_classes(root, [lists[split] for split in splits]) or class_names
    return Source("voc", counts, partial(_read, root, class_names, stores), class_names)


def _find_devkit(data: Path) -> Path:
    for level in ("", "*/", "*/*/"):
        devkits = sorted(path.parents[1] for path in data.glob(f"{level}ImageSets/Main"))
        if len(devkits) > 1:
            names = ", ".join(map(str, devkits))
            raise ValueError(f"{data} holds {len(devkits)} devkits; give one of them: {names}")
        if devkits:
            return devkits[0]
    raise missing(data / "ImageSets/Main" if data.is_dir() else data, TREE)


def _class_names(main: Path, lists: Mapping[str, Path]) -> tuple[str, ...]:
    names = {
        path.stem.removesuffix(f"_{split}")
        for split in lists
        for path in main.glob(f"*_{split}.txt")
    }
    return CLASS_NAMES if names <= set(CLASS_NAMES) else tuple(sorted(names))


def _annotated_classes(root: Path, lists: list[Path]) -> tuple[str, ...]:
    """Return the classes in all annotations, sorted, when at least half of those in the first
    annotations are not Pascal's; otherwise (), because a single other name may be a mistake."""
    first = {name for path in lists for name in _object_names(root, path, SAMPLED)}
    if not first or 2 * len(first - set(CLASS_NAMES)) < len(first):
        return ()
    names = tuple(sorted({name for path in lists for name in _object_names(root, path)}))
    say(f"{root}: {len(names)} classes, from the annotations: {', '.join(names)[:300]}")
    return names


def _object_names(root: Path, ids: Path, most: int | None = None) -> Iterator[str]:
    """Yield the class of every object in the readable annotations of a list."""
    for _, name in itertools.islice(_entries(ids), most):
        try:
            yield from _objects(find_file(root, [root / "Annotations"], f"{name}.xml"))
        except (ValueError, OSError):
            continue  # reported when the split is read


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
            f"the split {ids.stem} has no annotations in {folders[0]}; "
            "choose the other splits with --splits"
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
                raise ValueError(
                    f"{annotation}: {error}; other classes are given with --class-names"
                )
        present = [class_name for class_name in class_names if class_name in difficult]
        yield Sample(
            key,
            image,
            labels=tuple(class_name for class_name in present if not difficult[class_name]),
            difficult=tuple(class_name for class_name in present if difficult[class_name]),
            split=split,
        )


def _objects(annotation: Path) -> dict[str, bool]:
    """Return the class of each object, and whether all objects of that class are difficult."""
    difficult: dict[str, bool] = {}
    for thing in parse_xml(annotation).iterfind("object"):
        name = thing.findtext("name", "").strip()
        value = thing.findtext("difficult", "0").strip().lower().removesuffix(".0")
        if not name or value not in YES + NO:
            raise ValueError(f"an object with name {name!a:.100} and difficult {value!a:.100}")
        difficult[name] = difficult.get(name, True) and value in YES
    return difficult
