"""Requests and what TensorFlow Serving answers them with, written down as data.

From tensorflow.org/tfx/serving/api_rest, from the messages that its REST handler and JSON parser
give, and from predict.proto, get_model_status.proto and get_model_metadata.proto. The model is the
tiny export with three labels and both towers. Where the text of an error is TensorFlow's own or
the JSON parser's, only its kind is written down.
"""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import dataclass

from tfclip.serving.warmup import drawn_jpeg

MODEL = "/v1/models/tfclip"
GOOD, OTHER, DAMAGE = drawn_jpeg(60, 40), drawn_jpeg(33, 50), b"no picture"
PICTURES = (GOOD, OTHER, DAMAGE)
TEXTS = ("a red circle", "ein Hund, süß", "", "\x00 \U0001f415", "long " * 50)
INPUTS = {
    "serving_default": ("image_bytes",),
    "classify": ("image_bytes",),
    "encode_image": ("image_bytes",),
    "encode_text": ("text",),
    "similarity": ("image_bytes", "text"),
}


@dataclass(frozen=True)
class Case:
    """One HTTP request and its answer.

    `error` is a part of the message; `row` and `inputs` say by which signature a good one is
    answered, and `form` whether in rows or columns; `check` is a key of checks for other answers.
    """

    name: str
    method: str = "POST"
    path: str = f"{MODEL}:predict"
    body: bytes = b""
    status: int = 200
    error: str | None = None
    row: str | None = None
    inputs: dict | None = None
    form: str | None = None
    check: str | None = None


def b64(content: bytes) -> dict:
    return {"b64": base64.b64encode(content).decode()}


def _value(name, value):
    return b64(value) if name == "image_bytes" else value


def good() -> list[Case]:
    """Every signature in every form and several sizes."""
    cases = []
    for signature, form, named, size in itertools.product(
        [None, *INPUTS], ("row", "column"), (False, True), (1, 2, 3, 5, 17)
    ):
        wanted = INPUTS[signature or "serving_default"]
        if len(wanted) > 1 and not named:
            continue
        sources = {"image_bytes": itertools.cycle(PICTURES), "text": itertools.cycle(TEXTS)}
        values = {name: list(itertools.islice(sources[name], size)) for name in wanted}
        columns = {name: [_value(name, v) for v in values[name]] for name in wanted}
        if form == "column":
            body = {"inputs": columns if named else columns[wanted[0]]}
        elif named:
            rows = zip(*columns.values(), strict=True)
            body = {"instances": [dict(zip(wanted, row, strict=True)) for row in rows]}
        else:
            body = {"instances": columns[wanted[0]]}
        if signature:
            body["signature_name"] = signature
        row = signature if signature not in (None, "serving_default") else "classify"
        how = f"{signature}-{form}-{'named' if named else 'plain'}-{size}"
        cases.append(Case(how, body=json.dumps(body).encode(), row=row, inputs=values, form=form))
    for pictures, texts in itertools.product((0, 1, 2, 5), (0, 1, 3)):
        values = {"image_bytes": list((PICTURES * 2)[:pictures]), "text": list(TEXTS[:texts])}
        columns = {name: [_value(name, v) for v in column] for name, column in values.items()}
        body = json.dumps({"signature_name": "similarity", "inputs": columns}).encode()
        how = f"similarity-{pictures}-pictures-{texts}-texts"
        cases.append(Case(how, body=body, row="similarity", inputs=values, form="column"))
    for signature in ("classify", "encode_image", "encode_text"):
        body = json.dumps({"signature_name": signature, "inputs": []}).encode()
        inputs = {INPUTS[signature][0]: []}
        cases.append(
            Case(f"{signature}-empty", body=body, row=signature, inputs=inputs, form="column")
        )
    return cases


def written_otherwise() -> list[Case]:
    """Good requests whose JSON is unusual: each is `encode_text` of "a" and "b", or of one more."""
    plain = {"row": "encode_text", "inputs": {"text": ["a", "b"]}, "form": "row"}
    text = '{"signature_name": "encode_text", "instances": ["a", "b"]}'
    bodies = {
        "byte order mark": b"\xef\xbb\xbf" + text.encode(),
        "white space": ("\n\t " + text.replace(" ", "\n  ") + "\r\n")
        .encode()
        .replace(b"encode_text", b"encode_text"),
        "escapes": text.replace("a", "\\u0061", 0).replace('"a"', '"\\u0061"').encode(),
        "unknown keys": text.replace("{", '{"other": [1, NaN, {"b64": 3}], ', 1).encode(),
        "first key counts": text.replace("}", ', "instances": [1]}').encode(),
        "base64 text": text.replace('"a"', json.dumps(b64(b"a"))).encode(),
        "base64 without padding": text.replace('"a"', '{"b64": "YQ"}').encode(),
        "base64 with white space": text.replace('"a"', '{"b64": " Y Q = =\\n"}').encode(),
        "content of every byte": text.replace('"a"', json.dumps(b64(b"a"))).encode(),
    }
    cases = [Case(name, body=body, **plain) for name, body in bodies.items()]
    binary = bytes(range(256))
    inputs = {"text": [binary, b"b"]}
    body = text.replace('"a"', json.dumps(b64(binary))).encode()
    cases.append(Case("bytes as text", body=body, row="encode_text", inputs=inputs, form="row"))
    raw = text.encode().replace(b'"a"', b'"\xff\xfe"')
    inputs = {"text": [b"\xff\xfe", b"b"]}
    cases.append(Case("no UTF-8", body=raw, row="encode_text", inputs=inputs, form="row"))
    empty = json.dumps({"inputs": [{"b64": ""}]}).encode()
    inputs = {"image_bytes": [b""]}
    cases.append(Case("empty picture", body=empty, row="classify", inputs=inputs, form="column"))
    # A string is its UTF-8 bytes, also where a picture is wanted.
    body = json.dumps({"inputs": ["no picture"]}).encode()
    inputs = {"image_bytes": [b"no picture"]}
    cases.append(Case("picture as text", body=body, row="classify", inputs=inputs, form="column"))
    for path in (
        f"{MODEL}/versions/1:predict",
        f"{MODEL}:PREDICT",
        "/V1/MODELS/tfclip:predict",
        "/v1/models/tf%63lip:predict",
        f"{MODEL}/versions/0001:predict",
        f"{MODEL}:predict?query=1",
    ):
        cases.append(Case(f"path {path}", path=path, body=text.encode(), **plain))
    return cases


def bad_json() -> list[Case]:
    """Bodies that are no JSON object."""
    parse = "JSON Parse error"
    bodies = {
        "": f"{parse}: The document is empty",
        "{": parse,
        "}": parse,
        "{]": parse,
        '{"instances": }': parse,
        '{"instances": [1,]}': parse,
        '{"instances": ["a"]} x': parse,
        "{'instances': ['a']}": parse,
        '{"instances": ["a]}': parse,
        '{"instances": ["\\x"]}': parse,
        '{"instances": ["\n"]}': parse,
        '{"instances": [01]}': parse,
        '{"instances": [tru]}': parse,
        '{"instances" ["a"]}': parse,
        "\x00": parse,
        "<html>": parse,
        '{"a":' * 100_000: parse,
        "[" * 100_000: parse,
        "[]": "Is not object",
        '["a"]': "Is not object",
        "1": "Is not object",
        '"instances"': "Is not object",
        "null": "Is not object",
        "true": "Is not object",
        "NaN": "Is not object",
        "1" * 10_000: "Is not object",
    }
    return [
        Case(f"json {body[:20]!r}", body=body.encode(), status=400, error=error)
        for body, error in bodies.items()
    ]


def bad_content() -> list[Case]:
    """JSON objects that are no request to predict."""
    nowhere = "Missing 'inputs' or 'instances' key"
    one = "expecting only one of 'inputs' or 'instances' keys to exist"
    name = "'signature_name' key must be a string value"
    plain = "expecting list of objects as multiple input tensors required"
    bodies: list[tuple[dict, str]] = [
        ({}, nowhere),
        ({"instance": ["a"]}, nowhere),
        ({"Instances": ["a"]}, nowhere),
        ({"signature_name": "encode_text"}, nowhere),
        ({"instances": ["a"], "inputs": ["a"]}, one),
        ({"inputs": None, "instances": None}, one),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": {}}, "Excepting 'instances' to be an list/array"),
        ({"instances": "a"}, "Excepting 'instances' to be an list/array"),
        ({"instances": None}, "Excepting 'instances' to be an list/array"),
        ({"instances": 7}, "Excepting 'instances' to be an list/array"),
        ({"signature_name": 7, "instances": ["a"]}, name),
        ({"signature_name": None, "instances": ["a"]}, name),
        ({"signature_name": ["a"], "instances": ["a"]}, name),
        ({"signature_name": "nope", "instances": ["a"]}, 'name: "nope" not found in signature def'),
        ({"signature_name": "Classify", "inputs": ["a"]}, 'name: "Classify" not found'),
        ({"signature_name": "__saved_model_init_op", "inputs": []}, "not found in signature def"),
        ({"signature_name": "similarity", "instances": ["a"]}, plain),
        ({"signature_name": "similarity", "inputs": ["a"]}, "expecting an object as multiple"),
        ({"signature_name": "similarity", "inputs": b64(b"")}, "expecting an object as multiple"),
    ]
    bodies.append(({"signature_name": "\udcac", "inputs": []}, "not found in signature def"))
    for signature in ("classify", "encode_image", "encode_text"):
        wanted = INPUTS[signature][0]
        for value, kind in ((7, "Number"), (1.5, "Number"), (True, "True"), (None, "Null")):
            error = f"Type: {kind} is not of expected type: string"
            bodies += [
                ({"signature_name": signature, "inputs": [value]}, error),
                ({"signature_name": signature, "inputs": {wanted: ["a", value]}}, error),
                ({"signature_name": signature, "instances": ["a", value]}, error),
                ({"signature_name": signature, "instances": [{wanted: value}]}, error),
            ]
        bodies += [
            ({"signature_name": signature, "inputs": {"other": ["a"]}}, f"named input: {wanted}"),
            ({"signature_name": signature, "inputs": {}}, f"Missing named input: {wanted}"),
            ({"signature_name": signature, "inputs": "a"}, "shape"),
            ({"signature_name": signature, "inputs": b64(b"a")}, "shape"),
            ({"signature_name": signature, "inputs": [["a"]]}, "shape"),
            ({"signature_name": signature, "inputs": [[]]}, "shape"),
            ({"signature_name": signature, "instances": [["a"]]}, "shape"),
            ({"signature_name": signature, "inputs": ["a", ["b"]]}, "at unexpected level: 1"),
            ({"signature_name": signature, "inputs": [["a"], "b"]}, "found at incorrect level: 2"),
            ({"signature_name": signature, "inputs": [["a", "b"], ["c"]]}, "unexpected size: 1"),
            (
                {"signature_name": signature, "instances": [["a"], ["b", "c"]]},
                "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
                "Expecting shape [1] but got: [2]",
            ),
            (
                {"signature_name": signature, "instances": [{"other": "a"}]},
                "element: 0 key: other of 'instances' list. Error: INVALID_ARGUMENT: JSON object: "
                "does not have named input: other",
            ),
            (
                {"signature_name": signature, "instances": [{wanted: "a"}, {}]},
                "element: 1 of 'instances' list. JSON object: {} keys must be equal to: " + wanted,
            ),
            (
                {"signature_name": signature, "instances": [{wanted: "a"}, "b"]},
                "Expecting object but got list at item 1 of input list",
            ),
            (
                {"signature_name": signature, "instances": ["a", {wanted: "b"}]},
                "Expecting value/list but got object at item 1 of input list",
            ),
            (
                {"signature_name": signature, "inputs": [{"b64": 7}]},
                "not formatted correctly for base64 data",
            ),
            (
                {"signature_name": signature, "inputs": [{"b64": "YQ==", "more": 1}]},
                "not formatted correctly for base64 data",
            ),
            (
                {"signature_name": signature, "inputs": ["a", {"base64": "YQ=="}]},
                "not formatted correctly for base64 data",
            ),
        ]
        for damaged in ("YQ=", "Y", "====", "YQ==YQ==", "Y-_Q", "Y*==", "ü", "YQ==="):
            body = {"signature_name": signature, "inputs": [{"b64": damaged}]}
            bodies.append((body, "Unable to base64 decode"))
    both = {"image_bytes": "a", "text": "b"}
    bodies += [
        (
            {"signature_name": "similarity", "instances": [{"text": "b"}]},
            "keys must be equal to: image_bytes,text",
        ),
        (
            {"signature_name": "similarity", "instances": [both, {**both, "x": "y"}]},
            "does not have named input: x",
        ),
        ({"signature_name": "similarity", "inputs": {"text": ["b"]}}, "named input: image_bytes"),
        ({"signature_name": "similarity", "inputs": {"image_bytes": []}}, "named input: text"),
    ]
    return [
        Case(
            f"content {place} {error[:30]}", body=json.dumps(body).encode(), status=400, error=error
        )
        for place, (body, error) in enumerate(bodies)
    ]


def paths() -> list[Case]:
    """Models, versions, labels, other paths and methods."""
    body = b'{"signature_name": "encode_text", "instances": ["a"]}'
    latest, one = (
        "Servable not found for request: Latest",
        "Servable not found for request: Specific",
    )
    posts = [
        ("/v1/models/other:predict", 404, f"{latest}(other)"),
        ("/v1/models/TFCLIP:predict", 404, f"{latest}(TFCLIP)"),
        ("/v1/models/t%2Fc:predict", 404, f"{latest}(t/c)"),
        (f"{MODEL}/versions/2:predict", 404, f"{one}(tfclip, 2)"),
        (f"{MODEL}/versions/0:predict", 404, f"{one}(tfclip, 0)"),
        (
            f"{MODEL}/versions/9223372036854775807:predict",
            404,
            f"{one}(tfclip, 9223372036854775807)",
        ),
        (f"{MODEL}/versions/9223372036854775808:predict", 400, "Failed to convert version"),
        (f"{MODEL}/versions/{'9' * 500}:predict", 400, "Failed to convert version"),
        (f"{MODEL}/labels/stable:predict", 400, "Unrecognized servable version label: stable"),
        (f"{MODEL}:classify", 400, "Expected classification signature method_name"),
        (f"{MODEL}:regress", 400, "Expected regression signature method_name"),
    ]
    malformed = [
        f"{MODEL}", f"{MODEL}:", f"{MODEL}:explain", f"{MODEL}/:predict",
        f"{MODEL}/versions:predict", f"{MODEL}/versions/:predict", f"{MODEL}/versions/x:predict",
        f"{MODEL}/versions/-1:predict",
        f"{MODEL}/versions/1/labels/a:predict", f"{MODEL}:predict:predict", "/v1/models/:predict",
        "/v1/models:predict", "/v1/", "/v1/x", f"{MODEL}/predict", "/v1/models/a/b:predict",
    ]  # fmt: skip
    cases = [Case(f"POST {p[:60]}", path=p, body=body, status=s, error=e) for p, s, e in posts]
    cases += [
        Case(f"POST {p}", path=p, body=body, status=400, error=f"Malformed request: POST {p}")
        for p in malformed
    ]
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        p = f"{MODEL}:predict"
        error = f"Malformed request: {method} {p}"
        cases.append(Case(f"{method} predict", method, p, body, 400, error))
    gets = [
        ("/v1/models/other", 404, "Could not find any versions of model other"),
        ("/v1/models/other/versions/1", 404, "Could not find version 1 of model other"),
        (f"{MODEL}/versions/2", 404, "Could not find version 2 of model tfclip"),
        (f"{MODEL}/labels/stable", 400, "Unrecognized servable version label: stable"),
        (f"{MODEL}/versions/{2**63}", 400, "Failed to convert version"),
        ("/v1/models", 400, "Missing model name in request."),
        ("/v1/models/other/metadata", 404, f"{latest}(other)"),
        (f"{MODEL}/versions/3/metadata", 404, f"{one}(tfclip, 3)"),
        (f"{MODEL}/labels/a/metadata", 400, "Unrecognized servable version label: a"),
    ]
    cases += [Case(f"GET {p[:60]}", "GET", p, status=s, error=e) for p, s, e in gets]
    for p in (f"{MODEL}/", f"{MODEL}/versions", f"{MODEL}/versions/x", f"{MODEL}/metadata/x",
              "/v1/models/", "/v1", f"{MODEL}/other"):  # fmt: skip
        status = 404 if p == "/v1" else 400
        error = "Not Found" if p == "/v1" else "Malformed request: GET"
        cases.append(Case(f"GET {p}", "GET", p, status=status, error=error))
    for p in ("/", "/v2/models/tfclip", "/models/tfclip", "/favicon.ico"):
        if p != "/":
            cases.append(Case(f"GET {p}", "GET", p, status=404, error="Not Found"))
    for p in (MODEL, f"{MODEL}/versions/1", "/V1/Models/tfclip"):
        cases.append(Case(f"GET {p}", "GET", p, check="status"))
    for p in (f"{MODEL}/metadata", f"{MODEL}/versions/1/metadata"):
        cases.append(Case(f"GET {p}", "GET", p, check="metadata"))
    return cases


CASES = [*good(), *written_otherwise(), *bad_json(), *bad_content(), *paths()]
