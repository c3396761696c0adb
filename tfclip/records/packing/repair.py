"""Pack the damaged shards of a set again, out of its source; they must become what they were."""

import tempfile
from pathlib import Path

import tensorflow as tf

from tfclip import files
from tfclip.records.manifest import Manifest, Shard, load_manifest
from tfclip.records.options import IN_ORDER, PackOptions, planned, shard_spans
from tfclip.records.packing.pool import PictureCheckers
from tfclip.records.packing.split_writer import pack_shards
from tfclip.records.verify import file_problems
from tfclip.sources.sample import Source


def pack_options(manifest: Manifest, workers: int) -> PackOptions:
    """Return the options that a set was packed with.

    Raises:
        ValueError: it was not packed from data, but made from another set.
    """
    if "scored" in manifest.packing:
        raise ValueError(
            "these records were made by `make_records score`, not packed from data: run it again, "
            "on a sound set"
        )
    others = ("source_options", "vocabulary")
    stored = {name: value for name, value in manifest.packing.items() if name not in others}
    # Sets that name no order were packed in that of their source.
    stored = {"order": IN_ORDER} | stored | {"splits": tuple(stored["splits"])}
    return PackOptions(**stored, workers=workers)


def repair(directory: Path, source: Source, workers: int) -> list[str]:
    """Pack the shards again that are missing or are not the bytes that the manifest lists.

    Sound shards are not touched. A new shard takes its place only when it has the bytes that were
    packed, so that a set never mixes two states of the data.

    Args:
        directory: a packed set.
        source: what it was packed from, opened with the same options.
        workers: processes that check pictures.

    Returns:
        The names of the shards that were packed again.

    Raises:
        FileNotFoundError, ValueError: no readable manifest; or the source does not give the same
            bytes again, and nothing was replaced.
        OSError: a shard cannot be written.
    """
    manifest = load_manifest(directory)
    bad = [shard for shard in manifest.shards if any(file_problems(directory / shard.file, shard))]
    if not bad:
        return []
    damaged = {shard.file for shard in bad}
    options = pack_options(manifest, workers)
    plan = planned(source, options)
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
            raise OSError(f"cannot write beside {directory}: {error.message}") from None
        other = [shard.file for shard in bad if again.get(shard.file) != shard]
        if other:
            raise ValueError(
                f"nothing was replaced: packed again, {other[0]} is not what it was; the data, or "
                f"what reads them, has changed; pack all again with --overwrite"
            )
        for shard in bad:
            files.rename(Path(folder, shard.file), directory / shard.file)
    return [shard.file for shard in bad]
