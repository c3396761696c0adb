"""Pack shards with Apache Beam, on all machines of its runner; the shards are the same.

Every worker opens the source and packs whole shards, so the data and the target must have the same
paths on all machines (a network file system). Needs the extra `[beam]`.
"""

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tfclip import files
from tfclip.records.check import BadPicture, Checked, check_picture
from tfclip.records.options import PackOptions, Span
from tfclip.records.packing.journal import Finished, entry_of
from tfclip.records.packing.shard_writer import ShardWriter
from tfclip.records.packing.split_writer import items_to_pack
from tfclip.sources.sample import Rejected, Sample, Source

try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError:
    raise ValueError("--runner needs Apache Beam; run pip install 'tfclip[beam]'") from None


def pack_with_beam(
    open_source: Callable[[], Source],
    runner: str,
    beam_options: Sequence[str],
    directory: Path,
    missing: Mapping[str, Sequence[Span]],
    options: PackOptions,
) -> Iterator[Finished]:
    """Pack shards into `directory`, and yield the entry of each finished shard.

    Args:
        open_source: opens the source; it is pickled and sent to the workers.
        runner: the name of a Beam runner, "DirectRunner".
        beam_options: options of the runner, without dashes: "direct_num_workers=4".
        directory: the directory of the shards.
        missing: the shards to pack, by split.
        options: the options of packing; `workers` is ignored.

    Raises:
        ValueError: options that Beam refuses, or a source that yields fewer items than it counted.
    """
    elements = [(split, *span) for split, spans in missing.items() for span in spans]
    flags = [f"--runner={runner}", *(f"--{option}" for option in beam_options)]
    with tempfile.TemporaryDirectory(dir=directory.parent) as notes:
        try:
            pipeline = beam.Pipeline(options=PipelineOptions(flags))
        except (ValueError, SystemExit) as error:
            raise ValueError(f"Beam does not take {' '.join(flags)}: {error}") from None
        (
            pipeline
            | beam.Create(elements)
            | beam.Reshuffle()
            | beam.ParDo(_PackShard(open_source, str(directory), options))
            | beam.io.WriteToText(f"{notes}/finished")
        )
        pipeline.run().wait_until_finish()
        for path in sorted(Path(notes).iterdir()):
            for line in path.read_text(encoding="utf-8").splitlines():
                entry = entry_of(line)
                if entry is not None:
                    yield entry


class _PackShard(beam.DoFn):
    """Packs the shard (split, file, start, end), and yields its `Finished` as JSON."""

    def __init__(self, open_source: Callable[[], Source], directory: str, options: PackOptions):
        self._open_source, self._directory, self._options = open_source, directory, options

    def setup(self) -> None:
        self._source = self._open_source()
        self._reading: dict[str, tuple[int, Iterator[Sample | Rejected]]] = {}

    def process(self, element: tuple[str, str, int, int]) -> Iterator[str]:
        split, file, start, end = element
        items = itertools.islice(self._items(split, start), end - start)
        size = self._options.image_size
        # A separate folder, because a runner may run two attempts of the same shard at once.
        with tempfile.TemporaryDirectory(dir=self._directory) as own:
            shard = ShardWriter(Path(own, file), split, size)
            shard.write((item, _checked(item, size)) for item in items)
            finished = shard.finish()
            packed = finished.tally.get("images", 0) + finished.tally.get("skipped", 0)
            if packed != end - start:
                raise ValueError(
                    f"{file}: {end - start} pictures were counted, {packed} were there"
                )
            files.rename(Path(own, file), Path(self._directory, file))
        self._reading[split] = (end, self._reading[split][1])
        yield json.dumps(asdict(finished))

    def _items(self, split: str, start: int) -> Iterator[Sample | Rejected]:
        """Go on where the last shard of this worker ended, when that is not too far."""
        at, items = self._reading.get(split, (start + 1, iter(())))
        if at > start:
            at, items = 0, items_to_pack(self._source, split, self._options, Path(self._directory))
        self._reading[split] = (start, items)
        for _ in itertools.islice(items, start - at):
            pass
        return items


def _checked(item: Sample | Rejected, image_size: int | None) -> Checked | BadPicture | None:
    if isinstance(item, Rejected):
        return None
    try:
        return check_picture(item.image, image_size)
    except BadPicture as bad:
        return bad
