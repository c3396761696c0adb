"""What many tests share: a tiny untrained model, and drawn shapes, raw and packed."""

import fcntl
import gc
import io
import json
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Imports and traced graphs allocate much that stays: a collection every 700 objects took a tenth
# of the processor time.
gc.set_threshold(50_000)

# Files of many seconds, which begin first: one of them at the end leaves the other workers idle.
LONG = (
    "training/loop/test_many_replicas.py",
    "training/loop/test_replicas.py",
    "training/loop/test_resume.py",
    "training/workers/test_workers.py",
    "training/options/test_recipes.py",
    "test_notebooks.py",
    "test_quickstart.py",
    "test_evaluate.py",
    "test_predict.py",
    "test_golden_run.py",
    "training/test_learning_gate.py",
    "training/setup/test_freeze.py",
    "serving/test_serve_run.py",
    "models/objective/test_grad_cache.py",
    "models/test_compile.py",
    "test_fit.py",
    "test_docs.py",
    "test_docstrings.py",
    "test_plugins.py",
    "serving/test_variants.py",
    "serving/test_page.py",
)


def pytest_collection_finish():
    gc.freeze()


def pytest_collection_modifyitems(items):
    """`--no-loadscope-reorder` keeps this order; pytest-xdist's own is by number of tests."""
    places = {name: number for number, name in enumerate(LONG)}

    def place(item) -> int:
        path = item.path.as_posix()
        return next((places[name] for name in LONG if path.endswith(name)), len(LONG))

    items.sort(key=place)


CLASS_NAMES = ("red circle", "blue square", "green star")


@contextmanager
def small_shapes():
    """The recipe `shapes` with towers of few layers, whose graphs are traced in half the time."""
    from tfclip.training.options.recipes import RECIPES

    small = replace(
        RECIPES["shapes"],
        image_options={"widths": (8,), "stem": 2},
        text_options={"width": 16, "blocks": 1, "heads": 2},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "shapes", small)
        yield


@pytest.fixture
def small_recipe():
    """`fit shapes` trains small towers in this test."""
    with small_shapes():
        yield


@pytest.fixture(scope="module")
def small_recipe_while():
    """A context manager for fixtures of a module: `with small_recipe_while(): fit(...)`."""
    return small_shapes


@pytest.fixture(scope="session")
def tiny_model():
    """A `TrainedModel` with random weights, 32 px pictures and 16-number embeddings."""
    import keras

    from tfclip.inputs.text import WordPieceTokenizer
    from tfclip.models.config import ModelConfig
    from tfclip.models.dual_encoder import DualEncoder
    from tfclip.models.saving import TrainedModel

    letters = "abcdefghijklmnopqrstuvwxyz."
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{c}" for c in letters)]
    config = ModelConfig(
        image_tower="small-convolutional",
        image_options={"widths": (8, 16)},
        text_tower="small-transformer",
        text_options={"width": 32, "blocks": 1, "heads": 2},
        image_size=32,
        embed_dim=16,
        context_length=32,
        vocabulary_size=len(vocabulary),
    )
    keras.utils.set_random_seed(0)
    return TrainedModel(
        DualEncoder(config),
        WordPieceTokenizer(vocabulary, config.context_length),
        {"recipe": "shapes", "steps": 0},
    )


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory, request) -> Path:
    """A folder of all workers of pytest-xdist."""
    root = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        root = root.parent
    (root / "shared").mkdir(exist_ok=True)
    return root / "shared"


@pytest.fixture(scope="session")
def made_once(shared_folder) -> Callable[[str, Callable[[Path], object]], Path]:
    """`made_once(name, make)`: the folder that `make(folder)` filled, once for all workers.

    They share it, so that nothing may write into it. One of them makes it while the others wait;
    what `make` did not finish is deleted and made again.
    """

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared_folder / name, shared_folder / f"{name}.done"
        with open(shared_folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def forked(shared_folder, tmp_path_factory):
    """Python programs in processes of their own, which need not import TensorFlow: see forked.py.

    `forked.run("-m", "tfclip.fit", ...)` is as `subprocess.run`, `forked.start(...)` as `Popen`.
    """
    from tests.forked import interpreter

    with interpreter(shared_folder, tmp_path_factory.mktemp("forked")) as programs:
        yield programs


@pytest.fixture(scope="session")
def tiny_run(tiny_model, made_once):
    """A run directory with that model and thresholds for three classes; do not write into it."""
    return made_once("tiny", lambda run: save_tiny_run(run, tiny_model))


def save_tiny_run(run: Path, tiny_model) -> None:
    from tfclip.models.model_directory import model_fingerprint
    from tfclip.models.saving import save_model

    save_model(run / "best", tiny_model)
    thresholds = {
        "class_names": CLASS_NAMES,
        "per_class": dict(zip(CLASS_NAMES, (-2.0, 2.0, 0.0), strict=True)),
        "global": 0.0,
        "prompts": {name: [f"a photo of a {name}.", f"the {name}"] for name in CLASS_NAMES},
        "tiles": "1+4",
        "fusion": {"name": "max"},
        "calibration": None,
        "model": model_fingerprint(run),
    }
    (run / "thresholds.json").write_text(json.dumps(thresholds))


@pytest.fixture(scope="session")
def picture_bytes():
    """Encoded pictures by name: the formats, sizes and oddities that a user may bring."""
    rng = np.random.default_rng(0)

    def encoded(kind, size, mode="RGB", **options):
        rough = rng.integers(0, 256, (4, 4, len(mode)), np.uint8).squeeze()
        picture = Image.fromarray(rough, mode).resize(size, Image.Resampling.BICUBIC)
        file = io.BytesIO()
        picture.save(file, kind, **options)
        return file.getvalue()

    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "jpeg": encoded("JPEG", (90, 60)),
        "grey": encoded("JPEG", (40, 50), "L"),
        "turned": encoded("JPEG", (70, 40), exif=turned),
        "alpha": encoded("PNG", (33, 47), "RGBA"),
        "gif": encoded("GIF", (50, 20)),
        "bmp": encoded("BMP", (20, 20)),
        "webp": encoded("WEBP", (64, 48)),
    }


@pytest.fixture(scope="session")
def export_once(tiny_run, made_once, shared_folder):
    """`export_once(name, *words)`: what `tfclip.export` makes of that run, once for all workers.

    TensorFlow loads such an export once in each worker: that takes a second or two, and so does the
    first call of each of its graphs. Who loads it again has a dict of signatures of his own. Copies
    of it, which a test may damage, are loaded as ever.
    """
    import tensorflow as tf

    def once(name: str, *words: str) -> Path:
        def export(out: Path) -> None:
            from tfclip.export import main

            if main([str(tiny_run), "--out", str(out), *words]):
                raise RuntimeError("the tiny run could not be exported")

        return made_once(name, export)

    load, loaded = tf.saved_model.load, {}

    def load_once(directory, *rest, **options):
        if rest or options or shared_folder not in Path(directory).parents:
            return load(directory, *rest, **options)
        if directory not in loaded:
            loaded[directory] = load(directory)
        return loaded[directory]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.saved_model, "load", load_once)
        yield once


@pytest.fixture(scope="session")
def exported(export_once):
    """What `tfclip.export` makes of that run, with its labels; do not write into it."""
    return export_once("exported")


@pytest.fixture(scope="session")
def served(exported):
    """The signatures of that export."""
    from tfclip.serving.saved_model import load_signatures

    return load_signatures(exported / "1")


ASK = """
import sys
import numpy as np
import tensorflow as tf
version, asked, answer = sys.argv[1:]
asked = np.load(asked, allow_pickle=True)
signatures = tf.saved_model.load(version).signatures
pictures = signatures["encode_image"](image_bytes=tf.constant(list(asked["pictures"])))
texts = signatures["encode_text"](text=tf.constant(list(asked["texts"])))
np.savez(answer, images=pictures["embedding"], texts=texts["embedding"])
"""
NO_MORE = """
assert not {"tfclip", "keras_hub"} & set(sys.modules)
"""


@pytest.fixture(scope="session")
def run_with_tensorflow_alone(shared_folder, tmp_path_factory):
    """Runs a program, `run(code, *words)`, in a process that knows TensorFlow and no tfclip.

    It returns standard output. As with `forked`, programs are forks of one process of all workers.
    `OPS_OF_TENSORFLOW` are the names of the ops that TensorFlow has without TensorFlow Text.
    """
    from tests.forked import interpreter

    with interpreter(shared_folder, tmp_path_factory.mktemp("alone"), alone=True) as programs:

        def run(code: str, *words: object) -> str:
            done = programs.run("-c", "import sys\n" + code + NO_MORE, *words, timeout=300)
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield run


@pytest.fixture(scope="session")
def ask_in_fresh_process(run_with_tensorflow_alone, tmp_path_factory):
    """Embeddings of pictures and texts by an export, in a process that knows only TensorFlow."""
    folder = tmp_path_factory.mktemp("asked")

    def ask(version, pictures, texts):
        asked, answer = folder / "asked.npz", folder / "answer.npz"
        np.savez(asked, pictures=np.array(pictures, object), texts=np.array(texts, object))
        answer.unlink(missing_ok=True)
        run_with_tensorflow_alone(ASK, version, asked, answer)
        with np.load(answer) as found:
            return found["images"], found["texts"]

    return ask


@pytest.fixture(scope="session")
def drawn_sets(made_once) -> Path:
    """Drawn shapes in the four formats, a few pictures each; do not write into it."""

    def draw(out: Path) -> None:
        from tfclip.sources.shapes import draw_shapes

        few = {"visual_genome": 12, "flickr8k": (1, 12, 1), "coco": (1, 1), "voc": (20, 20, 40)}
        draw_shapes(out, **few, image_size=64)

    return made_once("drawn", draw)


@pytest.fixture(scope="session")
def voc_records(drawn_sets, made_once) -> Path:
    """The drawn VOC set, packed; do not write into it."""
    return made_once("voc", lambda out: packed("voc", drawn_sets / "voc", out))


@pytest.fixture(scope="session")
def flickr8k_records(drawn_sets, made_once) -> Path:
    """The drawn Flickr8k set, packed; do not write into it."""
    data = drawn_sets / "flickr8k"
    return made_once("flickr8k", lambda out: packed("flickr8k", data, out))


@pytest.fixture(scope="session")
def training_records(drawn_sets, made_once) -> Path:
    """The drawn Visual Genome set, packed by the command with its vocabulary."""

    def pack(out: Path) -> None:
        from tfclip.make_records import main

        data = str(drawn_sets / "visual_genome")
        assert main(["visual_genome", "--data", data, "--out", str(out), "--workers", "1"]) == 0

    return made_once("vg", pack)


def packed(name: str, data: Path, out: Path) -> None:
    from tfclip.records.options import PackOptions
    from tfclip.records.packing.writer import pack
    from tfclip.sources.registry import open_source

    pack(open_source(name, data), out, PackOptions(workers=1))


@pytest.fixture(scope="module")
def browser():
    """Chromium by Playwright: Debian's, or the one that Playwright installed."""
    sync_api = pytest.importorskip("playwright.sync_api")
    own = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_api.sync_playwright() as playwright:
        try:
            opened = playwright.chromium.launch(executable_path=own, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield opened
        opened.close()
