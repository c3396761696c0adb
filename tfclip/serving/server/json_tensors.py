"""Reads string tensors from the JSON of a predict request, and writes the outputs as JSON.

Written from tensorflow.org/tfx/serving/api_rest and the messages of TensorFlow Serving's parser.
Every input of a tfclip export is a tensor of strings, so no other type is read.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping

import numpy as np

from tfclip.serving.server.refusals import Refused, invalid

ROW, COLUMN = "row", "column"
# The longest part of a request that a message quotes.
_MOST_SHOWN = 200
_TYPES = {type(None): "Null", dict: "Object", list: "Array", str: "String"}


def read_body(body: bytes) -> dict:
    """Parse the body of a request, whose top level must be an object.

    Bytes that are not UTF-8 are kept unchanged. If a key is repeated, the first value counts.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    text = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    try:
        content = json.loads(text, object_pairs_hook=_first_of_each, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except RecursionError:
        raise invalid("JSON Parse error: nested too deeply") from None
    if not isinstance(content, dict):
        raise invalid(f"JSON Value: {_shown(content)} Is not object")
    return content


def _first_of_each(pairs: list[tuple]) -> dict:
    content: dict = {}
    for key, value in pairs:
        content.setdefault(key, value)
    return content


def _whole_number(digits: str) -> int | float:
    # Python needs quadratic time for integers of many digits.
    return int(digits) if len(digits) < 30 else float(digits)


def signature_name(content: Mapping) -> str:
    """Return the signature that a request names, "" if it names none."""
    name = content.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {_shown(content)} not formatted correctly. 'signature_name' key must be "
            "a string value."
        )
    return name


def read_inputs(content: Mapping, wanted: Collection[str]) -> tuple[dict[str, np.ndarray], str]:
    """Return the inputs of a request by name, as arrays of bytes, and its format (`ROW`, `COLUMN`).

    Args:
        content: the result of `read_body`.
        wanted: the names of the inputs of the signature.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    wanted = sorted(wanted)
    if "instances" in content and "inputs" in content:
        raise invalid(
            f"JSON Value: {_shown(content)} Not formatted correctly expecting only one of 'inputs' "
            "or 'instances' keys to exist "
        )
    if "instances" in content:
        return _from_rows(content["instances"], wanted, content), ROW
    if "inputs" in content:
        return _from_columns(content["inputs"], wanted), COLUMN
    raise invalid("Missing 'inputs' or 'instances' key")


def _from_columns(value, wanted: list[str]) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or _is_base64(value):
        if len(wanted) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        return {wanted[0]: _tensor(value)}
    columns = {}
    for name in wanted:
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        columns[name] = _tensor(value[name])
    return columns


def _from_rows(rows, wanted: list[str], content: Mapping) -> dict[str, np.ndarray]:
    if not isinstance(rows, list):
        raise invalid(f"JSON Value: {_shown(content)} Excepting 'instances' to be an list/array")
    if not rows:
        raise invalid(f"JSON Value: {_shown(content)} No values in 'instances' array")
    if len(wanted) > 1 and not _is_named(rows[0]):
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    named = _is_named(rows[0])
    columns: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
    for place, row in enumerate(rows):
        if named and not _is_named(row):
            raise invalid(f"Expecting object but got list at item {place} of input list")
        if not named and _is_named(row):
            raise invalid(f"Expecting value/list but got object at item {place} of input list")
        for name, value in (row if named else {wanted[0]: row}).items():
            at = f" {place} key: {name}" if named else f" {place}"
            try:
                if name not in columns:
                    raise invalid(f"JSON object: does not have named input: {name}")
                item = _tensor(value)
                if columns[name] and columns[name][0].shape != item.shape:
                    shapes = [_shape_text(a.shape) for a in (columns[name][0], item)]
                    raise invalid(f"Expecting shape {shapes[0]} but got: {shapes[1]}")
            except Refused as refusal:
                raise invalid(
                    f"Failed to process element:{at} of 'instances' list. Error: "
                    f"INVALID_ARGUMENT: {refusal.message}"
                ) from None
            columns[name].append(item)
        if named and sorted(row) != wanted:
            raise invalid(
                f"Failed to process element: {place} of 'instances' list. JSON object: "
                f"{_shown(row)} keys must be equal to: {','.join(wanted)}"
            )
    return {name: np.stack(items) for name, items in columns.items()}


def _is_base64(value) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _is_named(value) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _tensor(value) -> np.ndarray:
    """Return an object array of bytes from a string, a base64 object, or nested lists of them."""
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        if not first:
            break
        first = first[0]
    flat: list[bytes] = []
    _fill(value, 0, shape, flat)
    tensor = np.empty(len(flat), object)
    tensor[:] = flat
    return tensor.reshape(shape)


def _fill(value, level: int, shape: list[int], flat: list[bytes]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON "
                f"DOM. Expected at level: {len(shape)}"
            )
        flat.append(read_bytes(value))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{shape[level]}"
        )
    for item in value:
        _fill(item, level + 1, shape, flat)


def read_bytes(value) -> bytes:
    """Return a string, or a base64 object, as bytes.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None
    if not isinstance(value, dict):
        kind = _TYPES.get(type(value)) or (str(value) if isinstance(value, bool) else "Number")
        raise invalid(f"JSON Value: {_shown(value)} Type: {kind} is not of expected type: string")
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    return decode_base64(value["b64"])


def decode_base64(text: str) -> bytes:
    """Decode standard base64, with whitespace, with all of its padding or none.

    Raises:
        Refused: INVALID_ARGUMENT.
    """
    if not text.isalnum():
        text = "".join(text.split())
    if not text.endswith("="):
        text += "=" * (-len(text) % 4)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _shown(value) -> str:
    text = json.dumps(_cut(value))
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _cut(value, depth: int = 0):
    """Return the beginning of a value, so that a message about a large one is cheap."""
    if isinstance(value, str):
        return value[:_MOST_SHOWN]
    if depth > 8:
        return "..."
    if isinstance(value, list):
        return [_cut(item, depth + 1) for item in value[:10]]
    if isinstance(value, dict):
        return {key[:_MOST_SHOWN]: _cut(item, depth + 1) for key, item in [*value.items()][:10]}
    return value


def write_answer(outputs: Mapping[str, np.ndarray], form: str) -> bytes:
    """Return the body of an answer: `predictions` in row format, `outputs` in column format.

    A single output is not named; strings of outputs whose name ends in "_bytes" are base64. Numbers
    have the fewest digits that give the same float32 again; NaN, Infinity and -Infinity are written
    as these words, as in TensorFlow Serving.

    Raises:
        Refused: INVALID_ARGUMENT, in row format if outputs differ in their leading dimension.
    """
    columns = {name: _texts(name, np.asarray(value)) for name, value in outputs.items()}
    if form == COLUMN:
        if len(columns) == 1:
            return f'{{"outputs": {_joined(next(iter(columns.values())))}}}'.encode()
        parts = (f"{json.dumps(name)}: {_joined(value)}" for name, value in columns.items())
        return f'{{"outputs": {{{", ".join(parts)}}}}}'.encode()
    size = None
    for name, value in columns.items():
        if value.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if size is not None and len(value) != size:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(value)} expecting: {size}"
            )
        size = len(value)
    if len(columns) == 1:
        rows = [_joined(row) for row in next(iter(columns.values()))]
    else:
        keys = [json.dumps(name) for name in columns]
        rows = [_named_row(keys, row) for row in zip(*columns.values(), strict=True)]
    return f'{{"predictions": [{", ".join(rows)}]}}'.encode()


def _named_row(keys: list[str], values: tuple) -> str:
    parts = (f"{key}: {_joined(value)}" for key, value in zip(keys, values, strict=True))
    return f"{{{', '.join(parts)}}}"


def _texts(name: str, values: np.ndarray) -> np.ndarray:
    """Return an array of the same shape that holds the JSON of each value."""
    if values.dtype.kind == "f":
        texts = values.astype(str)
        if not np.isfinite(values).all():
            for found, word in (("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")):
                texts = np.where(texts == found, word, texts)
        return texts
    if values.dtype.kind == "b":
        return np.where(values, "true", "false")
    texts = np.empty(values.shape, object)
    if values.dtype.kind in "iu":
        texts[...] = values.astype(str)
        return texts
    as_bytes = name.endswith("_bytes")
    known: dict[bytes, str] = {}  # Labels are the same in every row.
    for place, value in np.ndenumerate(values):
        text = known.get(value)
        if text is None:
            if as_bytes:
                text = json.dumps({"b64": base64.b64encode(value).decode()})
            else:
                text = json.dumps(value.decode("utf-8", "replace"), ensure_ascii=False)
            known[value] = text
        texts[place] = text
    return texts


def _joined(texts) -> str:
    if not isinstance(texts, np.ndarray):
        return str(texts)
    if texts.ndim == 0:
        return str(texts[()])
    if texts.ndim == 1:
        return f"[{', '.join(texts.tolist())}]"
    return f"[{', '.join(map(_joined, texts))}]"
