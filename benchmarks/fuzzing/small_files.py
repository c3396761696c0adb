"""Small files that commands take: prompts, labels, ids, vocabularies, manifests, configurations."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.fuzzing.outcomes import Wrong

Read = Callable[[Path, Path, bytes], set[str]]


def _made(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return make


def _lines(load: Callable[[Path], Any]) -> Read:
    """A text file whose lines that are not blank must come back one for one."""

    def read(folder: Path, path: Path, damaged: bytes) -> set[str]:
        lines = [line for line in load(path) if line.strip()]
        try:
            is_16 = damaged[:2] in (b"\xff\xfe", b"\xfe\xff")
            text = damaged.decode("utf-16" if is_16 else "utf-8-sig")
        except UnicodeDecodeError:
            raise Wrong("read, and is not UTF-8") from None
        expected = [line.strip() for line in re.split("\r\n|\r|\n", text) if line.strip()]
        if lines != expected:
            raise Wrong(f"{lines} in the place of {expected}"[:500])
        return {"read"}

    return read


def _any(load: Callable[[Path], Any]) -> Read:
    """A file of which any content that is accepted is right."""

    def read(folder: Path, path: Path, damaged: bytes) -> set[str]:
        load(path)
        return {"read"}

    return read


def _templates(path: Path) -> Any:
    from tfclip.evaluation.embedding.prompts import templates_by_name

    return templates_by_name(str(path))


def _labels(path: Path) -> Any:
    from tfclip.serving.classifier import read_labels

    return read_labels(path)


def _class_names(path: Path) -> Any:
    from tfclip.evaluation.tasks.multilabel_flags import read_class_names

    return read_class_names(path)


def _names_of_folders(path: Path) -> Any:
    import numpy as np

    from tfclip.evaluation.datasets.class_images import LabelledClasses, named_classes

    classes = LabelledClasses(("a", "b"), np.zeros(2, int), lambda size: None, "data")
    return named_classes(classes, path)


def _class_words(path: Path) -> Any:
    from tfclip.evaluation.embedding.class_words import read_class_words

    return read_class_words(path)


def _excluded(path: Path) -> Any:
    from tfclip.records.excluded_ids import ExcludedIds

    return ExcludedIds(path)


def _vocabulary(path: Path) -> Any:
    from tfclip.inputs.tokenizers.vocabulary import load_vocabulary

    return load_vocabulary(path)


def _merges(path: Path) -> Any:
    from tfclip.inputs.tokenizers.byte_pair import load_merges

    return load_merges(path)


def _manifest(path: Path) -> Any:
    from tfclip.records.manifest import load_manifest

    return load_manifest(path.parent)


def _config(path: Path) -> Any:
    from tfclip.config_file import read_config

    return read_config(path)


def _list(path: Path) -> Any:
    from tfclip.serving.prediction.picture_files import listed_pictures

    return listed_pictures(path)


_MANIFEST = {
    "schema_version": 1,
    "source": "coco",
    "splits": {"train": {"images": 1, "captions": 2, "regions": 0, "skipped": 0, "dropped": 0}},
    "shards": [
        {
            "file": "train-00000-of-00001.tfrecord",
            "split": "train",
            "records": 1,
            "bytes": 10,
            "sha256": "0" * 64,
        }
    ],
    "class_names": ["dog"],
    "caption_words": {"train": {"3": 2}},
    "packing": {"image_size": None},
    "tfclip_version": "0.1.0",
}
_PIECES = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\ndog\n"

FILES: dict[str, tuple[Callable[[Path], Path], Read]] = {
    "templates": (_made("t.txt", b"a photo of a {}.\nthe {}\n{}\n"), _lines(_templates)),
    "labels": (_made("labels.txt", b"dog\ncat\nKatze \xc3\xb6\n"), _lines(_labels)),
    "class names": (_made("names.txt", b"dog\ncat\n"), _lines(_class_names)),
    "class names, folders": (_made("names.txt", b"dog\ncat\n"), _lines(_names_of_folders)),
    "list of pictures": (_made("list.txt", b"a.jpg\nb/c d.jpg\n"), _lines(_list)),
    "synonyms": (_made("s.txt", b"# words\nsofa: couch, sofa\ncat: kitten\n"), _any(_class_words)),
    "excluded ids": (_made("ids.txt", b"1\ncoco/2\n0003.jpg\n"), _any(_excluded)),
    "vocab.txt": (_made("vocab.txt", _PIECES), _any(_vocabulary)),
    "merges.txt": (_made("merges.txt", b"#version: 0.2\na b\nab c</w>\n"), _any(_merges)),
    "manifest.json": (_made("manifest.json", json.dumps(_MANIFEST).encode()), _any(_manifest)),
    "config.json": (
        _made("config.json", b'{"recipe": "shapes", "flags": {"steps": 4, "val": null}}'),
        _any(_config),
    ),
    "config.yaml": (
        _made("flags.yaml", b"recipe: shapes\nsteps: 4\nmodel: {a: 1}\n"),
        _any(_config),
    ),
}
"""For each of them how an example is made, and how it is read."""
