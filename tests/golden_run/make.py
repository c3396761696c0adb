"""Trains the two golden runs and writes what they answer; see README.md.

Runs with the commit named there, never with a later one: the point is what that commit wrote. So
its imports name the modules of that commit, and stay as they are.

    git worktree add /tmp/old 537289a
    cd tests/golden_run && PYTHONPATH=/tmp/old python make.py FOLDER
"""

# ruff: noqa: I001 (modules of another commit)
import contextlib
import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfclip import evaluate, export, fit, make_records, predict
from tfclip.models.saved import load_model
from tfclip.sources.shapes import draw_shapes
from tfclip.training.checkpoints import Checkpoints
from tfclip.training.recipes import RECIPES

HERE = Path(__file__).parent
KILLED_AFTER = 6
# Where the commands of cases.json expect them.
RECORDS = {
    "visual_genome": ("visual_genome", []),
    "flickr8k": ("flickr8k", ["--splits", "dev"]),
    "voc": ("voc/VOCdevkit/VOC2007", ["--splits", "trainval", "test"]),
}


def command(module, words: list[str]) -> dict:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = module.main([*words, "--json"])
    assert code == 0, (module.__name__, words)
    return json.loads(printed.getvalue().splitlines()[-1])


def use_sizes(case: dict) -> None:
    """Give the recipe the towers of a case, which no flag could make so small."""
    defaults = {**ORIGINAL.defaults, **case["towers"]}
    RECIPES["shapes"] = dataclasses.replace(ORIGINAL, defaults=defaults, **case["sizes"])


def killed_fit(case: dict) -> None:
    """Train until a checkpoint is written, and die as by `kill -9`."""
    save = Checkpoints.save

    def save_and_die(self, step, *args, **options):
        save(self, step, *args, **options)
        if step == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpoints.save = save_and_die
    use_sizes(case)
    fit.main(case["fit"])


def answers(case: dict, run: str) -> dict:
    """What `load`, `evaluate`, `predict` and `export` say of a run."""
    pictures = [str(path) for path in sorted(Path("pictures").iterdir())]
    model = load_model(Path(run))
    from tfclip.pipeline import load

    clip, preprocess = load(run)
    pixels = np.stack([preprocess(path) for path in pictures])
    found = {
        "evaluate": command(evaluate, [*case["evaluate"]]),
        "retrieval": command(evaluate, [run, "retrieval", "--records", "records/flickr8k:dev"]),
        "predict": command(predict, [run, *pictures]),
        "images": clip.dual_encoder.encode_image(pixels).numpy().tolist(),
        "texts": clip.dual_encoder.encode_text(**model.tokenizer(case["texts"])).numpy().tolist(),
    }
    found["thresholds"] = json.loads(Path(run, "thresholds.json").read_text())
    saved = command(export, [run, "--out", f"exported-{run}"])
    found["exported"] = command(predict, [saved["path"], *pictures])
    return found


def main(folder: Path) -> None:
    folder.mkdir()
    os.chdir(folder)
    cases = json.loads((HERE / "cases.json").read_text())
    draw_shapes(
        Path("drawn"),
        visual_genome=24,
        flickr8k=(1, 44, 1),
        coco=(1, 1),
        voc=(12, 12, 24),
        image_size=64,
        seed=5,
    )
    for name, (data, splits) in RECORDS.items():
        command(
            make_records,
            [
                name,
                "--data",
                f"drawn/{data}",
                "--out",
                f"records/{name}",
                "--workers",
                "1",
                *splits,
            ],
        )
    Path("pictures").mkdir()
    for path in sorted(Path("drawn/voc/VOCdevkit/VOC2007/JPEGImages").iterdir())[:3]:
        shutil.copy(path, "pictures")
    expected = {}
    for name, case in cases.items():
        child = subprocess.run([sys.executable, __file__, "--killed", name])
        assert child.returncode == -signal.SIGKILL, child.returncode
        shutil.rmtree(f"{name}/tensorboard")
        expected[name] = {"killed": answers(case, name)}
        shutil.rmtree(f"{name}/plots")
        if name != "averaged":  # those of one run are enough
            shutil.rmtree(f"{name}/embeddings")
        for path in (*Path(name).glob("metrics/*_examples.json"), Path(name, "report.html")):
            path.unlink()
    kept = Path("kept")
    kept.mkdir()
    for name in (*cases, "features", "records", "pictures", "exported-averaged"):
        shutil.copytree(name, kept / name)
    for name, case in cases.items():
        use_sizes(case)
        ended = command(fit, case["fit"])
        assert ended["steps"] == 14, ended
        expected[name]["ended"] = answers(case, name)
        expected[name]["log"] = Path(name, "log.csv").read_text()
        shutil.copy(f"{name}/checkpoints/last/model.weights.h5", kept / f"{name}-last.weights.h5")
    (kept / "expected.json").write_text(json.dumps(expected))
    with tarfile.open(HERE / "golden_run.tar.xz", "w:xz", preset=9) as packed:
        for path in sorted(kept.rglob("*")):
            if path.is_file():
                packed.add(path, path.relative_to(kept))


ORIGINAL = RECIPES["shapes"]

if __name__ == "__main__":
    tf.keras.utils.disable_interactive_logging()
    if sys.argv[1] == "--killed":
        killed_fit(json.loads((HERE / "cases.json").read_text())[sys.argv[2]])
    else:
        main(Path(sys.argv[1]))
