"""Implements `make_records score`: scores captions by a model that was not trained on them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tfclip.config_file import read_config
from tfclip.console import CommandFailed, say
from tfclip.models.compute import FLOAT32
from tfclip.models.model_directory import model_fingerprint
from tfclip.records.flags.subcommands import ScoreFlags
from tfclip.records.manifest import Manifest, load_manifest, records_reference
from tfclip.records.packing.target import check_target
from tfclip.records.scores.caption_scores import CaptionScores, joined

CONFIG_FILE = "config.json"
TOWERS = {"image", "text"}
PERCENTILES = (1, 5, 25, 50, 75)

# The functions below import TensorFlow themselves, so that errors in flags are reported at once.


def score_records(flags: ScoreFlags) -> dict:
    """Write the set with the scores of each caption, and draw the worst pairs.

    Raises:
        ValueError, OSError: the flags, the records or the run are invalid.
        CommandFailed: the model of a fold could not be trained.
    """
    check_target(flags.out, flags.overwrite)
    sheet = _sheet(flags)
    manifest = load_manifest(flags.records)
    splits = _splits(flags, manifest)
    model = None if flags.run is None else model_fingerprint(flags.run)
    from tfclip.records.scores.scored_set import SCORED, stored_scores, worst_of, write_scored
    from tfclip.records.scores.worst_pairs import draw_worst

    parts = flags.out.with_name(f"{flags.out.name}.folds")
    scores, folds = {}, {}
    for split in splits:
        if flags.run is None:
            scores[split] = stored_scores(flags.records, split)
            continue
        trained_on = _trained_on(flags.run, flags.records, split)
        folds[split] = flags.folds if trained_on else 1
        if folds[split] > 1:
            say(
                f"{flags.run} was trained on pictures of {flags.records}:{split}; training "
                f"{flags.folds} models, each without the pictures that it scores"
            )
            identity = f"{manifest.fingerprint()} {model} {flags.folds}"
            name = f"{split}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
            scores[split] = _out_of_fold(flags, flags.run, split, trained_on, parts / name)
            continue
        if trained_on:
            say(
                f"note: {flags.run} was trained on pictures of {flags.records}:{split} and scores "
                "its own training pictures; use --folds 3 to avoid this"
            )
        scores[split] = _counts_and_scores(flags.run, flags.records, split)[1]
    fit = {split: of_split.fit(flags.worst_by) for split, of_split in scores.items()}
    drop = worst_of(fit, flags.drop_worst)
    described = {"records": manifest.fingerprint(), "drop_worst": flags.drop_worst}
    described["worst_by"] = flags.worst_by
    if flags.run is None:
        described["before"] = manifest.packing[SCORED]
    else:
        described |= {"run": str(flags.run), "model": model, "folds": folds}
    pictures = draw_worst(flags.records, fit, sheet, flags.pictures)
    written = write_scored(
        flags.records, flags.out, scores, drop, described, overwrite=flags.overwrite
    )
    shutil.rmtree(parts, ignore_errors=True)
    figures = {}
    for split in splits:
        figures[split] = _statistics(scores[split], fit[split], drop[split])
        figures[split] |= {
            "dropped": written.dropped[split],
            "pictures_dropped": written.pictures[split],
        }
        say(_line(split, figures[split], flags.worst_by))
    others = [split for split in manifest.splits if split not in splits]
    if others:
        say(f"{', '.join(others)}: copied without scores")
    measures = {_measure(counts, flags.worst_by) for counts in figures.values()}
    say(f"{sheet}: the {pictures} worst pairs, each with its fit ({' or '.join(sorted(measures))})")
    say(f"{flags.out}: written")
    return {"records": flags.out, "sheet": sheet, "folds": folds, "splits": figures}


def _splits(flags: ScoreFlags, manifest: Manifest) -> list[str]:
    for split in flags.splits:
        manifest.shards_of(split)  # raises ValueError for an unknown split
    train = [split for split in manifest.splits if split.startswith("train")]
    splits = list(dict.fromkeys(flags.splits)) or train or list(manifest.splits)
    for split in splits:
        if not manifest.splits[split].captions:
            raise ValueError(f"{flags.records}:{split} has no captions to score")
    return splits


def _sheet(flags: ScoreFlags) -> Path:
    """Return the file for the worst pairs, checked before hours of work.

    Raises:
        ValueError: Pillow cannot write this file type.
    """
    sheet = flags.sheet or flags.out.with_name(f"{flags.out.name}-worst.png")
    if sheet.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"received --sheet {sheet}; allowed: a picture file, such as worst.png")
    return sheet


def _trained_on(run: Path, records: Path, split: str) -> list[int]:
    """Return the indices of the run's `--records` that contain pictures of this split."""
    path = Path(run) / CONFIG_FILE
    if not path.is_file():
        return []
    manifest, ids, indices = load_manifest(records), None, []
    for number, reference in enumerate(read_config(path)[0].get("records", ())):
        directory, of_split = records_reference(reference)
        try:
            other = load_manifest(directory)
        except (FileNotFoundError, ValueError):
            say(f"note: {run} was trained on {reference}, which is missing and not compared")
            continue
        if other.source != manifest.source:
            continue
        ids = _ids(records, split) if ids is None else ids
        trained = [of_split] if of_split else [s for s in other.splits if s.startswith("train")]
        if any(len(np.intersect1d(ids, _ids(directory, name))) for name in trained):
            indices.append(number)
    return indices


def _ids(records: Path, split: str) -> np.ndarray:
    from tfclip.records import schema
    from tfclip.records.reader import read_split

    read = read_split(records, split, features=(schema.ID,), then=lambda r: r[schema.ID])
    return np.concatenate([np.zeros(0, np.int64), *read.batch(4096).as_numpy_iterator()])


def _counts_and_scores(run: Path, records: Path, split: str) -> tuple[np.ndarray, CaptionScores]:
    """Return the number of captions of each record, and their scores, from the stored outputs of
    the towers if the run has them."""
    from tfclip.evaluation.embedding.features.feature_cache import Storage
    from tfclip.evaluation.embedding.features.part_features import whole_of
    from tfclip.evaluation.tasks.caption_cosines import caption_cosines
    from tfclip.models.saving import load_model
    from tfclip.records.reader import split_files
    from tfclip.records.verify import damage_named
    from tfclip.training.data.stored_cosines import stored_cosines

    with damage_named(split_files(records, split)):
        config = run / CONFIG_FILE
        trained = read_config(config)[0] if config.is_file() else {}
        frozen = set(str(trained.get("lock", "")).split(","))
        if whole_of(records, split) and trained.get("cache_features") and frozen == TOWERS:
            cache = trained.get("feature_cache")
            where = Storage(
                trained["feature_precision"],
                None if cache is None else Path(cache),
                trained.get("compute", FLOAT32),
            )
            return stored_cosines(load_model(run), records, split, trained["views"], where)
        return caption_cosines(load_model(run), records, split)


def _out_of_fold(
    flags: ScoreFlags, whole: Path, split: str, trained_on: list[int], parts: Path
) -> CaptionScores:
    """Return the scores of a split, each fold scored by a model trained on the others."""
    from tfclip.records.scores.folds import HELD_OUT, make_folds

    folds = make_folds(flags.records, split, flags.folds, parts)
    sizes = [shard.records for shard in load_manifest(flags.records).shards_of(split)]
    of_shard: dict[int, CaptionScores] = {}
    for number, fold in enumerate(folds, start=1):
        run = parts / f"run-{number}"
        _train(whole, f"{fold.directory}:{split}", trained_on, run)
        counts, scores = _counts_and_scores(run, fold.directory, HELD_OUT)
        record, caption = 0, 0
        for shard in fold.shards:
            captions = int(counts[record : record + sizes[shard]].sum())
            of_shard[shard] = scores[caption : caption + captions]
            record, caption = record + sizes[shard], caption + captions
        say(f"fold {number} of {flags.folds}: mean cosine {float(scores.cosines.mean()):.3f}")
    return joined([of_shard[shard] for shard in range(len(sizes))])


def _train(whole: Path, rest: str, trained_on: list[int], run: Path) -> None:
    """Train with the flags of the run, but on the rest of a fold instead of the set.

    It runs in a separate process, which frees its memory at the end; an interrupted one resumes.
    """
    config = whole / CONFIG_FILE
    given, recipe = read_config(config)
    records = list(given["records"])
    records[trained_on[0]] = rest
    records = [one for at, one in enumerate(records) if at not in trained_on[1:]]
    # As many epochs as the run, over fewer pictures.
    steps = round(given["steps"] * _images(records) / _images(given["records"]))
    arguments = ["--config", str(config), "--records", *records, "--run", str(run)]
    arguments += ["--steps", str(max(1, steps))]
    arguments += ["--no-overwrite"]
    if len(given.get("record_weights") or ()) != len(records):
        arguments += ["--record-weights"] if given.get("record_weights") else []
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "tfclip.fit", str(recipe), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise CommandFailed(f"training on {rest} failed (exit code {done.returncode}, see above)")


def _images(references: Sequence[str]) -> int:
    """Return the number of pictures in these training records."""
    total = 0
    for reference in references:
        directory, split = records_reference(reference)
        manifest = load_manifest(directory)
        train = [split] if split else [s for s in manifest.splits if s.startswith("train")]
        total += sum(manifest.splits[name].images for name in train)
    return total


def _statistics(scores: CaptionScores, fit: np.ndarray, drop: np.ndarray) -> dict:
    cuts = np.percentile(scores.cosines, PERCENTILES)
    known = scores.agreements[~np.isnan(scores.agreements)]
    return {
        "captions": len(scores),
        "mean": float(scores.cosines.mean()),
        "percentiles": dict(zip(map(str, PERCENTILES), map(float, cuts), strict=True)),
        "with_agreement": len(known),
        "mean_agreement": float(known.mean()) if len(known) else None,
        "highest_dropped": float(fit[drop].max()) if drop.any() else None,
    }


def _measure(counts: Mapping, worst_by: str) -> str:
    """Say what the fit of a split's captions is."""
    by_cosine = worst_by == "cosine" or not counts["with_agreement"]
    return "its cosine" if by_cosine else "the sum of both cosines"


def _line(split: str, counts: Mapping, worst_by: str) -> str:
    cuts = ", ".join(f"{p} % {counts['percentiles'][str(p)]:.3f}" for p in PERCENTILES)
    line = f"{split}: {counts['captions']:,} captions, mean cosine {counts['mean']:.3f} ({cuts})"
    line += (
        f"; {counts['with_agreement']:,} of them also compared with the picture's other captions, "
        f"mean cosine {counts['mean_agreement']:.3f}"
        if counts["with_agreement"]
        else "; no picture has three captions, which could be compared with each other"
    )
    if not counts["dropped"]:
        return line
    return (
        f"{line}; dropped the {counts['dropped']:,} worst by {_measure(counts, worst_by)}, up to "
        f"{counts['highest_dropped']:.3f}, "
        f"and {counts['pictures_dropped']:,} pictures without other captions"
    )
