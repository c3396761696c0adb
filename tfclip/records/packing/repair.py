"""Repair: pack the damaged shards of a set again from its source, to the same bytes."""

import tempfile
from pathlib import Path

import tensorflow as tf

from tfclip import files
from tfclip.records.manifest import Manifest, Shard, load_manifest
from tfclip.records.options import IN_ORDER, PackOptions, planned_counts, shard_spans
from tfclip.records.packing.pool import PictureCheckers
from tfclip.records.packing.split_writer import pack_shards
from tfclip.records.verify import file_problems
from tfclip.sources.sample import Source


def pack_options(manifest: Manifest, workers: int) -> PackOptions:
    """Return the options that a set was packed with.

    Raises:
        ValueError: the set was made from another set, not packed from data.
    """
    if "scored" in manifest.packing:
        raise ValueError(
            "these records were made by `make_records score`, not packed from data; run it again "
            "on an intact set"
        )
    others = ("source_options", "vocabulary")
    stored = {name: value for name, value in manifest.packing.items() if name not in others}
    # Sets of earlier versions have no order: they are in that of their source.
    stored = {"order": IN_ORDER} | stored | {"splits": tuple(stored["splits"])}
    return PackOptions(**stored, workers=workers)


def repair(directory: Path, source: Source, workers: int) -> list[str]:
    """Pack again the shards that are missing or differ from the manifest.

    Intact shards are not touched. Shards are replaced only when all new ones have the bytes in the
    manifest, so that a set never mixes two versions of the data.

    Args:
        directory: a record set.
        source: its source, opened with the same options.
        workers: the number of processes that check pictures.

    Returns:
        The file names of the shards that were replaced.

    Raises:
        FileNotFoundError: no manifest.
        ValueError: a damaged manifest; or the source gives other bytes, and nothing was replaced.
        OSError: a shard cannot be written.
    """
    manifest = load_manifest(directory)
    bad = [shard for shard in manifest.shards if any(file_problems(directory / shard.file, shard))]
    if not bad:
        return []
    damaged = {shard.file for shard in bad}
    options = pack_options(manifest, workers)
    plan = planned_counts(source, options)
    again: dict[str, Shard] = {}
    with tempfile.TemporaryDirectory(dir=directory.resolve().parent) as folder:
        try:
            with PictureCheckers(workers, options.image_size) as checkers:
                for split in dict.fromkeys(shard.split for shard in bad):
                    spans = shard_spans(split, plan.get(split, 0), options.shards)
                    pack_shards(
                        source,
                        split,
                        spans,
                        [span for span in spans if span.file in damaged],
                        Path(folder),
                        options,
                        checkers,
                        lambda one: again.update({one.shard.file: one.shard}),
                    )
        except tf.errors.OpError as error:
            raise OSError(f"cannot write next to {directory}: {error.message}") from None
        other = [shard.file for shard in bad if again.get(shard.file) != shard]
        if other:
            raise ValueError(
                f"nothing was replaced: {other[0]} has other bytes when packed again, because "
                "the data or the reader has changed; pack all again with --overwrite"
            )
        for shard in bad:
            files.rename(Path(folder, shard.file), directory / shard.file)
    return [shard.file for shard in bad]
