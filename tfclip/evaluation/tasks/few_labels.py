"""Runs `tfclip.adapt`: fits class embeddings to labelled pictures, and writes them to a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tfclip import files
from tfclip.console import say
from tfclip.evaluation.datasets.multilabel_images import (
    LabelledPictures,
    RecordPictures,
    joined,
    labelled_records,
    with_classes,
)
from tfclip.evaluation.decisions.adapted_classes import AdaptedClasses
from tfclip.evaluation.decisions.few_labels import FewLabels, Setting, fit_few_labels
from tfclip.evaluation.decisions.fit import fit_all
from tfclip.evaluation.decisions.options import MultilabelOptions
from tfclip.evaluation.decisions.scored_images import ScoredPictures, embed_labelled
from tfclip.evaluation.embedding.cache import RunEmbeddings, class_embeddings_of
from tfclip.evaluation.embedding.prompts import class_prompts
from tfclip.evaluation.metrics.multilabel import mean_defined
from tfclip.evaluation.tasks.multilabel import thresholds_content
from tfclip.evaluation.tasks.thresholds_file import write_thresholds
from tfclip.records.manifest import load_manifest

TEMPLATES_TRIED = ("single", "openai", "short", "region")


@dataclass(frozen=True)
class AdaptOptions:
    """Options of an adaptation.

    Attributes:
        templates: names of templates of the class texts to start from; cross-validation chooses.
        decisions: objective, shrinkage, calibration and seed of the thresholds.
    """

    templates: tuple[str, ...] = TEMPLATES_TRIED
    decisions: MultilabelOptions = MultilabelOptions()  # noqa: RUF009 (frozen)


def labelled_split(
    embeddings: RunEmbeddings, directory: Path, split: str, classes: Sequence[str] | None = None
) -> LabelledPictures:
    """Return a split of records, or several as "train+val"; labels are read once per process."""
    fingerprint = load_manifest(directory).fingerprint()
    parts = [
        embeddings.labels(
            f"{fingerprint}:{part}",
            partial(labelled_records, directory, part),
            RecordPictures(((directory, part),)),
        )
        for part in split.split("+")
    ]
    return with_classes(joined(parts), classes)


def adapt_run(
    run: Path,
    records: Path,
    split: str,
    name: str,
    options: AdaptOptions = AdaptOptions(),  # noqa: B008 (frozen)
    classes: Sequence[str] | None = None,
) -> dict:
    """Fit classes to the labelled pictures of a split, and make them the default of `predict`.

    Writes `adapted/NAME.npz`, `thresholds/adapted-NAME.json`, thresholds.json, and the scores for
    fitting thresholds with another objective.

    Returns:
        The settings that cross-validation chose, and its metrics.

    Raises:
        ValueError: see `labelled_records` and `fit_few_labels`.
    """
    embeddings = RunEmbeddings(run)
    pictures = labelled_split(embeddings, records, split, classes)
    names = pictures.class_names
    prompts = {each: class_prompts(names, each, {}) for each in options.templates}
    texts = {each: class_embeddings_of(embeddings, listed) for each, listed in prompts.items()}
    embedded = embed_labelled(embeddings, pictures)
    present, difficult = pictures.present[embedded.rows], pictures.difficult[embedded.rows]
    seed = options.decisions.seed
    learnt = fit_few_labels(embedded.views[:, 0], present, difficult, texts, seed)
    keys = tuple(pictures.keys[row] for row in embedded.rows)
    held_out = ScoredPictures(
        pictures.split, names, keys, present, difficult, learnt.held_out[:, None], pictures.skipped
    )
    fitted = fit_all(held_out, options.decisions, embeddings.logit_scale)
    data = f"{records}:{split}"
    adapted = AdaptedClasses(
        name,
        embeddings.fingerprint,
        data,
        names,
        keys,
        learnt.classes,
        present,
        difficult,
        learnt.held_out,
    )
    written = adapted.write(run)
    benchmark = f"adapted-{name}"
    _keep_scores(run / "metrics" / f"{benchmark}_scores.npz", held_out)
    decided = replace(options.decisions, templates=learnt.setting.texts)
    content = {
        **thresholds_content(
            names, prompts[learnt.setting.texts], fitted, decided, {"name": "max"}, split
        ),
        "adapted": name,
        "data": data,
        "model": embeddings.fingerprint,
    }
    thresholds = write_thresholds(run, benchmark, content)
    say(f"{written}, {thresholds}")
    return _figures(learnt, options.templates[0]) | {
        "name": name,
        "pictures": len(keys),
        "classes": len(names),
        "positives": dict(zip(names, (present & ~difficult).sum(axis=0).tolist(), strict=True)),
        "written": [str(written), str(thresholds)],
    }


def _figures(learnt: FewLabels, first: str) -> dict:
    setting = learnt.setting
    return {
        "templates": setting.texts,
        "text_weight": None if setting.strength is None else setting.text_weight,
        "strength": setting.strength,
        "cross_validated_map": float(mean_defined(learnt.tried[setting])),
        "zero_shot_map": float(mean_defined(learnt.tried[Setting(first)])),
        "cross_validated_classes": int((~np.isnan(learnt.tried[setting])).sum()),
    }


def _keep_scores(path: Path, scored: ScoredPictures) -> None:
    arrays = {
        f"calibration_{field}": getattr(scored, field)
        for field in ("keys", "scores", "present", "difficult")
    }
    with files.new_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, class_names=scored.class_names, **arrays)
