"""Checks that an export is what TensorFlow Serving can run: layout, signatures, ops, answers."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from PIL import Image, ImageDraw
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from tfclip.serving import signatures as names
from tfclip.serving.saved_model import load_card, load_signatures, version_directory

# The ops of TensorFlow Text that our tokenizers use. A stock server links the whole library.
TEXT_OPS = frozenset({"FastBertNormalize", "FastWordpieceTokenizeWithOffsets"})
# Registered in TensorFlow, and of no use without the Python process that made them.
PYTHON_OPS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})


@dataclass(frozen=True)
class Finding:
    """One check and how it ended; the detail says what is there or what is wrong."""

    name: str
    ok: bool
    detail: str


def check_export(exported: Path) -> Iterator[Finding]:
    """Check the highest version in `exported`, or the version that it is; in order, as they run.

    A check that others build on ends the checking when it fails.
    """
    loaded: dict = {}

    def load() -> str:
        loaded.update(load_signatures(version_directory(exported)))
        return f"{len(loaded)} signatures"

    checks: list[tuple[str, Callable[[], str], bool]] = [
        ("layout", lambda: _layout(exported), True),
        ("model card", lambda: _card(exported), True),
        ("ops", lambda: _ops(exported), False),
        ("loads", load, True),
        ("signatures", lambda: _signatures(exported, loaded), True),
        ("pictures", lambda: _pictures(loaded), False),
        ("texts", lambda: _texts(loaded), False),
    ]
    for name, check, others_need_it in checks:
        try:
            yield Finding(name, True, check())
        except (ValueError, OSError, KeyError, tf.errors.OpError) as error:
            yield Finding(name, False, " ".join(str(error).split())[:500])
            if others_need_it:
                return


def curl_request(exported: Path, host: str = "localhost:8501") -> str:
    """The command that sends picture.jpg to a server that runs this export."""
    path = Path(exported).resolve()
    model = path.parent.name if (path / "saved_model.pb").is_file() else path.name
    return (
        f'(printf \'{{"instances": [{{"{names.IMAGE_BYTES}": {{"b64": "\'; '
        "base64 < picture.jpg | tr -d '\\n'; printf '\"}}]}') | "
        f"curl -s -d @- http://{host}/v1/models/{model}:predict"
    )


def _layout(exported: Path) -> str:
    version = version_directory(exported)
    if not version.resolve().name.isdigit():
        raise ValueError(f"{version}: a server loads only directories that are named by an integer")
    for name in ("saved_model.pb", "variables/variables.index", names.MODEL_CARD):
        if not (version / name).is_file():
            raise FileNotFoundError(f"{version / name} is missing")
    size = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
    return f"version {version.resolve().name} in {version.resolve().parent}, {size / 1e6:.1f} MB"


def _card(exported: Path) -> str:
    card = load_card(version_directory(exported))
    labels, thresholds = card["labels"], card["thresholds"]
    if thresholds is not None and len(thresholds) != len(labels):
        raise ValueError(f"{len(thresholds)} thresholds for {len(labels)} labels")
    if not labels:
        return "no labels"
    fitted = "fitted thresholds" if thresholds else "no thresholds"
    return f"{len(labels)} labels, {fitted}, tiles {card['tiles']}"


def graph_ops(version: Path) -> set[str]:
    """The names of all ops in the graph and the functions of a version's directory.

    Raises:
        ValueError: when `saved_model.pb` is damaged.
    """
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((version / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise ValueError(f"saved_model.pb is damaged: {error}") from None
    found, functions = set(), set()
    for meta_graph in saved.meta_graphs:
        graph = meta_graph.graph_def
        found.update(node.op for node in graph.node)
        for function in graph.library.function:
            functions.add(function.signature.name)
            found.update(node.op for node in function.node_def)
    return found - functions


def _ops(exported: Path) -> str:
    found = graph_ops(version_directory(exported))
    core = {op for op in found - TEXT_OPS - PYTHON_OPS if op_def_registry.get(op) is not None}
    if strange := sorted(found - core - TEXT_OPS):
        raise ValueError(f"a stock server has no {', '.join(strange)}")
    return f"{len(core)} of core TensorFlow, {len(found & TEXT_OPS)} of TensorFlow Text"


def _signatures(exported: Path, loaded: dict) -> str:
    card = load_card(version_directory(exported))
    sides = {"N": None, "M": None, "C": len(card["labels"]), "D": card["config"]["embed_dim"]}
    wanted = names.signature_names(bool(card["labels"]))
    if set(loaded) != set(wanted):
        raise ValueError(f"expected {', '.join(sorted(wanted))}; found {', '.join(sorted(loaded))}")
    for name, row in wanted.items():
        function, signature = loaded[name], names.SIGNATURES[row]
        for specs, found in (
            (signature.inputs, function.structured_input_signature[1]),
            (signature.outputs, function.structured_outputs),
        ):
            expected = {
                key: (spec.dtype, [sides[letter] for letter in spec.shape])
                for key, spec in specs.items()
            }
            got = {key: (spec.dtype.name, spec.shape.as_list()) for key, spec in found.items()}
            if got != expected:
                raise ValueError(f"{name} has {got}; expected {expected}")
    return ", ".join(sorted(wanted))


def _pictures(loaded: dict) -> str:
    """A drawn JPEG beside damage: it is answered, and as it is alone; the damage gets zeros."""
    good = _drawn_jpeg()
    together = _ask(loaded, image_bytes=[b"no picture", good, good[: len(good) // 2], b""])
    alone = _ask(loaded, image_bytes=[good])
    for key, value in together.items():
        if key == names.LABELS:
            continue
        if value[[0, 2, 3]].any():
            raise ValueError(f"{key} of a picture that does not decode is not zero")
        if not np.allclose(value[1], alone[key][0], atol=1e-5):
            raise ValueError(f"{key} of a picture depends on its neighbours")
    if together[names.VALID].tolist() != [False, True, False, False]:
        raise ValueError(f"valid is {together[names.VALID].tolist()} for a JPEG among damage")
    embedding = loaded[names.ENCODE_IMAGE](image_bytes=tf.constant([good]))[names.EMBEDDING]
    _require_unit_norm(embedding)
    return "a JPEG is answered beside three damaged ones"


def _texts(loaded: dict) -> str:
    texts = tf.constant(["a photo of a dog.", "", b"\xff\x00\xfe", "long " * 1000])
    embedding = loaded[names.ENCODE_TEXT](text=texts)[names.EMBEDDING]
    _require_unit_norm(embedding)
    logits = loaded[names.SIMILARITY](image_bytes=tf.constant([_drawn_jpeg()]), text=texts)
    if logits[names.LOGITS_PER_IMAGE].shape != [1, 4]:
        raise ValueError("similarity of 1 picture and 4 texts is not (1, 4)")
    return "plain, empty, binary and long ones are answered"


def _ask(loaded: dict, image_bytes: list[bytes]) -> dict[str, np.ndarray]:
    answer = loaded[names.SERVING_DEFAULT](image_bytes=tf.constant(image_bytes))
    return {name: value.numpy() for name, value in answer.items()}


def _require_unit_norm(embedding: tf.Tensor) -> None:
    lengths = np.linalg.norm(embedding.numpy(), axis=-1)
    if not np.allclose(lengths, 1, atol=1e-3):
        raise ValueError(f"embeddings have lengths {lengths.tolist()}; expected 1")


def _drawn_jpeg() -> bytes:
    picture = Image.new("RGB", (160, 120), (240, 240, 235))
    ImageDraw.Draw(picture).ellipse((30, 20, 110, 100), fill=(200, 30, 30))
    file = io.BytesIO()
    picture.save(file, "JPEG")
    return file.getvalue()
