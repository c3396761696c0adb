"""Data sets of TensorFlow Datasets (TFDS) with pictures and captions, labels or both."""

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

CAPTION_WORDS = ("caption", "sentence", "description", "text", "title")
"""A text feature holds captions when its name contains one of these words."""


def tfds_builder(name: str, data: Path | None = None) -> Any:
    """Return the builder of the data set NAME, NAME/CONFIG or NAME:VERSION, prepared.

    TFDS downloads a data set that is not prepared into `data`, or into its own default folder.

    Raises:
        ValueError: tensorflow-datasets is not installed, or has no data set of this name.
        FileNotFoundError: the download failed; the message says how to prepare the data elsewhere.
    """
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise ValueError(
            "TFDS data sets need tensorflow-datasets; run pip install -e '.[datasets]'"
        )
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data)
    except tfds.core.registered.DatasetNotFoundError as error:
        names = nearest(name, tfds.list_builders(with_community_datasets=False))
        raise unknown("TFDS data set", name, [*names[:8], "..."]) from error
    if not builder.is_prepared():
        _fetch(builder)
    return builder


def _fetch(builder: Any) -> None:
    say(f"downloading {builder.info.full_name} into {builder.data_path}")
    try:
        builder.download_and_prepare()
    except Exception as error:
        # TFDS, the network and the disk raise many types of errors; the advice is the same for all.
        reason = f"{type(error).__name__}: {error}".strip().split("\n")[0][:300]
        raise FileNotFoundError(
            f"TFDS could not download {builder.info.full_name} ({reason}); prepare it on a machine "
            f"with a network, with: tfds build {builder.info.full_name.rpartition('/')[0]}, and "
            f"copy the folder to {builder.data_path}, or name its root in TFDS_DATA_DIR"
        ) from error


def open_tfds(name: str, data: Path | None, options: SourceOptions) -> Source:
    """Open the data set `name` in the TFDS folder `data`; TFDS downloads it there if it is missing.

    The picture is the feature `options.image_field`, or the only image feature. Captions are the
    features `options.caption_fields` ("captions/text" for a nested one), or the text features whose
    names contain one of `CAPTION_WORDS`. Labels are the classes of the feature label or labels, or
    of objects; where there is labels_no_difficult, the labels missing from it are difficult. With
    `options.caption_template` each label also makes a caption; with `options.boxes_as_regions`
    objects become regions. Pictures keep their stored encoding.

    Raises:
        ValueError: unknown names, no picture or several, or neither captions nor labels.
        FileNotFoundError: see `tfds_builder`.
    """
    template = check_template(options.caption_template)
    builder = tfds_builder(name, data)
    layout = _Layout(builder.info, options)
    # Mocked data sets (tfds.testing.mock_data) have no splits.
    available = builder.info.splits or options.splits or ("train",)
    opened = {
        split: _examples(builder, split, layout)
        for split in choose_splits(available, options.splits)
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

    # A fixed order without caching. The id of an example is the name of its file and a number.
    order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False, add_tfds_id=True)
    return builder.as_dataset(
        split=split, shuffle_files=False, read_config=order, decoders=layout.decoders
    )


def _count(info: Any, split: str, examples: Any) -> int:
    if split in info.splits:
        return info.splits[split].num_examples
    return sum(1 for _ in examples)


def _walk(features: Any, path: str = "", listed: bool = False) -> Iterator[tuple[str, Any, bool]]:
    """Yield the path of every feature, the feature, and whether an example holds a list of it."""
    import tensorflow_datasets as tfds

    if isinstance(features, tfds.features.FeaturesDict):
        for name, feature in features.items():
            yield from _walk(feature, f"{path}\0{name}" if path else name, listed)
    elif isinstance(features, tfds.features.Sequence):
        yield from _walk(features.feature, path, True)
    else:
        yield path, features, listed


def _nested(paths: Iterable[str], leaf: Any = True) -> dict:
    """Return nested dicts with `leaf` at each path."""
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
    """Return the values of a scalar, array or ragged feature as a flat list."""
    values = getattr(values, "flat_values", values)
    return values.ravel().tolist() if hasattr(values, "ravel") else [values]


class _Layout:
    """The features of a data set that hold the picture, captions, labels and boxes."""

    def __init__(self, info: Any, options: SourceOptions):
        import tensorflow_datasets as tfds

        self.info, self.options, kinds = info, options, tfds.features
        # Names of features may contain "/", so that paths are joined by "\0".
        features = {path: (feature, listed) for path, feature, listed in _walk(info.features)}
        self.paths = {path.replace("\0", "/"): path for path in features}
        pictures = [
            p for p, (f, listed) in features.items() if isinstance(f, kinds.Image) and not listed
        ]
        if options.image_field:
            pictures = [self._path(options.image_field)]
        if len(pictures) != 1:
            raise ValueError(
                f"{info.name} has {len(pictures)} image features; name one with --image-feature; "
                f"its features: {', '.join(map(ascii, self.paths))}"
            )
        self.image = pictures[0]
        self.captions = [self._path(name) for name in options.caption_fields] or [
            path
            for path, (feature, _) in features.items()
            if getattr(feature, "np_dtype", None) in (object, str, bytes)
            and any(word in path.rpartition("\0")[2].lower() for word in CAPTION_WORDS)
        ]
        classes = {p: f for p, (f, _) in features.items() if isinstance(f, kinds.ClassLabel)}
        usual = ("label", "labels", "objects\0label")
        self.label = next((path for path in usual if path in classes), None)
        if self.label is None and len(classes) == 1:
            self.label = next(iter(classes))
        self.easy = "labels_no_difficult" if "labels_no_difficult" in classes else None
        names = classes[self.label].names if self.label else ()
        self.class_names = tuple(names)
        boxes = [p for p, (f, _) in features.items() if isinstance(f, kinds.BBoxFeature)]
        self.box = next((p for p in boxes if f"{p.rpartition(chr(0))[0]}\0label" in classes), None)
        self.box_names: tuple[str, ...] = ()
        if self.box:
            self.box_label = f"{self.box.rpartition(chr(0))[0]}\0label"
            self.box_names = tuple(classes[self.box_label].names)
        if not self.captions and not self.label:
            raise ValueError(
                f"{info.name} has neither captions nor labels; name captions with "
                f"--caption-features; its features: {', '.join(map(ascii, self.paths))}"
            )
        needed = [self.image, *self.captions, self.label, self.easy]
        if self.box and options.boxes_as_regions:
            needed += [self.box, self.box_label]
        # Other features are not parsed, and the picture stays encoded.
        self.decoders = tfds.decode.PartialDecoding(
            _nested(path for path in needed if path),
            _nested([self.image], tfds.decode.SkipDecoding()),
        )

    def _path(self, name: str) -> str:
        if name not in self.paths:
            raise unknown(f"feature of {self.info.name}", name, self.paths)
        return self.paths[name]

    def sample(self, key: str, example: Any, template: str | None, split: str) -> Sample | Rejected:
        """Return the sample of a TFDS example."""
        labels = self._labels(example, self.label)
        easy = self._labels(example, self.easy) if self.easy else labels
        texts = [
            text.decode(errors="surrogateescape") if isinstance(text, bytes) else text
            for path in self.captions
            for text in _flat(_at(example, path))
        ]
        if template:
            texts += [class_caption(template, name) for name in labels]
        try:
            captions, dropped = keep_captions(texts) if texts or not labels else ((), ())
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
