"""python -m benchmarks.pretrained_chain: everything that one does with a pretrained CLIP, in a row.

Writes a CLIP of random weights as a Hugging Face folder, then runs convert, evaluate, fit --init,
soup, export (SavedModel, ONNX, transformers, open_clip), serve check, and an answer in Python and,
if there is g++, in C++ (`tests/serving/serve_one.cc`), on drawn shapes. Each stage is a process of
its own; the seconds and the peak memory of each are printed. With `--folder`, a chain that was
interrupted goes on with the first stage that had not ended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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
    """Run the chain; return 0, or the exit code of the stage that failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pretrained_chain", description=__doc__
    )
    add = parser.add_argument
    add("--size", choices=SIZES, default="b32")
    add("--merges", type=Path, help="CLIP's byte pairs; without them, single bytes")
    add("--steps", type=int, default=20)
    add("--batch-size", type=int, default=4)
    add("--folder", type=Path, help="where the files are written and kept")
    add("--stage", choices=STAGES, help="run this stage alone, in this process")
    flags = parser.parse_args(argv)
    if flags.stage is not None:
        return STAGES[flags.stage](flags.folder, flags)
    with contextlib.ExitStack() as stack:
        folder = flags.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        return chain(folder, flags)


def chain(folder: Path, flags: argparse.Namespace) -> int:
    """Run the stages that have not ended yet; print the line of each."""
    record = folder / "stages.json"
    lines = json.loads(record.read_text()) if record.exists() else {}
    for name in STAGES:
        if name not in lines:
            words = [sys.executable, "-m", "benchmarks.pretrained_chain", "--stage", name]
            for flag in ("size", "merges", "steps", "batch_size"):
                if (value := getattr(flags, flag)) is not None:
                    words += [f"--{flag.replace('_', '-')}", str(value)]
            for place in OUTPUTS.get(name, ()):
                shutil.rmtree(folder / place, ignore_errors=True)
            started = time.monotonic()
            process = subprocess.Popen([*words, "--folder", str(folder)])
            _, status, usage = os.wait4(process.pid, 0)
            if code := os.waitstatus_to_exitcode(status):
                print(f"{name} failed with exit code {code}")
                return abs(code)
            seconds, peak = time.monotonic() - started, usage.ru_maxrss / 1e6
            lines[name] = f"[{seconds:.1f} s, peak {peak:.2f} GB]"
            record.write_text(json.dumps(lines, indent=1))
        print(f"{lines[name]} {name}", flush=True)
    return 0


def draw(folder: Path, flags: argparse.Namespace) -> int:
    """Draw shapes, and pack them."""
    from tfclip import make_records
    from tfclip.sources.shapes import draw_shapes

    drawn = folder / "drawn"
    draw_shapes(
        drawn, visual_genome=40, flickr8k=(1, 1, 1), coco=(1, 1), voc=(1, 8, 8), image_size=64
    )
    packed = ["--workers", "1", "--overwrite"]
    return make_records.main(
        ["visual_genome", "--data", str(drawn / "visual_genome")]
        + ["--out", str(folder / "shapes"), *packed]
    ) or make_records.main(
        ["voc", "--data", str(drawn / "voc/VOCdevkit/VOC2007")]
        + ["--out", str(folder / "voc"), *packed]
    )


def convert(folder: Path, flags: argparse.Namespace) -> int:
    """Convert the folder of transformers."""
    from tfclip import convert

    return convert.main([str(folder / "source"), "--run", str(folder / "run")])


def evaluate(folder: Path, flags: argparse.Namespace) -> int:
    """Measure the converted model."""
    from tfclip import evaluate

    words = ["--records", str(folder / "voc"), "--split", "test", "--calibrate", "val"]
    return evaluate.main([str(folder / "run"), "multilabel", *words])


def fit(folder: Path, flags: argparse.Namespace) -> int:
    """Fine-tune all weights."""
    from tfclip import fit

    return fit.main(
        ["shapes", "--records", str(folder / "shapes"), "--run", str(folder / "tuned")]
        + ["--init", str(folder / "run"), "--learning-rate", "1e-5"]
        + ["--steps", str(flags.steps), "--batch-size", str(flags.batch_size)]
        + ["--evaluate-every", str(flags.steps)]
    )


def soup(folder: Path, flags: argparse.Namespace) -> int:
    """Mix the weights before and after."""
    from tfclip import soup

    return soup.main(
        [str(folder / "run"), str(folder / "tuned"), "--alpha", "0,0.5,1"]
        + ["--run", str(folder / "mix"), "--measure", f"voc={folder / 'voc'}:test"]
    )


def export(*forms: str) -> Callable[[Path, argparse.Namespace], int]:
    """Return a stage that exports the mix."""

    def stage(folder: Path, flags: argparse.Namespace) -> int:
        from tfclip import export

        words = {
            "out": ["--out", str(folder / "exported"), "--labels", "none"],
            "onnx": ["--onnx", str(folder / "onnx")],
            "hf": ["--hf", str(folder / "hf")],
            "open-clip": ["--open-clip", str(folder / "open_clip")],
        }
        return export.main([str(folder / "mix"), *(word for form in forms for word in words[form])])

    return stage


def check(folder: Path, flags: argparse.Namespace) -> int:
    """Check the SavedModel."""
    from tfclip import serve

    return serve.main(["check", str(folder / "exported")])


def answer(folder: Path, flags: argparse.Namespace) -> int:
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
    return 0


def cpp(folder: Path, flags: argparse.Namespace) -> int:
    """Compile the C++ program, and compare its answers for all signatures with Python's."""
    if shutil.which("g++") is None:
        print("no g++: the C++ program is left out")
        return 0
    program = compile_program(folder)
    found = compare(program, folder / "exported" / "1", *write_inputs(folder))
    print(f"C++: largest difference from Python {found['difference']:.1e}")
    return 0


def random_clip(folder: Path, flags: argparse.Namespace) -> int:
    """Write a CLIP of random weights for transformers."""
    import keras

    from tfclip.inputs.text import BytePairTokenizer, tokenizer_from_file
    from tfclip.models.config import ModelConfig
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.models.saving import TrainedModel
    from tfclip.serving.formats.clip_folders import write_hugging_face

    tokenizer = (
        tokenizer_from_file(flags.merges, CONTEXT)
        if flags.merges
        else BytePairTokenizer(["t h"], CONTEXT)
    )
    keras.utils.set_random_seed(0)
    config = ModelConfig(
        image_tower="clip-vit-b32",
        text_tower="clip-text",
        resize="crop",
        interpolation="bicubic",
        context_length=CONTEXT,
        vocabulary_size=tokenizer.vocabulary_size,
        **SIZES[flags.size],
    )
    model = TrainedModel(DualEncoder(config), tokenizer, {"licence": "mit"})
    write_hugging_face(model, folder / "source")
    return 0


STAGES: dict[str, Callable[[Path, argparse.Namespace], int]] = {
    "draw shapes, and pack them": draw,
    "write a CLIP of random weights": random_clip,
    "convert": convert,
    "evaluate": evaluate,
    "fit --init": fit,
    "soup": soup,
    "export": export("out"),
    "export --onnx": export("onnx"),
    "export --hf and --open-clip": export("hf", "open-clip"),
    "serve check": check,
    "answers in Python, of the SavedModel and of ONNX": answer,
    "answers in C++": cpp,
}
# What an interrupted stage may leave; `fit` goes on with its run.
OUTPUTS = {
    "draw shapes, and pack them": ("drawn",),
    "write a CLIP of random weights": ("source",),
    "soup": ("mix",),
    "export": ("exported",),
    "export --onnx": ("onnx",),
    "export --hf and --open-clip": ("hf", "open_clip"),
}


if __name__ == "__main__":
    sys.exit(main())
