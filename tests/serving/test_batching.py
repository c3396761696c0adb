"""Merged requests: the parameters file of the kit, and signatures that merging would change."""

from pathlib import Path

import pytest
import tensorflow as tf

from tfclip.serving.batching import check_merging, read_batching_parameters
from tfclip.serving.signatures import ALLOWED_BATCH_SIZES, SIGNATURES, is_batchable

KIT = Path(__file__).parents[2] / "deploy" / "batching_parameters.txt"


def test_the_kit_allows_what_is_warmed_up():
    parameters = read_batching_parameters(KIT)
    assert parameters.allowed_batch_sizes == ALLOWED_BATCH_SIZES
    assert parameters.max_batch_size == ALLOWED_BATCH_SIZES[-1]


def test_what_may_be_merged():
    merged = {row for row, signature in SIGNATURES.items() if is_batchable(signature)}
    assert merged == {"classify", "encode_image", "encode_text"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("allowed_batch_sizes: 16", "", "end with max_batch_size 16"),
        ("allowed_batch_sizes: 2\n", "allowed_batch_sizes: 5\n", "must be ascending"),
        ("max_batch_size { value: 16 }", "", "must give max_batch_size"),
        (
            "max_batch_size { value: 16 }",
            "max_batch_size: 16",
            "'max_batch_size'",
        ),
        ("num_batch_threads", "number_of_threads", "'number_of_threads'"),
        ("allowed_batch_sizes: 1\n", "{}\n", "is not BatchingParameters"),
    ],
)
def test_what_the_server_would_not_start_with_is_told(tmp_path, old, new, said):
    text = KIT.read_text()
    assert old in text
    path = tmp_path / "parameters.txt"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=said):
        read_batching_parameters(path)


def test_the_export_survives_merging(served):
    for row in ("classify", "encode_image", "encode_text"):
        check_merging(served[row], row, ALLOWED_BATCH_SIZES)


def test_a_signature_that_looks_at_its_neighbours_is_found(served):
    def centred(text):
        embedding = served["encode_text"](text=text)["embedding"]
        return {"embedding": embedding - tf.reduce_mean(embedding, axis=0)}

    with pytest.raises(ValueError, match="encode_text: embedding of a request changes"):
        check_merging(centred, "encode_text", ALLOWED_BATCH_SIZES)
