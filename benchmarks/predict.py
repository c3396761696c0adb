"""python -m benchmarks.predict: how fast are thousands of files answered, and in what memory?

Pictures per second of `tfclip.predict` (files read, decoded, embedded, scored, written as CSV and
as JSON lines) beside `embed_pictures` on packed records of them, what `evaluate` runs, in turns in
one process. And the most memory of the process after a tenth of the files, after half of them and
at the end, in the first round. One of the files is broken and must be rejected, alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import compared, timed

BATCHES_TO_WARM_UP = 4


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description=__doc__)
    add = parser.add_argument
    add("run", type=Path, help="a run with fitted thresholds, in one view")
    add("pictures", nargs="+", help="files, folders or globs")
    add("--records", type=Path, required=True, help="packed records to compare with")
    add("--split", default="train")
    add("--count", type=int, default=5000, help="pictures of a round")
    add("--rounds", type=int, default=3)
    add("--json", action="store_true", help="the result as the last line on standard output")
    flags = parser.parse_args(argv)
    result = measure(flags)
    ours, theirs = result["ours"], result["theirs"]
    print(
        f"predict {ours['images_per_second']:.1f} images/s, evaluation "
        f"{theirs['images_per_second']:.1f} images/s; ratio {result['ratio']:.3f} (round by round "
        f"{' '.join(f'{ratio:.2f}' for ratio in result['ratios'])}); most memory after "
        + ", ".join(
            f"{count:,}: {megabytes:.0f} MB" for count, megabytes in result["peaks"].items()
        )
        + f"; rejected: {result['rejected']}",
        file=sys.stderr,
    )
    if flags.json:
        print(json.dumps(result))
    return 0


def measure(flags: argparse.Namespace) -> dict:
    """Both sides in turns, as `timing.compared` says it, and the memory of the last round."""
    from tfclip.evaluation.datasets.views import record_views
    from tfclip.evaluation.embedding.embed import embed_pictures
    from tfclip.models.saving import load_model
    from tfclip.serving.open_classifier import open_classifier
    from tfclip.serving.prediction.answers import AnswerFiles, rows_of
    from tfclip.serving.prediction.batches import PICTURES_AT_ONCE, answer_files
    from tfclip.serving.prediction.picture_files import find_pictures

    paths = find_pictures(flags.pictures).paths[: flags.count]
    opened, model = open_classifier(flags.run), load_model(flags.run)
    views = record_views(flags.records, flags.split, model.config.picture_size).take(len(paths))
    peaks: dict[int, float] = {}
    rejected: list[str] = []

    def predict(count: int = len(paths)) -> int:
        marks = {len(paths) // 10, len(paths) // 2, len(paths)}
        rejected.clear()
        with tempfile.TemporaryDirectory() as folder:
            broken = Path(folder) / "broken.jpg"
            broken.write_bytes(Path(paths[0]).read_bytes()[:200])
            chosen = [*paths[: count // 3], str(broken), *paths[count // 3 : count]]
            written = (Path(folder) / "answers.csv", Path(folder) / "answers.jsonl")
            with AnswerFiles(*written) as writer:
                for number, each in enumerate(answer_files(opened, chosen)):
                    rows = None if each.outputs is None else rows_of(each.outputs, opened.scale)
                    writer.write(each.path, rows, each.reason)
                    if rows is None:
                        rejected.append(f"{Path(each.path).name} {each.reason}")
                    if number in marks:
                        peaks.setdefault(number, _most_megabytes())
        if len(rejected) != 1:
            raise RuntimeError(f"rejected {rejected}, expected the broken file alone")
        return count

    def evaluate() -> int:
        return len(embed_pictures(model, views)[0])

    predict(min(len(paths) // 10 - 1, BATCHES_TO_WARM_UP * PICTURES_AT_ONCE))
    embed_pictures(model, views.take(BATCHES_TO_WARM_UP * PICTURES_AT_ONCE))
    ours, theirs = [], []
    for _ in range(flags.rounds):
        ours.append(timed(predict))
        theirs.append(timed(evaluate))
    result = {"pictures": len(paths), "peaks": peaks, "rejected": rejected}
    return compared(ours, theirs) | result


def _most_megabytes() -> float:
    """Return the most resident memory of this process until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
