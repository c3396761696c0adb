"""python -m benchmarks.pretrained_chain: everything that one does with a pretrained CLIP, in a row.

Writes a CLIP of random weights as a Hugging Face folder, then runs convert, evaluate, fit --init,
soup, export (SavedModel, ONNX, transformers, open_clip), serve check, and an answer in Python and,
if there is g++, in C++ (`tests/serving/serve_one.cc`), on drawn shapes. Prints the seconds of each
step and the largest memory so far.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.serve_cpp import compare, compile_program, write_inputs

# Image size, and the options of both towers.
SIZES: dict[str, dict] = {
    "small": {
        "image_size": 32,
        "embed_dim": 24,
        "image_options": {"patch_size": 8, "blocks": 2, "width": 32, "heads": 2},
        "text_options": {"blocks": 2, "width": 32, "heads": 4},
    },
    "b32": {"image_size": 224, "embed_dim": 512, "image_options": {}, "text_options": {}},
}
CONTEXT = 77


def main(argv: list[str] | None = None) -> int:
    """Run the chain; return 0, or the exit code of the command that failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pretrained_chain", description=__doc__
    )
    add = parser.add_argument
    add("--size", choices=SIZES, default="b32")
    add("--merges", type=Path, help="CLIP's byte pairs; without them, single bytes")
    add("--steps", type=int, default=20)
    add("--batch-size", type=int, default=4)
    add("--folder", type=Path, help="where the files are written and kept")
    flags = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        folder = flags.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return chain(folder, flags)


def chain(folder: Path, flags: argparse.Namespace) -> int:
    """Run each command as a user would."""
    from tfclip import convert, evaluate, export, fit, make_records, serve, soup
    from tfclip.sources.shapes import draw_shapes

    drawn, shapes, voc = folder / "drawn", folder / "shapes", folder / "voc"
    run, tuned, mix = folder / "run", folder / "tuned", folder / "mix"
    onnx = ["--onnx", str(folder / "onnx")]
    packed = ["--workers", "1", "--overwrite"]
    with step("draw shapes, and pack them"):
        draw_shapes(
            drawn, visual_genome=40, flickr8k=(1, 1, 1), coco=(1, 1), voc=(1, 8, 8), image_size=64
        )
        words = [["visual_genome", "--data", str(drawn / "visual_genome"), "--out", str(shapes)]]
        words += [["voc", "--data", str(drawn / "voc/VOCdevkit/VOC2007"), "--out", str(voc)]]
        for one in words:
            call(make_records, [*one, *packed])
    with step(f"write a CLIP of random weights ({flags.size})"):
        random_clip(folder / "source", flags.size, flags.merges)
    steps = {
        "convert": (convert, [str(folder / "source"), "--run", str(run)]),
        "evaluate": (
            evaluate,
            [
                str(run),
                "multilabel",
                "--records",
                str(voc),
                "--split",
                "test",
                "--calibrate",
                "val",
            ],
        ),
        f"fit --init, {flags.steps} steps of {flags.batch_size}": (
            fit,
            ["shapes", "--records", str(shapes), "--run", str(tuned), "--init", str(run)]
            + ["--steps", str(flags.steps), "--batch-size", str(flags.batch_size)]
            + ["--evaluate-every", str(flags.steps), "--learning-rate", "1e-5"],
        ),
        "soup": (
            soup,
            [str(run), str(tuned), "--alpha", "0,0.5,1", "--run", str(mix)]
            + ["--measure", f"voc={voc}:test"],
        ),
        "export": (export, [str(mix), "--out", str(folder / "exported"), "--labels", "none"]),
        "export --onnx": (export, [str(mix), *onnx]),
        "export --hf and --open-clip": (
            export,
            [str(mix), "--hf", str(folder / "hf"), "--open-clip", str(folder / "open_clip")],
        ),
        "serve check": (serve, ["check", str(folder / "exported")]),
    }
    for name, (command, words) in steps.items():
        with step(name):
            call(command, words)
    with step("answers in Python, of the SavedModel and of ONNX"):
        answer(folder)
    if shutil.which("g++") is None:
        print("no g++: the C++ program is left out")
        return 0
    with step("compile the C++ program, and its answers for all signatures"):
        program = compile_program(folder)
        found = compare(program, folder / "exported" / "1", *write_inputs(folder))
        print(f"C++: largest difference from Python {found['difference']:.1e}")
    return 0


def answer(folder: Path) -> None:
    """Compare the embeddings that the SavedModel, onnxruntime and tfclip give."""
    import numpy as np
    import tensorflow as tf

    from tfclip.models.saving import load_model
    from tfclip.pipeline import load
    from tfclip.serving.formats.onnx_folder import OnnxEncoder, normalize

    model, (_, preprocess) = load_model(folder / "mix"), load(folder / "mix")
    picture = next((folder / "drawn" / "visual_genome").rglob("*.jpg"))
    pixels = np.asarray(preprocess(picture))[None]
    expected = model.dual_encoder.encode_image(pixels).numpy()
    served = tf.saved_model.load(str(folder / "exported" / "1")).signatures["encode_image"]
    saved = served(image_bytes=tf.constant([picture.read_bytes()]))["embedding"].numpy()
    visual = OnnxEncoder(folder / "onnx" / "visual" / "model.onnx")
    other = visual(image=normalize(model, pixels))
    for name, given in (("SavedModel", saved), ("onnxruntime", other)):
        print(f"{name}: largest difference {np.abs(given - expected).max():.1e}")


def random_clip(folder: Path, size: str, merges: Path | None) -> None:
    """Write a CLIP of random weights for transformers."""
    import keras

    from tfclip.inputs.text import BytePairTokenizer, tokenizer_from_file
    from tfclip.models.config import ModelConfig
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.models.saving import TrainedModel
    from tfclip.serving.formats.clip_folders import write_hugging_face

    tokenizer = (
        tokenizer_from_file(merges, CONTEXT) if merges else BytePairTokenizer(["t h"], CONTEXT)
    )
    keras.utils.set_random_seed(0)
    config = ModelConfig(
        image_tower="clip-vit-b32",
        text_tower="clip-text",
        resize="crop",
        interpolation="bicubic",
        context_length=CONTEXT,
        vocabulary_size=tokenizer.vocabulary_size,
        **SIZES[size],
    )
    write_hugging_face(TrainedModel(DualEncoder(config), tokenizer, {"licence": "mit"}), folder)


def call(command, words: list[str]) -> None:
    """Run a command; exit with its code if it fails."""
    if code := command.main(words):
        sys.exit(code)


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Print the seconds of a step, and the largest memory of the process so far."""
    started = time.monotonic()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"[{time.monotonic() - started:.1f} s, peak {peak:.2f} GB] {name}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
