"""The data sets by name."""

from collections.abc import Callable
from pathlib import Path

from tfclip.naming import unknown
from tfclip.sources.coco import open_coco
from tfclip.sources.flickr8k import open_flickr8k
from tfclip.sources.sample import Source, SourceOptions
from tfclip.sources.visual_genome import open_visual_genome
from tfclip.sources.voc import open_voc

SOURCES: dict[str, Callable[[Path, SourceOptions], Source]] = {
    "visual_genome": open_visual_genome,
    "flickr8k": open_flickr8k,
    "coco": open_coco,
    "voc": open_voc,
}


def open_source(name: str, data: Path, options: SourceOptions | None = None) -> Source:
    """Open the data set `name` that lies in the folder `data`.

    Annotations are read once, so that every split is counted; pictures are not opened.

    Raises:
        ValueError: an unknown name or split, an option for another source, or annotations that are
            not in their format.
        FileNotFoundError: a missing file or folder; the message shows the expected tree.
    """
    if name not in SOURCES:
        raise unknown("source", name, SOURCES)
    options = options or SourceOptions()
    if name != "visual_genome" and (options.id_lists or options.phrases_as_captions):
        raise ValueError(f"{name} takes no id_lists and no phrases_as_captions; visual_genome does")
    return SOURCES[name](Path(data), options)
