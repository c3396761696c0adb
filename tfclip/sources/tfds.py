"""Any data set of TensorFlow Datasets that has pictures with captions, labels, or both."""

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tfclip.console import say
from tfclip.naming import nearest, unknown
from tfclip.sources.image_folder import check_template, class_caption
from tfclip.sources.safe_paths import keep_captions
from tfclip.sources.sample import Region, Rejected, Sample, Source, SourceOptions
from tfclip.sources.splits import choose_splits

SAID = ("caption", "sentence", "description", "text", "title")
"""What the name of a feature that holds captions is made of."""


def tfds_builder(name: str, data: Path | None = None) -> Any:
    """Return the builder of a data set, NAME, NAME/CONFIG or NAME:VERSION; prepared.

    A data set that is not prepared is fetched by TFDS, into `data` or TFDS's own folder.

    Raises:
        ValueError: tensorflow-datasets is not installed, or knows no such name.
        FileNotFoundError: it cannot be fetched; says what to put where.
    """
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise ValueError(
            "TFDS data sets need tensorflow-datasets; run pip install -e '.[datasets]'"
        )
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = nearest(name, tfds.list_builders(with_community_datasets=False))
        raise unknown("TFDS data set", name, [*known[:8], "..."]) from error
    if not builder.is_prepared():
        _fetch(builder)
    return builder


def _fetch(builder: Any) -> None:
    say(f"fetching {builder.info.full_name} into {builder.data_path}")
    try:
        builder.download_and_prepare()
    except Exception as error:
        # Whatever TFDS, a network or a disk raises here, the way out is the same.
        reason = f"{type(error).__name__}: {error}".strip().split("\n")[0][:300]
        raise FileNotFoundError(
            f"TFDS could not fetch {builder.info.full_name} ({reason}); prepare it where there is "
            f"a network, with: tfds build {builder.info.full_name.rpartition('/')[0]}, and copy "
            f"the folder to {builder.data_path}, or name its root in TFDS_DATA_DIR"
        ) from error


def open_tfds(name: str, data: Path | None, options: SourceOptions) -> Source:
    """Open the data set `name`, which lies in TFDS's folder `data` or is fetched into it.

    The picture is the feature `options.image_field`, or the only one there is. Captions are the
    features `options.caption_fields` ("captions/text" for one within another), or the texts whose
    names speak of captions. Labels are the classes of the feature label or labels, or of objects;
    where there is labels_no_difficult, the others are difficult. With `options.caption_template`
    each class is made a caption; with `options.boxes_as_regions` objects are regions. Pictures are
    passed on as they are stored.

    Raises:
        ValueError: unknown names, no picture or several, neither captions nor labels.
        FileNotFoundError: see `tfds_builder`.
    """
    template = check_template(options.caption_template)
    builder = tfds_builder(name, data)
    layout = _Layout(builder.info, options)
    known = builder.info.splits or options.splits or ("train",)  # mock data knows no splits
    opened = {
        split: _examples(builder, split, layout) for split in choose_splits(known, options.splits)
    }
    counts = {split: _count(builder.info, split, opened[split]) for split in opened}
    names = layout.class_names

    def read(split: str) -> Iterator[Sample | Rejected]:
        for example in opened[split].as_numpy_iterator():
            key = f"tfds/{name}/{example['tfds_id'].decode()}"
            yield layout.sample(key, example, template, split)

    return Source(f"tfds:{name}", counts, read, names)


def _examples(builder: Any, split: str, layout: "_Layout") -> Any:
    import tensorflow_datasets as tfds

    # One file after the other, and nothing kept. An id is the name of the file and a number.
    order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False, add_tfds_id=True)
    return builder.as_dataset(
        split=split, shuffle_files=False, read_config=order, decoders=layout.decoders
    )


def _count(info: Any, split: str, examples: Any) -> int:
    if split in info.splits:
        return info.splits[split].num_examples
    return sum(1 for _ in examples)


def _walk(features: Any, path: str = "", listed: bool = False) -> Iterator[tuple[str, Any, bool]]:
    """Yield path, feature, and whether an example has a list of it, of everything in `features`."""
    import tensorflow_datasets as tfds

    if isinstance(features, tfds.features.FeaturesDict):
        for name, feature in features.items():
            yield from _walk(feature, f"{path}\0{name}" if path else name, listed)
    elif isinstance(features, tfds.features.Sequence):
        yield from _walk(features.feature, path, True)
    else:
        yield path, features, listed


def _nested(paths: Iterable[str], leaf: Any = True) -> dict:
    """Return the dict of dicts that has a leaf at each path."""
    tree: dict = {}
    for path in paths:
        *above, last = path.split("\0")
        at = tree
        for name in above:
            at = at.setdefault(name, {})
        at[last] = leaf
    return tree


def _at(example: Any, path: str) -> Any:
    for name in path.split("\0"):
        example = example[name]
    return example


def _flat(values: Any) -> list:
    """Return the values of one feature as a list, whatever their shape."""
    values = getattr(values, "flat_values", values)
    return values.ravel().tolist() if hasattr(values, "ravel") else [values]


class _Layout:
    """Which features of a data set hold what."""

    def __init__(self, info: Any, options: SourceOptions):
        import tensorflow_datasets as tfds

        self.info, self.options, kinds = info, options, tfds.features
        # Within a feature's path "\0" stands between names, which may hold "/" themselves.
        found = {path: (feature, listed) for path, feature, listed in _walk(info.features)}
        self.shown = {path.replace("\0", "/"): path for path in found}
        pictures = [
            p for p, (f, listed) in found.items() if isinstance(f, kinds.Image) and not listed
        ]
        if options.image_field:
            pictures = [self._path(options.image_field)]
        if len(pictures) != 1:
            raise ValueError(
                f"{info.name} has {len(pictures)} pictures in an example; name one with "
                f"--image-feature; its features: {', '.join(map(ascii, self.shown))}"
            )
        self.image = pictures[0]
        self.captions = [self._path(name) for name in options.caption_fields] or [
            path
            for path, (feature, _) in found.items()
            if getattr(feature, "np_dtype", None) in (object, str, bytes)
            and any(word in path.rpartition("\0")[2].lower() for word in SAID)
        ]
        classes = {p: f for p, (f, _) in found.items() if isinstance(f, kinds.ClassLabel)}
        usual = ("label", "labels", "objects\0label")
        self.label = next((path for path in usual if path in classes), None)
        if self.label is None and len(classes) == 1:
            self.label = next(iter(classes))
        self.easy = "labels_no_difficult" if "labels_no_difficult" in classes else None
        names = classes[self.label].names if self.label else ()
        self.class_names = tuple(names)
        boxes = [p for p, (f, _) in found.items() if isinstance(f, kinds.BBoxFeature)]
        self.box = next((p for p in boxes if f"{p.rpartition(chr(0))[0]}\0label" in classes), None)
        self.box_names = ()
        if self.box:
            self.box_label = f"{self.box.rpartition(chr(0))[0]}\0label"
            self.box_names = classes[self.box_label].names
        if not self.captions and not self.label:
            raise ValueError(
                f"{info.name} has neither captions nor labels; name captions with "
                f"--caption-features; its features: {', '.join(map(ascii, self.shown))}"
            )
        needed = [self.image, *self.captions, self.label, self.easy]
        if self.box and options.boxes_as_regions:
            needed += [self.box, self.box_label]
        # What is not needed is not parsed, and the picture stays encoded.
        self.decoders = tfds.decode.PartialDecoding(
            _nested(path for path in needed if path),
            _nested([self.image], tfds.decode.SkipDecoding()),
        )

    def _path(self, shown: str) -> str:
        if shown not in self.shown:
            raise unknown(f"feature of {self.info.name}", shown, self.shown)
        return self.shown[shown]

    def sample(self, key: str, example: Any, template: str | None, split: str) -> Sample | Rejected:
        """Return what an example of TFDS holds."""
        labels = self._labels(example, self.label)
        easy = self._labels(example, self.easy) if self.easy else labels
        said = [
            text.decode(errors="surrogateescape") if isinstance(text, bytes) else text
            for path in self.captions
            for text in _flat(_at(example, path))
        ]
        if template:
            said += [class_caption(template, name) for name in labels]
        try:
            captions, dropped = keep_captions(said) if said or not labels else ((), ())
        except ValueError as reason:
            return Rejected(key, str(reason), split)
        return Sample(
            key,
            _at(example, self.image),
            captions,
            self._regions(example) if self.options.boxes_as_regions else (),
            labels=tuple(name for name in labels if name in easy),
            difficult=tuple(name for name in labels if name not in easy),
            split=split,
            coordinates_size=(1, 1),
            dropped=dropped,
        )

    def _labels(self, example: Any, path: str | None) -> tuple[str, ...]:
        numbers = set(_flat(_at(example, path))) if path else set()
        return tuple(name for at, name in enumerate(self.class_names) if at in numbers)

    def _regions(self, example: Any) -> tuple[Region, ...]:
        if not self.box:
            return ()
        boxes, numbers = _at(example, self.box), _flat(_at(example, self.box_label))
        return tuple(
            Region(self.box_names[number], xmin, ymin, xmax - xmin, ymax - ymin)
            for (ymin, xmin, ymax, xmax), number in zip(boxes.tolist(), numbers, strict=True)
            if number >= 0 and xmin < xmax and ymin < ymax
        )
