"""Implements `make_records embed`: stores the embeddings of a teacher beside packed records."""

from __future__ import annotations

from tfclip.models.model_directory import model_directory
from tfclip.records.flags.subcommands import EmbedFlags
from tfclip.records.manifest import load_manifest
from tfclip.records.teachers import teacher_folder


def embed_records(flags: EmbedFlags) -> dict:
    """Embed the pictures and texts of the records, for `fit --teacher NAME`.

    Raises:
        ValueError, OSError: the flags, the records or the run are invalid.
    """
    manifest = load_manifest(flags.records)
    for split in flags.splits:
        manifest.shards_of(split)  # raises ValueError for an unknown split
    train = [split for split in manifest.splits if split.startswith("train")]
    splits = list(dict.fromkeys(flags.splits)) or train or list(manifest.splits)
    model_directory(flags.teacher)  # raises FileNotFoundError without a model
    name = flags.name or flags.teacher.resolve().name
    folder = teacher_folder(flags.records, name)
    if folder.exists() and not flags.overwrite:
        raise FileExistsError(f"{folder} exists; give another --name, or --overwrite")
    from tfclip.records.reader import split_files
    from tfclip.records.verify import damage_named
    from tfclip.training.data.teacher_writer import write_teacher

    with damage_named([file for split in splits for file in split_files(flags.records, split)]):
        written = write_teacher(
            flags.teacher,
            flags.records,
            name,
            splits,
            flags.views,
            flags.precision,
            flags.size,
            flags.words,
        )
    return {"teacher": name, **written}
