"""python -m tfclip.quickstart: the whole story on drawn shapes, from raw data to a SavedModel."""

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

# Pictures per split of what is drawn, at --scale 1.
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
    """Where drawn/, records/, runs/ and exported/ are made."""
    steps: int | None = None
    """Training steps; by default those of the recipe. Fewer give worse figures sooner."""
    scale: float = 1.0
    """Share of the pictures to draw, for a quick look: 0.05 to 1."""
    seed: int = 0
    """Of the drawing and the training."""

    def __post_init__(self):
        if not 0.05 <= self.scale <= 1:
            raise ValueError(f"--scale must be 0.05 to 1; received {self.scale}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"--steps must be above 0; received {self.steps}")


def quickstart(flags: QuickstartFlags) -> dict:
    """Run every command of the pipeline once, as a user would, and print what came out."""
    # Each stage is the command itself, with words as on a command line: what runs here runs there.
    from tfclip import evaluate, export, fit, make_records
    from tfclip.sources.shapes import NEVER_TRAINED, draw_shapes
    from tfclip.training.run_directory import CONFIG_FILE

    folder, started = flags.folder, time.monotonic()
    drawn, records = folder / "drawn", folder / "records"
    trained, exported = folder / "runs" / "quickstart", folder / "exported"
    if trained.exists() and not (trained / CONFIG_FILE).is_file():
        raise FileExistsError(f"{trained} is there and is no run; choose another --folder")

    with _stage(1, "draw four data sets in their genuine formats"):

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
    with _stage(4, "measure: zero-shot, several labels to a picture, thresholds from trainval"):
        words = [str(trained), "voc", "--records", f"{records}/shapes-voc", "--split", "test"]
        voc = _command(evaluate, [*words, "--calibrate", "trainval", "--tiles", "1+4"])
        words = [str(trained), "retrieval", "--records", f"{records}/shapes-flickr8k:test"]
        retrieval = _command(evaluate, words)
    with _stage(5, "export one SavedModel"):
        saved = _command(export, [str(trained), "--out", str(exported)])

    seconds = time.monotonic() - started
    say("\nwhat was measured; 1 is perfect, and a higher figure is better")
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
        "F1: of yes-or-no decisions, whose thresholds were fitted on trainval, in which the "
        "never-trained classes occur\n"
        f"R@10: how often a right one is among the first 10, of {retrieval['images']:,} pictures "
        f"and {retrieval['captions']:,} captions"
    )
    say("\nwhere everything is")
    _table(
        {
            "records": records,
            "run": trained,
            "report": trained / "report.html",
            "SavedModel": saved["path"],
        }
    )
    picture = min((drawn / PACKED["voc"][0] / "JPEGImages").glob("*.jpg"))
    # The interpreter of `make` is on nobody's path.
    here = Path(sys.prefix).parent == Path.cwd()
    python = Path(sys.executable).relative_to(Path.cwd()) if here else "python"
    say(
        f"\nnext: open {trained / 'report.html'} in a browser, or ask about a picture:\n"
        f"  {python} -m tfclip.predict {saved['path']} {picture}\n"
        f"  {python} -m tfclip.search index {trained} {records / 'shapes-flickr8k'}\n"
        f'  {python} -m tfclip.search query "a red circle" --index {trained / "search.npy"}\n'
    )
    say(f"{seconds:.0f} s in all")
    return {"voc": voc, "retrieval": retrieval, "exported": saved["path"], "seconds": seconds}


@contextlib.contextmanager
def _stage(number: int, what: str) -> Iterator[None]:
    say(f"\n{number}. {what}")
    started = time.monotonic()
    yield
    say(f"   {time.monotonic() - started:.0f} s")


def _command(module: ModuleType, words: list[str]) -> dict:
    """Run a command with these words, in this process, and return its result."""
    say(f"   $ python -m {module.__name__} {shlex.join(words)}")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = module.main([*words, "--json"])
    if code:
        raise CommandFailed(f"{module.__name__} ended with exit code {code}", exit_code=code)
    return json.loads(printed.getvalue().splitlines()[-1])


def _table(rows: Mapping[str, object]) -> None:
    """Say names and values in two columns."""
    width = max(map(len, rows)) + 2
    told = (f"{v:.3f}" if isinstance(v, float) else str(v) for v in rows.values())
    say("\n".join(f"  {name:{width}}{value}" for name, value in zip(rows, told, strict=True)))


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return run("tfclip.quickstart", Command(QuickstartFlags, quickstart), argv)


if __name__ == "__main__":
    sys.exit(main())
