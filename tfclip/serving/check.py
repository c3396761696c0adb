"""Checks that TensorFlow Serving can run an export: layout, signatures, ops, answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from tfclip.serving import signatures as names
from tfclip.serving.batching import check_merging, read_batching_parameters
from tfclip.serving.rest import decode_answer, encode_answer, encode_request, model_url
from tfclip.serving.saved_model import load_card, load_signatures, version_directory
from tfclip.serving.warmup import (
    MOST_REQUESTS,
    can_warm_up,
    drawn_jpeg,
    read_warmup_requests,
    replay,
)

# The ops of TensorFlow Text that tfclip's tokenizers use. A stock server links the whole library
# (`ops_lib` in its BUILD file).
TEXT_OPS = frozenset(
    {
        "FastBertNormalize",
        "FastWordpieceTokenizeWithOffsets",
        "NormalizeUTF8",
        "SentencepieceOp",
        "SentencepieceTokenizeOp",
    }
)
# Registered in TensorFlow, but useless without the Python process that created them.
PYTHON_OPS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})


@dataclass(frozen=True)
class Finding:
    """The result of one check; `detail` describes the export, or what is wrong with it."""

    name: str
    ok: bool
    detail: str


def check_export(
    exported: Path, batching: Path | None = None, loaded: dict | None = None
) -> Iterator[Finding]:
    """Run the checks in order and yield each result.

    If a check fails that later ones depend on, the later ones do not run.

    Args:
        exported: a folder that `tfclip export` wrote, of which the highest version is checked, or
            a version's folder.
        batching: the batching parameters of a server that merges requests; None if it does not.
        loaded: a dict that receives the signatures, for further use.
    """
    loaded = {} if loaded is None else loaded

    def load() -> str:
        loaded.update(load_signatures(version_directory(exported)))
        return f"{len(loaded)} signatures"

    checks: list[tuple[str, Callable[[], str], bool]] = [
        ("layout", lambda: _layout(exported), True),
        ("model card", lambda: _card(exported), True),
        ("ops", lambda: check_ops(version_directory(exported)), False),
        ("loads", load, True),
        ("signatures", lambda: _signatures(exported, loaded), True),
        ("pictures", lambda: _pictures(loaded), False),
        ("texts", lambda: _texts(loaded), False),
        ("warm-up", lambda: _warmup(exported, loaded), False),
        ("batching", lambda: _batching(batching, loaded), False),
        ("REST", lambda: _rest(loaded), False),
    ]
    for name, check, others_need_it in checks:
        try:
            yield Finding(name, True, check())
        except (ValueError, OSError, KeyError, tf.errors.OpError) as error:
            yield Finding(name, False, " ".join(str(error).split())[:500])
            if others_need_it:
                return


def curl_request(exported: Path, server: str = "http://localhost:8501") -> str:
    """Return a curl command that sends an example request for the default signature."""
    card = load_card(version_directory(exported))
    row = names.default_row(names.signature_names(bool(card["labels"]), card["sides"]))
    url = f"{model_url(server)}:predict"
    if row == names.ENCODE_TEXT:
        body = encode_request(row, {names.TEXT: ["a red circle"]})
        return f"curl -s -d '{json.dumps(body)}' {url}"
    begin, end = json.dumps(encode_request(row, {names.IMAGE_BYTES: [b""]})).split('""')
    return (
        f"(printf '{begin}\"'; base64 < picture.jpg | tr -d '\\n'; printf '\"{end}') | "
        f"curl -s -d @- {url}"
    )


def _layout(exported: Path) -> str:
    version = version_directory(exported)
    if not version.resolve().name.isdigit():
        raise ValueError(f"{version}: a server loads only directories whose name is an integer")
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
    holds = f"{' and '.join(card['sides'])} tower, {card['precision']} weights"
    if not labels:
        return f"{holds}, no labels"
    fitted = "fitted thresholds" if thresholds else "no thresholds"
    return f"{holds}, {len(labels)} labels, {fitted}, tiles {card['tiles']}"


def graph_ops(version: Path) -> set[str]:
    """Return the names of all ops in the graph and the functions of a version's directory.

    Raises:
        ValueError: `saved_model.pb` is damaged.
    """
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((version / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise ValueError(f"saved_model.pb is damaged: {error}") from None
    ops: set[str] = set()
    functions: set[str] = set()
    for meta_graph in saved.meta_graphs:
        graph = meta_graph.graph_def
        ops.update(node.op for node in graph.node)
        for function in graph.library.function:
            functions.add(function.signature.name)
            ops.update(node.op for node in function.node_def)
    return ops - functions


def check_ops(version: Path) -> str:
    """Check the ops of a version's directory, and return their numbers as text.

    Raises:
        ValueError: a stock server lacks one of them.
    """
    ops = graph_ops(version)
    core = {op for op in ops - TEXT_OPS - PYTHON_OPS if op_def_registry.get(op) is not None}
    if missing := sorted(ops - core - TEXT_OPS):
        raise ValueError(f"a stock server lacks the ops {', '.join(missing)}")
    return f"{len(core)} of core TensorFlow, {len(ops & TEXT_OPS)} of TensorFlow Text"


def _signatures(exported: Path, loaded: dict) -> str:
    card = load_card(version_directory(exported))
    sizes = {"N": None, "M": None, "C": len(card["labels"]), "D": card["config"]["embed_dim"]}
    wanted = names.signature_names(bool(card["labels"]), card["sides"])
    if set(loaded) != set(wanted):
        raise ValueError(f"expected {', '.join(sorted(wanted))}; found {', '.join(sorted(loaded))}")
    for name, row in wanted.items():
        function, signature = loaded[name], names.SIGNATURES[row]
        for specs, actual in (
            (signature.inputs, function.structured_input_signature[1]),
            (signature.outputs, function.structured_outputs),
        ):
            expected = {
                key: (spec.dtype, [sizes[letter] for letter in spec.shape])
                for key, spec in specs.items()
            }
            received = {key: (s.dtype.name, s.shape.as_list()) for key, s in actual.items()}
            if received != expected:
                raise ValueError(f"{name} has {received}; expected {expected}")
    return ", ".join(sorted(wanted))


def _pictures(loaded: dict) -> str:
    """Check that damaged files have zeros, and do not affect a JPEG in the same request."""
    if names.ENCODE_IMAGE not in loaded:
        return "not part of this export"
    good = drawn_jpeg()
    together = _ask(loaded, image_bytes=[b"no picture", good, good[: len(good) // 2], b""])
    alone = _ask(loaded, image_bytes=[good])
    for key, value in together.items():
        if key == names.LABELS:
            continue
        if value[[0, 2, 3]].any():
            raise ValueError(f"{key} of a picture that cannot be decoded is not zero")
        if not np.allclose(value[1], alone[key][0], atol=1e-5):
            raise ValueError(f"{key} of a picture depends on the others in the request")
    if together[names.VALID].tolist() != [False, True, False, False]:
        raise ValueError(
            f"valid is {together[names.VALID].tolist()} for a damaged file, a JPEG and two damaged "
            "files"
        )
    embedding = loaded[names.ENCODE_IMAGE](image_bytes=tf.constant([good]))[names.EMBEDDING]
    _require_unit_norm(embedding)
    return "a JPEG in a request with three damaged files has the same answer"


def _texts(loaded: dict) -> str:
    if names.ENCODE_TEXT not in loaded:
        return "not part of this export"
    texts = tf.constant(["a photo of a dog.", "", b"\xff\x00\xfe", "long " * 1000])
    _require_unit_norm(loaded[names.ENCODE_TEXT](text=texts)[names.EMBEDDING])
    if names.SIMILARITY in loaded:
        logits = loaded[names.SIMILARITY](image_bytes=tf.constant([drawn_jpeg()]), text=texts)
        if logits[names.LOGITS_PER_IMAGE].shape != [1, 4]:
            raise ValueError("similarity of 1 picture and 4 texts is not (1, 4)")
    return "plain, empty, binary and long texts are answered"


def _warmup(exported: Path, loaded: dict) -> str:
    """Replay the warm-up requests; there must be one for every signature and allowed batch size."""
    version = version_directory(exported)
    if not (version / names.WARMUP_REQUESTS).is_file():
        return "no requests, so first answers are slow; export with the extra [serving]"
    if not can_warm_up():
        return "requests exist, but replaying them needs the extra [serving]"
    sizes = replay(read_warmup_requests(version), loaded)
    for name in loaded:
        if missing := sorted(set(names.ALLOWED_BATCH_SIZES) - set(sizes.get(name, ()))):
            raise ValueError(f"no warm-up request for {name} with batches of {missing}")
    total = sum(map(len, sizes.values()))
    if total > MOST_REQUESTS:
        raise ValueError(f"{total} warm-up requests; a server reads at most {MOST_REQUESTS}")
    return f"{total} requests replayed, batches of {', '.join(map(str, names.ALLOWED_BATCH_SIZES))}"


def _batching(parameters: Path | None, loaded: dict) -> str:
    """Merged requests are answered as they are alone, in batches of the warmed-up sizes."""
    sizes: tuple[int, ...] = names.ALLOWED_BATCH_SIZES
    if parameters is not None:
        sizes = read_batching_parameters(parameters).allowed_batch_sizes
        if cold := sorted(set(sizes) - set(names.ALLOWED_BATCH_SIZES)):
            raise ValueError(f"{parameters} allows batches of {cold}, which are not warmed up")
    rows = [name for name in loaded if name != names.SERVING_DEFAULT]
    merged = [row for row in rows if names.is_batchable(names.SIGNATURES[row])]
    for row in merged:
        check_merging(loaded[row], row, sizes)
    alone = [row for row in rows if row not in merged]
    source = f"{parameters}: " if parameters else ""
    rest = f"; {', '.join(alone)} only on a server that does not merge" if alone else ""
    return f"{source}{', '.join(merged)} may be merged{rest}"


def _rest(loaded: dict) -> str:
    """The answer of the default signature can be written and read as JSON."""
    row = names.default_row(loaded)
    answer = json.loads(json.dumps(example_answer(loaded), allow_nan=False))
    for name, value in decode_answer(row, answer).items():
        if not len(value):
            raise ValueError(f"{name} is empty in an answer")
    return f"{row} as JSON"


def example_answer(loaded: dict) -> dict:
    """Return a server's answer to `curl_request`, for a drawn picture or for its text."""
    row = names.default_row(loaded)
    (name,) = names.SIGNATURES[row].inputs
    value = {names.IMAGE_BYTES: drawn_jpeg(), names.TEXT: b"a red circle"}[name]
    answer = loaded[row](**{name: tf.constant([value])})
    return encode_answer({key: answer[key].numpy() for key in names.SIGNATURES[row].outputs})


def _ask(loaded: dict, image_bytes: list[bytes]) -> dict[str, np.ndarray]:
    answer = loaded[names.SERVING_DEFAULT](image_bytes=tf.constant(image_bytes))
    return {name: value.numpy() for name, value in answer.items()}


def _require_unit_norm(embedding: tf.Tensor) -> None:
    lengths = np.linalg.norm(embedding.numpy(), axis=-1)
    if not np.allclose(lengths, 1, atol=1e-3):
        raise ValueError(f"embeddings have lengths {lengths.tolist()}; expected 1")
