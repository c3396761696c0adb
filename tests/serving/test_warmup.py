"""Warm-up requests: what a server reads, replayed, and what is wrong with others."""

import itertools
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tfclip.serving.check import check_export
from tfclip.serving.signatures import ALLOWED_BATCH_SIZES, WARMUP_REQUESTS
from tfclip.serving.warmup import read_warmup_requests, replay, write_warmup_requests

prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")


@pytest.fixture
def requests(exported):
    """The records of the tiny export, as the server's own protocol buffers."""
    records = tf.data.TFRecordDataset(str(exported / "1" / WARMUP_REQUESTS)).as_numpy_iterator()
    return [prediction_log_pb2.PredictionLog.FromString(record) for record in records]


def test_there_is_one_request_for_each_signature_and_size(requests, served):
    found = []
    for log in requests:
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        sizes = {tf.make_ndarray(value).shape for value in request.inputs.values()}
        assert len(sizes) == 1
        found.append((request.model_spec.signature_name, *sizes.pop()))
    assert sorted(found) == sorted(itertools.product(served, ALLOWED_BATCH_SIZES))


def test_a_request_holds_a_picture_that_is_answered(requests, served):
    log = next(r for r in requests if r.predict_log.request.model_spec.signature_name == "classify")
    value = tf.make_ndarray(log.predict_log.request.inputs["image_bytes"])
    assert served["classify"](image_bytes=tf.constant(value))["valid"].numpy().all()


def test_replaying_runs_every_request(exported, served):
    asked = []
    spies = {
        name: lambda name=name, **inputs: asked.append(
            (name, {k: len(v) for k, v in inputs.items()})
        )
        for name in served
    }
    sizes = replay(read_warmup_requests(exported / "1"), spies)
    assert len(asked) == len(served) * len(ALLOWED_BATCH_SIZES)
    assert ("similarity", {"image_bytes": 4, "text": 4}) in asked
    assert sizes["serving_default"] == list(ALLOWED_BATCH_SIZES)


def test_requests_that_do_not_fit_are_told(served):
    pictures = {"image_bytes": tf.constant([b"x"])}
    with pytest.raises(ValueError, match="for other, which is not served"):
        replay([("other", pictures)], served)
    with pytest.raises(ValueError, match="for encode_text fails"):
        replay([("encode_text", pictures)], served)
    with pytest.raises(ValueError, match="for encode_text fails"):
        replay([("encode_text", {"text": tf.constant(np.zeros(2))})], served)


@pytest.mark.slow
def test_damage_and_missing_requests_are_found_by_the_check(exported, tmp_path):
    copy = shutil.copytree(exported, tmp_path / "model")
    path = copy / "1" / WARMUP_REQUESTS
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is damaged"):
        list(read_warmup_requests(copy / "1"))
    write_warmup_requests(copy / "1", ["encode_image"])
    findings = {finding.name: finding for finding in check_export(copy)}
    assert "no warm-up request for classify" in findings["warm-up"].detail
    path.unlink()
    findings = {finding.name: finding for finding in check_export(copy)}
    assert findings["warm-up"].ok and "no requests" in findings["warm-up"].detail
