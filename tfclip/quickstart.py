"""python -m tfclip.quickstart: all commands in turn on drawn shapes, from data to a SavedModel."""

import contextlib
import io
import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tfclip.console import Command, CommandFailed, run, say

# Pictures per split of the drawn data sets, at --scale 1.
VISUAL_GENOME, FLICKR8K, COCO, VOC = 6000, (600, 200, 200), (200, 100), (1000, 1000, 1000)
# The formats of the four real data sets, drawn into one folder, and the splits of each to pack.
PACKED = {
    "visual_genome": ("visual_genome", ()),
    "flickr8k": ("flickr8k", ()),
    "coco": ("coco", ()),
    "voc": ("voc/VOCdevkit/VOC2007", ("trainval", "test")),
}


@dataclass(frozen=True)
class QuickstartFlags:
    """Draw, pack, train, measure and export a small CLIP on coloured shapes, without a download."""

    folder: Path = Path()
    """The folder for drawn/, records/, runs/ and exported/."""
    steps: int | None = None
    """Training steps; by default those of the recipe. Fewer are faster and give worse figures."""
    scale: float = 1.0
    """Fraction of the pictures to draw, 0.05 to 1; less is faster."""
    seed: int = 0
    """Seed of the drawing and the training."""

    def __post_init__(self):
        if not 0.05 <= self.scale <= 1:
            raise ValueError(f"--scale must be 0.05 to 1; received {self.scale}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"--steps must be above 0; received {self.steps}")


def quickstart(flags: QuickstartFlags) -> dict:
    """Run every command of the pipeline once, as a user would, and print the figures."""
    # Each stage is the command itself, with the words of a command line.
    from tfclip import evaluate, export, fit, make_records
    from tfclip.sources.shapes import NEVER_TRAINED, draw_shapes
    from tfclip.training.run_directory import CONFIG_FILE

    folder, started = flags.folder, time.monotonic()
    drawn, records = folder / "drawn", folder / "records"
    trained, exported = folder / "runs" / "quickstart", folder / "exported"
    if trained.exists() and not (trained / CONFIG_FILE).is_file():
        raise FileExistsError(f"{trained} exists and is not a run; choose another --folder")

    with _stage(1, "draw four data sets in their original formats"):

        def scaled(count: int) -> int:
            return max(1, round(count * flags.scale))

        draw_shapes(
            drawn,
            seed=flags.seed,
            visual_genome=scaled(VISUAL_GENOME),
            flickr8k=(scaled(FLICKR8K[0]), scaled(FLICKR8K[1]), scaled(FLICKR8K[2])),
            coco=(scaled(COCO[0]), scaled(COCO[1])),
            voc=(scaled(VOC[0]), scaled(VOC[1]), scaled(VOC[2])),
        )
    with _stage(2, "pack them into TFRecords"):
        for source, (data, splits) in PACKED.items():
            chosen = ["--splits", *splits] if splits else []
            words = [
                source,
                "--data",
                str(drawn / data),
                "--out",
                str(records / f"shapes-{source}"),
            ]
            _command(make_records, [*words, *chosen, "--overwrite"])
    with _stage(3, "train"):
        words = ["shapes", "--records", f"{records}/shapes-visual_genome", "--run", str(trained)]
        words += ["--val", f"{records}/shapes-flickr8k:dev", "--seed", str(flags.seed)]
        words += ["--steps", str(flags.steps)] if flags.steps else []
        _command(fit, [*words, "--overwrite", "--never-trained", *NEVER_TRAINED])
    with _stage(4, "measure: zero-shot, multi-label, thresholds fitted on trainval"):
        words = [str(trained), "voc", "--records", f"{records}/shapes-voc", "--split", "test"]
        voc = _command(evaluate, [*words, "--calibrate", "trainval", "--tiles", "1+4"])
        words = [str(trained), "retrieval", "--records", f"{records}/shapes-flickr8k:test"]
        retrieval = _command(evaluate, words)
    with _stage(5, "export one SavedModel"):
        saved = _command(export, [str(trained), "--out", str(exported)])

    seconds = time.monotonic() - started
    say("\nresults (0 to 1, higher is better)")
    _table(
        {
            "mAP, 20 classes, picture and 4 crops": voc["map"],
            "mAP, 20 classes, whole picture": voc["map_one_view"],
            "mAP, 15 trained classes": voc["map_seen"],
            "mAP, 5 never-trained classes": voc["map_unseen"],
            "F1, mean over classes": voc["macro"]["f1"],
            "R@10, captions of a picture": retrieval["image_to_text"]["r10"],
            "R@10, picture of a caption": retrieval["text_to_image"]["r10"],
        }
    )
    say(
        f"mAP: mean average precision of ranking {voc['images']:,} test pictures for each class\n"
        "F1: of yes-or-no decisions; their thresholds were fitted on trainval, which contains the "
        "never-trained classes\n"
        f"R@10: how often a correct one is among the first 10 of {retrieval['images']:,} pictures "
        f"or {retrieval['captions']:,} captions"
    )
    say("\nfiles")
    _table(
        {
            "records": records,
            "run": trained,
            "report": trained / "report.html",
            "SavedModel": saved["path"],
        }
    )
    picture = min((drawn / PACKED["voc"][0] / "JPEGImages").glob("*.jpg"))
    # The virtual environment of `make` is not on the user's PATH.
    here = Path(sys.prefix).parent == Path.cwd()
    python = Path(sys.executable).relative_to(Path.cwd()) if here else "python"
    say(
        f"\nnext: open {trained / 'report.html'} in a browser, or classify a picture and search:\n"
        f"  {python} -m tfclip.predict {saved['path']} {picture}\n"
        f"  {python} -m tfclip.search index {trained} {records / 'shapes-flickr8k'}\n"
        f'  {python} -m tfclip.search query "a red circle" --index shapes-flickr8k\n'
    )
    say(f"total time: {seconds:.0f} s")
    return {"voc": voc, "retrieval": retrieval, "exported": saved["path"], "seconds": seconds}


@contextlib.contextmanager
def _stage(number: int, what: str) -> Iterator[None]:
    say(f"\n{number}. {what}")
    started = time.monotonic()
    yield
    say(f"   {time.monotonic() - started:.0f} s")


def _command(module: ModuleType, words: list[str]) -> dict:
    """Run a command in this process and return its result."""
    say(f"   $ python -m {module.__name__} {shlex.join(words)}")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = module.main([*words, "--json"])
    if code:
        raise CommandFailed(f"{module.__name__} ended with exit code {code}", exit_code=code)
    return json.loads(printed.getvalue().splitlines()[-1])


def _table(rows: Mapping[str, object]) -> None:
    """Print names and values in two columns."""
    width = max(map(len, rows)) + 2
    values = (f"{v:.3f}" if isinstance(v, float) else str(v) for v in rows.values())
    say("\n".join(f"  {name:{width}}{value}" for name, value in zip(rows, values, strict=True)))


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("tfclip.quickstart", Command(QuickstartFlags, quickstart), argv)


if __name__ == "__main__":
    sys.exit(main())
