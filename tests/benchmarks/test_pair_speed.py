"""The speed of a student beside its teacher: what is timed, and how the figures relate."""

import json

import numpy as np
import pytest

from benchmarks import pair_speed


def test_ratios_are_taken_within_each_round():
    """The machine was three times as slow in the second round: the ratio does not see it."""
    times = {
        "teacher": {"pictures": [40.0, 120.0, 40.0], "texts": [20.0, 60.0, 20.0]},
        "student": {"pictures": [19.0, 57.0, 9.0], "texts": [1.0, 3.0, 1.0]},
    }
    found = pair_speed.compared(times)
    assert found["student"]["pairs"] == {"ms": 20.0, "ratio": 3.0}
    assert found["student"]["texts"] == {"ms": 1.0, "ratio": 20.0}
    assert found["teacher"]["pairs"] == {"ms": 60.0, "ratio": 1.0}


def test_models_take_turns():
    calls, now = [], iter(range(100))
    works = {
        name: {"pictures": lambda name=name: calls.append(name)} for name in ("teacher", "student")
    }
    times = pair_speed.in_turns(works, rounds=2, calls=2, clock=lambda: next(now))
    turns = ["teacher", "student", "student", "teacher"]
    assert calls[4:] == [
        name for name in turns for _ in range(2)
    ]  # after two calls each to warm up
    assert times["student"] == {"pictures": [500.0, 500.0]}  # a second for two calls


@pytest.mark.slow
def test_the_command_times_what_the_models_embed(tiny_run, tiny_model, capsys):
    # The same model twice.
    words = [str(tiny_run), str(tiny_run), "--batches", "2", "--rounds", "1", "--json"]
    assert pair_speed.main(words) == 0
    text = capsys.readouterr()
    assert "the aim, 3, is" in text.err
    found = json.loads(text.out.splitlines()[-1])["2"]
    assert set(found["student"]) == {"pictures", "texts", "pairs"}
    padded, unpadded = (
        pair_speed.prepared(tiny_model, 2, padded=padded)["texts"]() for padded in (True, False)
    )
    np.testing.assert_allclose(padded, unpadded, atol=1e-5)
    expected = tiny_model.dual_encoder.encode_text(
        *(tiny_model.tokenizer([pair_speed.CAPTION])[name] for name in ("token_ids", "text_mask"))
    )
    np.testing.assert_allclose(padded[:1], expected, atol=1e-5)
