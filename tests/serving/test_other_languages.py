"""Exports and the server asked by what is not Python: TensorFlow's C++ loader, Node's gRPC."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.serve_cpp import LARGEST, ask_program, compare, compare_recipe, compile_program
from tfclip.export import main as export
from tfclip.serving.saved_model import load_signatures
from tfclip.serving.signatures import SIGNATURES


@pytest.fixture(scope="module")
def serve_one(tmp_path_factory):
    """The C++ program, compiled against the installed wheel."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    return compile_program(tmp_path_factory.mktemp("cc"))


@pytest.fixture(scope="module")
def files(picture_bytes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    pictures, texts = [], []
    for name, content in {**picture_bytes, "damage": b"no picture"}.items():
        pictures.append(folder / f"{name}.bin")
        pictures[-1].write_bytes(content)
    for number, text in enumerate(["a red circle", "ein Hund, süß", ""]):
        texts.append(folder / f"{number}.txt")
        texts[-1].write_text(text, encoding="utf-8")
    return pictures, texts


@pytest.mark.slow
def test_cpp_gives_the_numbers_of_python_in_half_precision(serve_one, tiny_run, files, tmp_path):
    out = tmp_path / "exported"
    assert export([str(tiny_run), "--out", str(out), "--precision", "bfloat16"]) == 0
    assert compare(serve_one, out / "1", *files)["difference"] < 1e-5


@pytest.mark.slow
def test_cpp_gives_the_numbers_of_python_for_a_recipe(serve_one, tmp_path):
    """`python -m benchmarks.serve_cpp` compares all recipes, in minutes."""
    found = compare_recipe("shapes", serve_one, tmp_path)
    assert found["tokenizer"] == "LearntPieceTokenizer" and found["share"] < LARGEST


@pytest.mark.slow
def test_an_export_of_the_image_tower_needs_no_text_ops(serve_one, tiny_run, files, tmp_path):
    """Python loads no export with a text tower without them; C++ answers pictures by it."""
    both, image_only = tmp_path / "both", tmp_path / "image"
    assert export([str(tiny_run), "--out", str(both)]) == 0
    assert export([str(tiny_run), "--out", str(image_only), "--image-only"]) == 0
    load = "import sys, tensorflow as tf; tf.saved_model.load(sys.argv[1])"
    for version, loads in ((both / "1", False), (image_only / "1", True)):
        command = [sys.executable, "-I", "-c", load, str(version)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == loads, done.stderr
    done = ask_program(serve_one, both / "1", "classify", files[0], with_text_ops=False)
    assert done.returncode == 0, done.stderr
    done = ask_program(serve_one, both / "1", "encode_text", files[1], with_text_ops=False)
    assert done.returncode == 1 and "not registered" in done.stderr
    found = compare(serve_one, image_only / "1", *files, with_text_ops=False)
    assert found["difference"] < 1e-5
    assert set(load_signatures(image_only / "1")) <= {*SIGNATURES, "serving_default"}


NODE = """
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const fs = require('fs');
const proto = grpc.loadPackageDefinition(loader.loadSync('predict.proto', {keepCase: true}));
const [address, ...files] = process.argv.slice(2);
const client = new proto.tensorflow.serving.PredictionService(
  address, grpc.credentials.createInsecure());
const tensor = {dtype: 7, tensor_shape: {dim: [{size: files.length}]},
  string_val: files.map((name) => fs.readFileSync(name))};
const request = {model_spec: {name: 'tfclip', signature_name: 'classify'},
  inputs: {image_bytes: tensor}};
client.Predict(request, (error, answer) => {
  if (error) { console.error(error.message); process.exit(1); }
  const outputs = answer.outputs;
  console.log(JSON.stringify({scores: outputs.scores.float_val, valid: outputs.valid.bool_val,
    labels: outputs.labels.string_val.map((b) => b.toString())}));
  request.model_spec.signature_name = 'nope';
  client.Predict(request, (wrong) => { console.log(wrong.code, wrong.details); });
});
"""

# What of TensorFlow Serving's messages this client needs.
PROTO = """
syntax = "proto3";
package tensorflow.serving;
message Dim { int64 size = 1; }
message Shape { repeated Dim dim = 2; }
message Tensor { int32 dtype = 1; Shape tensor_shape = 2; repeated float float_val = 5;
  repeated bytes string_val = 8; repeated bool bool_val = 11; }
message ModelSpec { string name = 1; string signature_name = 3; }
message PredictRequest { ModelSpec model_spec = 1; map<string, Tensor> inputs = 2; }
message PredictResponse { map<string, Tensor> outputs = 1; }
service PredictionService { rpc Predict(PredictRequest) returns (PredictResponse); }
"""


@pytest.mark.slow
def test_a_node_client_over_grpc(running, served, files, tmp_path):
    if shutil.which("npm") is None:
        pytest.skip("no npm")
    (tmp_path / "predict.proto").write_text(PROTO)
    (tmp_path / "ask.js").write_text(NODE)
    packages = ["@grpc/grpc-js@1", "@grpc/proto-loader@0.7"]
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    done = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm install failed: {done.stderr[-200:]}")
    address = running.grpc.removeprefix("grpc://")
    command = ["node", "ask.js", address, *map(str, files[0])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer, refusal = done.stdout.splitlines()
    got = json.loads(answer)
    expected = served["classify"](image_bytes=tf.constant([p.read_bytes() for p in files[0]]))
    np.testing.assert_allclose(got["scores"], expected["scores"].numpy().reshape(-1), atol=1e-4)
    assert got["valid"] == expected["valid"].numpy().tolist()
    assert got["labels"][:3] == ["red circle", "blue square", "green star"]
    assert refusal == '9 Serving signature key "nope" not found.'
