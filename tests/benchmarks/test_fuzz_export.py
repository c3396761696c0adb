"""A few hundred inputs that nobody should send, and what the fuzzing takes for a wrong answer."""

import numpy as np
import pytest

from benchmarks.fuzz_export import LARGEST_GROWTH, check_answer, fuzz


@pytest.mark.slow
@pytest.mark.parametrize("row", ["classify", "encode_image", "encode_text", "similarity"])
def test_signatures_survive_what_nobody_should_send(served, row):
    result = fuzz(served[row], row, inputs=150, seed=1)
    assert result["answered"] > 10
    assert result["refused"] == 0
    if row != "encode_text":
        assert result["not_valid"] > 10
    assert result["growth"] < LARGEST_GROWTH


@pytest.mark.slow
def test_a_signature_that_keeps_what_it_was_sent_is_seen(served):
    kept = []

    def leaking(text):
        kept.append(np.ones([len(text), 2**21], np.float32))  # Eight megabytes for each.
        return served["encode_text"](text=text)

    assert fuzz(leaking, "encode_text", inputs=150, seed=1)["growth"] > LARGEST_GROWTH


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"embedding": np.full((2, 4), 0.5), "valid": np.array([True, False])}, "is not zero"),
        ({"embedding": np.full((2, 4), np.nan), "valid": np.array([True, True])}, "no number"),
        ({"embedding": np.full((1, 4), 0.5), "valid": np.array([True])}, "has shape"),
        ({"embedding": np.full((2, 4), 0.7), "valid": np.array([True, True])}, "unit norm"),
    ],
)
def test_wrong_answers_are_seen(answer, said):
    with pytest.raises(AssertionError, match=said):
        check_answer("encode_image", answer, [2])
    right = {"embedding": np.array([[0.5] * 4, [0.0] * 4]), "valid": np.array([True, False])}
    check_answer("encode_image", right, [2])
