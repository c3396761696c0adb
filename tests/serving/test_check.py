"""What `serve check` finds fit, and what it does not."""

import json
import shutil
import subprocess

import pytest
import tensorflow as tf

from tfclip import serve
from tfclip.serving.check import check_export, curl_request


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of the export that may be spoilt."""
    return shutil.copytree(exported, tmp_path / "model")


def failure(exported):
    """The last finding, which must be the only failure."""
    *fine, last = check_export(exported)
    assert all(finding.ok for finding in fine)
    assert not last.ok
    return last.name, last.detail


def test_an_export_is_fit(exported, capsys):
    assert serve.main(["check", str(exported), "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    names = ["layout", "model card", "ops", "loads", "signatures", "pictures", "texts"]
    names += ["warm-up", "batching", "REST"]
    assert [finding["check"] for finding in result["checks"]] == names
    assert result["fit"] is True
    assert result["curl"].endswith("http://localhost:8501/v1/models/tfclip:predict")
    assert result["answer"]["outputs"]["labels"] == [["red circle", "blue square", "green star"]]


def test_the_printed_request_is_answered_over_http(exported, url, picture_bytes, tmp_path):
    """The command as it is printed, in a shell, before a server of the protocol."""
    (tmp_path / "picture.jpg").write_bytes(picture_bytes["jpeg"])
    command = curl_request(exported, url)
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, check=True)
    answer = json.loads(done.stdout)["outputs"]
    assert answer["valid"] == [True]
    assert len(answer["scores"][0]) == 3


def test_a_missing_card_is_found_and_the_exit_code_says_so(copy, capsys):
    shutil.rmtree(copy / "1" / "assets.extra")
    assert serve.main(["check", str(copy)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("failed  layout:")
    assert "error:" in err and "not fit" in err


def test_a_version_must_be_an_integer(copy):
    (copy / "1").rename(copy / "one")
    assert failure(copy / "one")[0] == "layout"


def test_other_signatures_than_the_table_are_found(copy):
    path = copy / "1" / "assets.extra" / "model_card.json"
    card = json.loads(path.read_text())
    card["config"]["embed_dim"] = 17
    path.write_text(json.dumps(card))
    name, detail = failure(copy)
    assert name == "signatures" and "encode_image" in detail


def test_ops_that_need_python_are_found(copy):
    module = tf.Module()
    module.call = tf.function(
        lambda x: tf.py_function(lambda y: y, [x], tf.float32),
        input_signature=[tf.TensorSpec([], tf.float32)],
    )
    tf.saved_model.save(module, str(copy / "2"))
    shutil.copytree(copy / "1" / "assets.extra", copy / "2" / "assets.extra")
    findings = {finding.name: finding for finding in check_export(copy)}
    assert "EagerPyFunc" in findings["ops"].detail and not findings["ops"].ok
    assert not findings["signatures"].ok


def test_damaged_files_are_found(copy):
    (copy / "1" / "saved_model.pb").write_bytes(b"\xff" * 100)
    findings = {finding.name: finding for finding in check_export(copy)}
    assert not findings["ops"].ok and not findings["loads"].ok
    (copy / "1" / "assets.extra" / "model_card.json").write_text("{")
    assert failure(copy)[0] == "model card"


def test_no_export_is_a_mistake_of_the_user(tmp_path, capsys):
    assert serve.main(["check", str(tmp_path / "nowhere")]) == 2
    assert "python -m tfclip.export" in capsys.readouterr().err
