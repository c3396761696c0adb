"""The data sets by name."""

from collections.abc import Callable
from pathlib import Path

from tfclip.naming import unknown
from tfclip.sources.flickr8k import open_flickr8k
from tfclip.sources.sample import Source, SourceOptions
from tfclip.sources.voc import open_voc

SOURCES: dict[str, Callable[[Path, SourceOptions], Source]] = {
    "flickr8k": open_flickr8k,
    "voc": open_voc,
}


def open_source(name: str, data: Path, options: SourceOptions | None = None) -> Source:
    """Open the data set `name` that lies in the folder `data`.

    Annotations are read once, so that every split is counted; pictures are not opened.

    Raises:
        ValueError: an unknown name or split, or annotations that are not in their format.
        FileNotFoundError: a missing file or folder; the message shows the expected tree.
    """
    if name not in SOURCES:
        raise unknown("source", name, SOURCES)
    return SOURCES[name](Path(data), options or SourceOptions())
