"""python -m tfclip.soup RUN_A RUN_B: interpolate the weights of two runs and measure the mixes."""

import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tyro.conf import Positional

from tfclip import files
from tfclip.console import Command, progress, run, say
from tfclip.models.model_directory import model_directory
from tfclip.naming import unknown
from tfclip.records.manifest import load_manifest, records_reference

MEASURES = ("voc", "retrieval")


@dataclass(frozen=True)
class SoupFlags:
    """Measure (1 - alpha) RUN_A + alpha RUN_B for several alphas, and write the best mix as a run.

    For instance RUN_A before and RUN_B after fine-tuning: a mix often keeps the accuracy of A and
    most of what B learnt (WiSE-FT).
    """

    first: Positional[Path]
    """A run: alpha 0."""
    second: Positional[Path]
    """A run of the same architecture and vocabulary: alpha 1."""
    measure: tuple[str, ...]
    """One or several measurements: voc=RECORDS:SPLIT (mAP, one view), retrieval=RECORDS:SPLIT
    (mean of both R@1)."""
    run: Path
    """The run to write, with a table (soup.json) and a plot (soup.html); it must not exist."""
    alpha: str = "0:1:0.1"
    """FIRST:LAST:STEP, or one number, or several with commas."""
    choose: float | None = None
    """The alpha to write; by default the one with the highest mean of all measurements."""

    def __post_init__(self):
        """Check the flags before TensorFlow starts.

        Raises:
            ValueError, FileNotFoundError, FileExistsError: name the flag.
        """
        for path in (self.first, self.second):
            model_directory(path)
        alphas = self.alphas()
        if self.choose is not None and not any(math.isclose(self.choose, a) for a in alphas):
            raise ValueError(
                f"--choose {self.choose} is not one of the alphas of --alpha {self.alpha}"
            )
        if not self.measure:
            raise ValueError("give --measure voc=RECORDS:SPLIT or retrieval=RECORDS:SPLIT")
        for kind, directory, split in self.measures():
            load_manifest(directory).shards_of(split)
            if kind not in MEASURES:
                raise unknown("measurement", kind, MEASURES)
        if self.run.exists():
            raise FileExistsError(f"{self.run} exists already; choose another --run")

    def alphas(self) -> list[float]:
        """Return the alphas in ascending order.

        Raises:
            ValueError: not numbers, none, or one outside 0..1.
        """
        try:
            if ":" in self.alpha:
                first, last, step = (float(part) for part in self.alpha.split(":"))
                count = round((last - first) / step) if step > 0 else -1
                alphas = [round(first + number * step, 6) for number in range(count + 1)]
            else:
                alphas = sorted(float(part) for part in self.alpha.split(","))
        except ValueError:
            alphas = []
        if not alphas or not all(0 <= alpha <= 1 for alpha in alphas):
            raise ValueError(
                f"--alpha must be FIRST:LAST:STEP or numbers in 0..1; received {self.alpha}"
            )
        return alphas

    def measures(self) -> list[tuple[str, Path, str]]:
        """Return (kind, records, split) of each `--measure`.

        Raises:
            ValueError: for anything but KIND=RECORDS:SPLIT.
        """
        measures = []
        for text in self.measure:
            kind, equals, reference = text.partition("=")
            directory, split = records_reference(reference, "test")
            if not equals or not reference:
                raise ValueError(f"--measure must be KIND=RECORDS:SPLIT; received {text}")
            measures.append((kind, directory, split))
        return measures


def soup(flags: SoupFlags) -> dict:
    """Measure the mixes; write the chosen one, the table and the plot."""
    from tfclip.evaluation.report.json_files import write_json
    from tfclip.evaluation.tasks.map_during_training import SplitScorer
    from tfclip.evaluation.tasks.retrieval import evaluate_retrieval
    from tfclip.models.mixing import Line
    from tfclip.models.saving import save_model

    line, names = Line(flags.first, flags.second), list(flags.measure)
    scorers = []
    for kind, directory, split in flags.measures():
        if kind == "voc":
            scorers.append(SplitScorer(line.model, directory, split).map)
        else:
            reference = f"{directory}:{split}"
            scorers.append(partial(_recall, evaluate_retrieval, line, reference))
    rows = []
    for alpha in progress(flags.alphas(), total=len(flags.alphas()), what="measuring mixes"):
        line.at(alpha)
        rows.append({"alpha": alpha, **dict(zip(names, (one() for one in scorers), strict=True))})
    best = max(rows, key=lambda row: sum(row[name] for name in names))
    chosen = best["alpha"] if flags.choose is None else flags.choose
    say(table(rows, names, chosen))
    content = {
        "alpha": chosen,
        "rows": rows,
        "first": str(flags.first),
        "second": str(flags.second),
    }
    files.remove_unfinished(flags.run.parent, flags.run.name)
    with files.new_folder(flags.run) as temporary:
        save_model(temporary / "best", line.at(chosen))
        write_json(temporary / "soup.json", content)
        (temporary / "soup.html").write_text(_page(rows, names, chosen), encoding="utf-8")
    say(f"{flags.run}: the mix at alpha {chosen:g}; plot in {flags.run / 'soup.html'}")
    return {"run": str(flags.run), **content}


def _recall(evaluate, line, reference: str) -> float:
    figures = evaluate(line.model, reference)
    return (figures["image_to_text"]["r1"] + figures["text_to_image"]["r1"]) / 2


def table(rows: list[dict], names: list[str], chosen: float) -> str:
    """Return a table with one line per alpha, in percent; the chosen one is marked with *."""
    width = max(12, *(len(name) for name in names))
    head = "  alpha  " + "  ".join(f"{name:>{width}}" for name in names)
    lines = [
        f"{'*' if math.isclose(row['alpha'], chosen) else ' '} {row['alpha']:5.2f}  "
        + "  ".join(f"{100 * row[name]:{width}.1f}" for name in names)
        for row in rows
    ]
    return "\n".join([head, *lines])


def _page(rows: list[dict], names: list[str], chosen: float) -> str:
    from tfclip.evaluation.report.charts import Chart
    from tfclip.evaluation.report.charts import Line as Curve
    from tfclip.evaluation.report.drawing import Drawing
    from tfclip.evaluation.report.html_render import render

    alphas = [row["alpha"] for row in rows]
    along = [Curve(name, alphas, [row[name] for row in rows], dots=True) for name in names]
    chart = Chart(tuple(along), "by alpha", x_label="alpha", y_label="measurement", marked_x=chosen)
    curves = [(f"Measurements by alpha; {chosen:g} was chosen", chart)]
    if len(names) > 1:
        first, second = ([row[name] for row in rows] for name in names[:2])
        curve = Curve("mixes, from alpha 0 to 1", first, second, dots=True)
        chart = Chart(
            (curve,), "both measurements", x_label=names[0], y_label=names[1], y_range=None
        )
        curves.append(("One measurement against the other", chart))
    title = "Mixes of two runs"
    percents = [
        [_marked(row["alpha"], chosen), *(f"{100 * row[name]:.1f}" for name in names)]
        for row in rows
    ]
    columns = ["alpha", *(f"{name}, %" for name in names)]
    return render(
        "soup.html", title=title, curves=curves, draw=Drawing(), columns=columns, rows=percents
    )


def _marked(alpha: float, chosen: float) -> str:
    return f"{alpha:.2f}{' (chosen)' if math.isclose(alpha, chosen) else ''}"


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("tfclip.soup", Command(SoupFlags, soup), argv)


if __name__ == "__main__":
    sys.exit(main())
