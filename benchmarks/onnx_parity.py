"""python -m benchmarks.onnx_parity --pictures FOLDER --captions FILE: ONNX exports against tfclip.

Each model is exported with `export --onnx`; then onnxruntime embeds photographs and captions, and
the tokenizers library splits the captions. The table has the largest difference of an embedding to
tfclip's, the captions with the same ids, and the peak memory of the process when the export ended.
A recipe has random weights, also in its norms; the folder of a run or of a converted model has its
own. Each model is measured in its own process.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LARGEST = 1e-4
SUFFIXES = {".jpg", ".jpeg", ".png"}
BATCH = 10


def main(argv: list[str] | None = None) -> int:
    """Print the table; return 1 if a difference is above `LARGEST`, or ids differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.onnx_parity", description=__doc__)
    add = parser.add_argument
    add("models", nargs="*", help="recipes, runs or model folders; default: every recipe")
    add("--pictures", type=Path, required=True, help="a folder of photographs")
    add("--captions", type=Path, required=True, help="a file with one text a line, after a tab")
    add("--count", type=int, default=100)
    add("--merges", type=Path, help="CLIP's byte pairs; without them, single bytes")
    add("--one", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.one:
        print(json.dumps(measure(flags.models[0], flags)))
        return 0
    print(
        "| model | pictures | captions | same ids | MB | seconds | peak, GB |\n"
        "|---|---|---|---|---|---|---|"
    )
    is_good = True
    for name in flags.models or _recipes():
        figures = _in_a_process(name, flags)
        ids = f"{figures['ids']} of {flags.count}" if figures["tokenizer"] else figures["problem"]
        print(
            f"| {Path(name).name} | {figures['image']:.1e} | {figures['text']:.1e} | {ids} | "
            f"{figures['megabytes']:.0f} | {figures['seconds']:.0f} | {figures['peak']:.1f} |",
            flush=True,
        )
        is_good &= max(figures["image"], figures["text"]) <= LARGEST
        is_good &= not figures["tokenizer"] or figures["ids"] == flags.count
    print("passed" if is_good else f"FAILED: a difference above {LARGEST}, or other ids")
    return 0 if is_good else 1


def _recipes() -> list[str]:
    from tfclip.training.options.recipes import RECIPES

    return list(RECIPES)


def _in_a_process(name: str, flags: argparse.Namespace) -> dict:
    words = [sys.executable, "-m", "benchmarks.onnx_parity", name, "--one"]
    for flag in ("pictures", "captions", "count", "merges"):
        if getattr(flags, flag) is not None:
            words += [f"--{flag}", str(getattr(flags, flag))]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, flags: argparse.Namespace) -> dict:
    """Export one model, and compare it on pictures and captions."""
    import numpy as np

    from tfclip.models.saving import load_model
    from tfclip.serving.formats import onnx_folder
    from tfclip.serving.formats.tokenizer_json import differing_texts

    captions = _captions(flags.captions, flags.count)
    model = load_model(Path(name)) if Path(name).is_dir() else _random_model(name, captions, flags)
    pictures = _pictures(flags.pictures, flags.count, model.config.picture_size)
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        written = Path(folder) / "onnx"
        report = onnx_folder.write_onnx(model, written)
        seconds = time.monotonic() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        size = sum(file.stat().st_size for file in written.rglob("*") if file.is_file())
        visual = onnx_folder.OnnxEncoder(written / "visual" / "model.onnx")
        textual = onnx_folder.OnnxEncoder(written / "textual" / "model.onnx")
        tokenizer = written / "textual" / "tokenizer.json"
        content = tokenizer.read_text() if report.tokenizer else None
    tokens = model.tokenizer(captions)
    differences: dict[str, list[float]] = {"image": [], "text": []}
    for at in range(0, flags.count, BATCH):
        rows = slice(at, at + BATCH)
        ours = model.dual_encoder.encode_image(pictures[rows]).numpy()
        theirs = visual(image=onnx_folder.normalize(model, pictures[rows]))
        differences["image"].append(float(np.abs(ours - theirs).max()))
        ids, mask = tokens["token_ids"][rows], tokens["text_mask"][rows]
        ours = model.dual_encoder.encode_text(ids, mask).numpy()
        differences["text"].append(float(np.abs(ours - textual(text=ids.numpy())).max()))
    same = flags.count - len(differing_texts(content, model.tokenizer, captions)) if content else 0
    return {
        "image": max(differences["image"]),
        "text": max(differences["text"]),
        "ids": same,
        "tokenizer": report.tokenizer,
        "problem": report.problem,
        "megabytes": size / 1e6,
        "seconds": seconds,
        "peak": peak,
    }


def _captions(path: Path, count: int) -> list[str]:
    lines = [line.split("\t")[-1].strip() for line in path.read_text("utf-8").splitlines()]
    return random.Random(0).sample([line for line in lines if line], count)


def _pictures(folder: Path, count: int, size):
    import numpy as np

    from tfclip.inputs.images import decode_picture, resize_picture

    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(files) < count:
        sys.exit(f"{folder} has {len(files)} pictures; {count} are needed")
    chosen = random.Random(0).sample(files, count)
    views = [resize_picture(decode_picture(path.read_bytes()), size) for path in chosen]
    return np.stack([np.asarray(view) for view in views]).astype(np.uint8)


def _random_model(name: str, captions: list[str], flags: argparse.Namespace):
    """A recipe's model with random weights, and a vocabulary of the captions in its format."""
    import keras

    from tfclip.inputs import text
    from tfclip.inputs.tokenizers.learn_pieces import learn_pieces
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.models.saving import TrainedModel
    from tfclip.training.options.recipes import recipe
    from tfclip.training.setup.build_model import model_config

    settings = recipe(name)
    given = settings.flags()
    length = given.model.context_length or 32
    if settings.needs_vocabulary:
        merges = text.tokenizer_from_file(flags.merges, length).merges if flags.merges else ["t h"]
        tokenizer = text.BytePairTokenizer(merges, length)
    elif given.model.text_weights != "none" or settings.vocabulary_size == 30_522:
        vocabulary = text.learn_vocabulary(captions, 4000, least_count=1)
        tokenizer = text.WordPieceTokenizer(vocabulary, length, folding="bert")
    else:
        tokenizer = text.LearntPieceTokenizer(learn_pieces(captions * 3, 2000), length)
    keras.utils.set_random_seed(0)
    config = model_config(given, settings.options(given), length, tokenizer.vocabulary_size)
    encoder = DualEncoder(config)
    _disturb(encoder)
    return TrainedModel(encoder, tokenizer)


def _disturb(encoder) -> None:
    """Move biases, norms and their statistics away from 0 and 1, so that each of them matters."""
    import numpy as np

    rng = np.random.default_rng(0)
    for variable in encoder.weights:
        if len(variable.shape) == 1:
            variable.assign(variable + rng.uniform(-0.2, 0.2, variable.shape).astype("float32"))


if __name__ == "__main__":
    sys.exit(main())
