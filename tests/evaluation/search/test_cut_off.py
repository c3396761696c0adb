"""The cut-off of a text, and groups of near-duplicates, against plain NumPy."""

import numpy as np
import pytest

from tfclip.evaluation.search.cut_off import THINGS, best_cosines, cut_off_of
from tfclip.evaluation.search.near_duplicates import groups_of, near_pairs


def test_the_best_cosines_are_those_of_the_whole_matrix():
    rng = np.random.default_rng(0)
    rows, texts = (rng.normal(size=(n, 8)).astype(np.float32) for n in (100, 7))
    for chunk in (1, 33, 1000):
        expected = np.maximum((rows @ texts.T).max(0), -1)
        np.testing.assert_allclose(best_cosines(rows, texts, chunk), expected, atol=1e-5)


def test_things_that_are_there_move_the_cut_off_little():
    rng = np.random.default_rng(0)
    absent = rng.normal(0.3, 0.05, 300)
    present = rng.normal(0.6, 0.05, 60)
    expected = 0.3 + 2.5 * 0.05
    assert cut_off_of(absent) == pytest.approx(expected, abs=0.02)
    assert cut_off_of(np.append(absent, present)) == pytest.approx(expected, abs=0.04)


def test_things_are_many_and_each_once():
    assert len(THINGS) == len(set(THINGS)) > 400
    assert all(thing == thing.strip() and thing for thing in THINGS)


def test_near_pairs_and_their_groups(monkeypatch):
    monkeypatch.setattr("tfclip.evaluation.search.near_duplicates._CHUNK", 16)
    rows = np.random.default_rng(0).normal(size=(100, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[50], rows[99], rows[7] = rows[2], rows[2], rows[98]
    cosines = rows @ rows.T
    for limit in (0.99, 0.6):
        expected = [(i, j) for i in range(100) for j in range(i + 1, 100) if cosines[i, j] >= limit]
        assert sorted(near_pairs(rows, limit)) == expected
    assert groups_of(near_pairs(rows, 0.99)) == [[2, 50, 99], [7, 98]]
