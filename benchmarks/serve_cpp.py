"""python -m benchmarks.serve_cpp: does a C++ program give Python's numbers for every recipe?

The model of each recipe is built at its own size with fresh weights, exported with labels, and
loaded by `tests/serving/serve_one.cc` (TensorFlow's C++ loader of the installed wheel, compiled
here with g++). All signatures are asked for pictures of every format, a damaged one, and texts; the
largest difference of any number to the same export in Python is printed. Exit code 1 when one is
larger than 1e-4 of the largest number of its output.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "tests" / "serving" / "serve_one.cc"
LARGEST = 1e-4
TEXTS = ("a photo of a red circle.", "ein Hund, süß", "", "two dogs " * 40)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; return its exit code."""
    from tfclip.training.options.recipes import RECIPES

    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_cpp", description=__doc__)
    add = parser.add_argument
    add("recipes", nargs="*", help="all of them when not given")
    add("--json", action="store_true", help="the result as the last line on standard output")
    add("--one", help=argparse.SUPPRESS)
    add("--program", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args(argv)
    if flags.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(compare_recipe(flags.one, flags.program, Path(folder))))
        return 0
    if shutil.which("g++") is None:
        print("error: no g++", file=sys.stderr)
        return 2
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        program = compile_program(Path(folder))
        for name in flags.recipes or RECIPES:
            command = [sys.executable, "-m", "benchmarks.serve_cpp", "--one", name]
            done = subprocess.run(
                [*command, "--program", str(program)],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode:
                print(f"failed  {name}: exit code {done.returncode}")
                results[name] = {"share": float("inf")}
                continue
            results[name] = json.loads(done.stdout.splitlines()[-1])
            is_ok = results[name]["share"] <= LARGEST
            figures = ", ".join(f"{key} {value}" for key, value in results[name].items())
            print(f"{'ok    ' if is_ok else 'failed'}  {name}: {figures}", flush=True)
    if flags.json:
        print(json.dumps(results))
    return int(any(result["share"] > LARGEST for result in results.values()))


def compile_program(folder: Path) -> Path:
    """Compile the C++ program against the installed wheel.

    Raises:
        RuntimeError: g++ fails.
    """
    import tensorflow as tf

    program, library = folder / "serve_one", Path(tf.__file__).parent
    command = ["g++", "-O1", "-w", *tf.sysconfig.get_compile_flags(), str(SOURCE)]
    command += ["-o", str(program), f"-L{library}", f"-Wl,-rpath,{library}"]
    # Nothing of the library is called by name that registers sessions and kernels: keep it.
    command += ["-Wl,--no-as-needed", "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return program


def text_ops() -> str:
    """The op libraries of tensorflow-text that tokenizers of exports use."""
    import tensorflow_text

    folder = Path(tensorflow_text.__file__).parent / "python" / "ops"
    names = (
        *("fast_bert_normalizer", "fast_wordpiece_tokenizer", "normalize_ops"),
        *("regex_split_ops", "sentencepiece_tokenizer"),
    )
    return ":".join(str(folder / f"_{name}.so") for name in names)


def ask_program(program, version, signature, files, with_text_ops=True):
    """Ask one signature for the pictures and texts in `files`; return the ended process."""
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if with_text_ops:
        env["TEXT_OPS"] = text_ops()
    command = [str(program), str(version), signature, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def read_outputs(text: str) -> dict[str, np.ndarray]:
    """Parse what the program prints: arrays of strings by name."""
    outputs = {}
    for line in text.splitlines():
        head, _, values = line.partition(":")
        name, shape = head.split(" ", 1)
        shape = [int(size) for size in shape.strip("[]").split(",") if size]
        outputs[name] = np.array(values.split("\t")[1:]).reshape(shape)
    return outputs


def compare(program, version, pictures, texts, with_text_ops=True) -> dict[str, float]:
    """Ask all signatures of an export in C++ and here.

    Returns:
        `difference`, the largest of any number, and `share`, the largest in proportion to the
        largest number of its output.

    Raises:
        AssertionError: another output, shape, label or decision.
    """
    import tensorflow as tf

    from tfclip.serving.saved_model import load_signatures

    served = load_signatures(version)
    largest = {"difference": 0.0, "share": 0.0}
    for signature in served:
        wanted = served[signature].structured_input_signature[1]  # type: ignore[attr-defined]
        kinds = {"image_bytes": pictures, "text": texts}
        chosen = [path for name in wanted for path in kinds[name]]
        done = ask_program(program, version, signature, chosen, with_text_ops)
        if done.returncode:
            raise AssertionError(f"{signature}: {done.stderr[-500:]}")
        inputs = {n: tf.constant([path.read_bytes() for path in kinds[n]]) for n in wanted}
        expected = {name: value.numpy() for name, value in served[signature](**inputs).items()}
        outputs = read_outputs(done.stdout)
        same_form = {name: value.shape for name, value in outputs.items()} == {
            name: value.shape for name, value in expected.items()
        }
        if not same_form:
            raise AssertionError(f"{signature}: other outputs or shapes")
        for name, value in expected.items():
            got = outputs[name]
            if value.dtype.kind == "f":
                difference = float(np.abs(got.astype(np.float64) - value).max())
                largest["difference"] = max(largest["difference"], difference)
                share = difference / max(float(np.abs(value).max()), 1e-12)
                largest["share"] = max(largest["share"], share)
            elif value.dtype.kind == "b":
                if (got.astype(int) != value).any():
                    raise AssertionError(f"{signature}: another {name}")
            elif got.tolist() != np.char.decode(value.astype(bytes)).tolist():
                raise AssertionError(f"{signature}: another {name}")
    return largest


def compare_recipe(name: str, program: Path, folder: Path) -> dict:
    """Export the model of a recipe with fresh weights, and compare."""
    from tfclip.serving.classifier import Classifier
    from tfclip.serving.saved_model import write_saved_model
    from tfclip.sources.voc import CLASS_NAMES

    began = time.monotonic()
    model = fresh_model(name, folder)
    classifier = Classifier.from_texts(CLASS_NAMES, templates="single")
    version = write_saved_model(model, folder / "exported", classifier)
    megabytes = sum(f.stat().st_size for f in version.rglob("*") if f.is_file()) / 1e6
    pictures, texts = write_inputs(folder)
    largest = compare(program, version, pictures, texts)
    return {
        "megabytes": round(megabytes, 1),
        **{key: float(f"{value:.2g}") for key, value in largest.items()},
        "tokenizer": type(model.tokenizer).__name__,
        "seconds": round(time.monotonic() - began, 1),
    }


def fresh_model(name: str, folder: Path):
    """The model of a recipe at its own size, with a tokenizer of the recipe's kind."""
    import keras

    from tfclip.inputs.text import tokenizer_from_file
    from tfclip.inputs.tokenizers.learn_pieces import learn_pieces
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.models.saving import TrainedModel
    from tfclip.training.options.recipes import RECIPES
    from tfclip.training.setup.build_model import model_config

    recipe = RECIPES[name]
    flags = recipe.flags()
    context = flags.model.context_length or 32
    letters = "abcdefghijklmnopqrstuvwxyz."
    if flags.model.text_tower in ("clip-text", "mixer-text"):
        file = folder / "merges.txt"
        file.write_text("#version: 0.2\nr e\nre d</w>\nb l\nbl u\nblu e</w>\no f</w>\n")
    elif flags.model.text_tower == "small-transformer":
        file = folder / "vocab.model"
        captions = [f"a {c} photo of {n} {w}" for c in "red blue green".split() for n in letters
                    for w in ("dogs", "cats", "circles", "ein süßer Hund")]  # fmt: skip
        file.write_bytes(learn_pieces(captions, 500))
    else:
        file = folder / "vocab.txt"
        words = "[PAD] [UNK] [CLS] [SEP] photo of the red circle two dogs".split()
        file.write_text("\n".join([*words, *letters, *(f"##{c}" for c in letters)]) + "\n")
    keras.utils.set_random_seed(0)
    tokenizer = tokenizer_from_file(file, context)
    config = model_config(flags, recipe.options(flags), context, recipe.vocabulary_size)
    return TrainedModel(DualEncoder(config), tokenizer, {"recipe": name, "steps": 0})


def write_inputs(folder: Path) -> tuple[list[Path], list[Path]]:
    """Pictures of every format that an export takes, one that is none, and texts, in files."""
    from PIL import Image

    rough = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8))
    pictures, texts = [folder / "damage.bin"], []
    pictures[0].write_bytes(b"no picture")
    for kind, size in (("JPEG", (320, 240)), ("PNG", (64, 90)), ("GIF", (50, 20)),
                       ("BMP", (20, 20)), ("WEBP", (300, 200))):  # fmt: skip
        pictures.append(folder / f"{kind}.bin")
        rough.resize(size, Image.Resampling.BICUBIC).save(pictures[-1], kind)
    for number, text in enumerate(TEXTS):
        texts.append(folder / f"{number}.txt")
        texts[-1].write_text(text, encoding="utf-8")
    return pictures, texts


if __name__ == "__main__":
    sys.exit(main())
