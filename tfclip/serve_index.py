"""python -m tfclip.search serve INDEX: open an index in the page of `tfclip.serve run`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import Positional

from tfclip.console import say
from tfclip.evaluation.search.index import SearchIndex, newest_index, open_index
from tfclip.serve import RunFlags, run_server
from tfclip.serving.classifier import THRESHOLDS_FILE
from tfclip.serving.labels import FITTED, NONE
from tfclip.serving.server.options import Access, Limits
from tfclip.serving.server.startup import find_versions

EXPORTED = "exported"
"""The folder of a run that holds the export for its indexes."""


@dataclass(frozen=True)
class ServeFlags:
    """Search an index in the browser: the page of tfclip.serve run, with a search box.

    The model of the index is exported into RUN/exported if there is no export yet. Needs the extra
    [serving]."""

    index: Positional[str | None] = None
    """The index: its folder, or its name in runs/; by default the newest in runs/."""
    exported: Path | None = None
    """An export of the model of the index; by default RUN/exported."""
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)


def serve(flags: ServeFlags) -> dict:
    """Serve until SIGTERM or Ctrl-C."""
    index = open_index(newest_index() if flags.index is None else flags.index)
    index.check_model()
    exported = flags.exported or export_of(index)
    say(f"searching {len(index):,} pictures of {index.collection}")
    return run_server(
        RunFlags(exported, index=index.place, access=flags.access, limits=flags.limits)
    )


def export_of(index: SearchIndex) -> Path:
    """Return RUN/exported of the model of an index, which is written if it does not exist."""
    exported = index.run / EXPORTED
    if not find_versions(exported):
        from tfclip.export import ExportFlags, export

        say(f"exporting {index.run} to {exported}")
        has_thresholds = (index.run / THRESHOLDS_FILE).is_file()
        export(ExportFlags(index.run, exported, labels=(FITTED if has_thresholds else NONE,)))
    return exported
