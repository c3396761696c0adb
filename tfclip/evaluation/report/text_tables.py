"""Formats measurements as text tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

DECISION_RATES = ("f1", "sensitivity", "specificity", "precision", "accuracy")


def multilabel_table(figures: Mapping) -> str:
    """Return the table of `multilabel.evaluate_multilabel`."""
    per_class, unseen = figures["per_class"], figures["never_trained"]
    shown = {name: f"{name} *" if name in unseen else name for name in per_class}
    width = max(map(len, shown.values()))
    columns = ("positives", "ap", "ap_voc07", "threshold", *DECISION_RATES)
    lines = [f"{'class':{width}}" + "".join(f"{column:>12}" for column in columns)]
    for name, row in per_class.items():
        cells = "".join(_cell(row[column]) for column in columns)
        lines.append(f"{shown[name]:{width}}{cells}")
    if unseen:
        lines.append("* never trained")
    lines.append("")
    intervals = figures["intervals"]
    descriptions = {
        "map": "mAP, all points, difficult objects count (CLIP_benchmark)",
        "map_voc07": "mAP, VOC2007 11 points, difficult objects ignored",
        "map_one_view": "mAP, whole picture only",
        "map_gain_by_tiles": f"mAP gained by tiles {figures['tiles']}",
        "map_seen": "mAP, trained classes",
        "map_unseen": f"mAP, the {len(unseen)} never-trained classes",
    }
    for name, description in descriptions.items():
        if name in figures:
            lines.append(f"{description:58}{_with_interval(figures[name], intervals[name])}")
    lines.append("")
    lines.append(f"{'thresholds':26}{'mean':8}" + "".join(f"{rate:>12}" for rate in DECISION_RATES))
    for kind, decided in threshold_kinds(figures).items():
        for mean in ("macro", "micro"):
            cells = "".join(_cell(decided[mean][rate]) for rate in DECISION_RATES)
            lines.append(f"{kind:26}{mean:8}{cells}")
    f1 = _with_interval(figures["macro"]["f1"], intervals["macro_f1"])
    lines += ["", f"{'macro F1 with the thresholds in use':58}{f1}"]
    if "oracle" in figures:
        gap = figures["oracle"]
        gap_text = _with_interval(gap["macro_f1_gap"], gap["macro_f1_gap_interval"])
        lines.append(f"{'macro F1, gap to the oracle':58}{gap_text}")
    lines += _abstention_lines(figures)
    lines += ["", *_probability_lines(figures), *_template_lines(figures), *remarks(figures)]
    return "\n".join(lines)


def threshold_kinds(figures: Mapping) -> dict[str, Mapping]:
    """Return the kinds of thresholds that tables compare: name to `macro` and `micro` rates."""
    softmax = figures["softmax"]
    kinds = {"cosine, per class": figures}
    if figures["shrinkage"]:
        kinds = {"cosine, shrunk": figures, "cosine, per class alone": figures["unshrunk"]}
    kinds |= {
        "cosine, global": figures["global"],
        "softmax, per class": softmax,
        "softmax, global": softmax["global"],
    }
    if "oracle" in figures:
        kinds["oracle (fitted on test)"] = figures["oracle"]
    return kinds


def _abstention_lines(figures: Mapping) -> list[str]:
    if "none_of_these" not in figures:
        return []
    none, intervals = figures["none_of_these"], figures["none_of_these"]["intervals"]
    lines = [
        "",
        f"{'pictures without a predicted class (none of these)':58}"
        + _with_interval(none["rate"], intervals["rate"]),
    ]
    if not none["pictures"]:
        return [*lines, "  every picture shows a class: each of these answers is wrong"]
    for rate, description in (
        ("precision", "  of these, show none of the classes (precision)"),
        ("sensitivity", f"  of the {none['pictures']} that show none, found (recall)"),
    ):
        if none[rate] == none[rate]:
            lines.append(f"{description:58}{_with_interval(none[rate], intervals[rate])}")
    return lines


def _probability_lines(figures: Mapping) -> list[str]:
    errors = figures["probabilities"]["expected_calibration_error"]
    listed = ", ".join(f"{kind} {error:.3f}" for kind, error in errors.items())
    return [f"expected calibration error of probabilities: {listed}", ""]


def _template_lines(figures: Mapping) -> list[str]:
    if "by_templates" not in figures:
        return []
    lines = [f"{'mAP by templates':58}"]
    for name, measured in figures["by_templates"].items():
        text = "a prompt is too long for this model"
        if measured is not None:
            text = _with_interval(measured["map"], measured["interval"])
        lines.append(f"  {name:56}{text}")
    return [*lines, ""]


def remarks(figures: Mapping) -> list[str]:
    """Return sentences on how the figures were measured."""
    occurring = figures["never_trained_in_calibration"]
    sentences = [
        f"{figures['images']} pictures of split {figures['split']}; templates "
        f"{figures['templates']}; tiles {figures['tiles']}; fusion {_fusion(figures['fusion'])}; "
        "[95 % bootstrap intervals]",
        _fitted_on(figures)
        + (
            f"; {len(occurring)} of the {len(figures['never_trained'])} never-trained classes "
            "occur there: not trained on, but calibrated"
            if occurring
            else ""
        ),
    ]
    for key, text in (
        ("without_positives", f"no AP, left out of means (no positive in {figures['split']})"),
        (
            "global_threshold_for",
            f"global threshold used (no positive or no negative in {figures['calibrate']})",
        ),
    ):
        if figures[key]:
            sentences.append(f"{text}: {', '.join(figures[key])}")
    if figures["skipped"]:
        sentences.append(f"{figures['skipped']} pictures could not be read and are left out")
    return sentences


def _fitted_on(figures: Mapping) -> str:
    if "negatives" not in figures:
        shrunk = f"; shrinkage {figures['shrinkage']:g}" if figures["shrinkage"] else ""
        return (
            f"thresholds fitted for {figures['objective']} on split {figures['calibrate']}, "
            f"{figures['calibration_images']} other pictures{shrunk}"
        )
    negatives = figures["negatives"]
    bound, measured = (negatives[f"{k}_false_positive_rate"] for k in ("promised", "measured"))
    interval = negatives["measured_interval"]
    text = (
        f"thresholds from negatives alone, {figures['calibration_images']} pictures of "
        f"{negatives['split']}, for a false-positive rate of at most {bound:.3f} on pictures like "
        f"these; measured on {figures['split']}: {_with_interval(measured, interval)} in the mean "
        f"over classes, {negatives['highest_measured']:.3f} at most. Recall is not guaranteed"
    )
    if interval[0] > bound:
        text += (
            ". The measured rate exceeds the bound: the pictures of "
            f"{figures['split']} differ from these. Take --negatives from where the model is used"
        )
    return text


def _fusion(fusion: Mapping) -> str:
    if fusion["name"] == "logsumexp":
        return f"logsumexp (sharpness {fusion['sharpness']:.1f})"
    if fusion["name"] == "learnt":
        return f"learnt ({' + '.join(f'{weight:g}' for weight in fusion['weights'])})"
    return fusion["name"]


def retrieval_table(figures: Mapping) -> str:
    """Return the table of `retrieval.evaluate_retrieval`."""
    keys = ("r1", "r5", "r10", "median_rank")
    lines = [f"{'':16}" + "".join(f"{key:>12}" for key in keys)]
    lines += _directions(figures, keys)
    counted = f"{figures['images']} pictures, {figures['captions']} captions"
    lines.append(f"{counted} of {figures['records']}:{figures['split']}")
    if bank := figures.get("query_bank"):
        lines += [f"with the query bank {bank['records']}:{bank['split']}:"]
        lines += _directions(bank, keys)
    return "\n".join(lines)


def _directions(figures: Mapping, keys: Sequence[str]) -> list[str]:
    """Return a line for each direction of retrieval."""
    return [
        f"{name.replace('_', ' '):16}" + "".join(_cell(figures[name][key]) for key in keys)
        for name in ("image_to_text", "text_to_image")
    ]


def classification_table(figures: Mapping) -> str:
    """Return the table of `classification.evaluate_classification`."""
    keys = ("top1", "top5", "top10")
    return "\n".join(
        [
            "".join(f"{key:>12}" for key in keys),
            "".join(_cell(figures[key]) for key in keys),
            f"{figures['images']} pictures, {figures['classes']} classes; "
            f"templates {figures['templates']}",
        ]
    )


def _cell(value: float | None) -> str:
    if value is None or value != value:
        return f"{'-':>12}"
    return f"{value:>12}" if isinstance(value, int) else f"{value:>12.3f}"


def _with_interval(value: float, interval: Sequence[float]) -> str:
    return f"{value:.3f}  [{interval[0]:.3f}, {interval[1]:.3f}]"


def sts_table(figures: Mapping) -> str:
    """Return the table of `sts.evaluate_sts`; correlations in percent."""
    lines = [f"{'':8}{'Spearman':>10}{'Pearson':>10}{'pairs':>8}{'unscored':>10}"]
    for name, row in figures.items():
        if isinstance(row, Mapping) and "spearman" in row:
            correlations = "".join(_percent(row[key]) for key in ("spearman", "pearson"))
            lines.append(f"{name:8}{correlations}{row['pairs']:>8}{row['unscored']:>10}")
    lines.append(f"{'mean':8}{_percent(figures['mean_spearman'])}  (STS12 to STS16 and STS-B)")
    return "\n".join([*lines, f"cosine of {figures['text']}"])


def _percent(value: float | None) -> str:
    return f"{'-':>10}" if value is None or value != value else f"{100 * value:>10.2f}"
