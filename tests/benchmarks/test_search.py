"""The benchmark of search: right answers pass, a wrong one fails it."""

import json

from benchmarks import search
from tfclip.evaluation.search import nearest

FEW = ("--rows", "9000", "--width", "16", "--queries", "2", "--chunks", "100", "5000", "--json")


def test_answers_are_those_of_brute_force(capsys, tmp_path):
    assert search.main([*FEW, "--work", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] == found["asked"] == 4
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_answer_is_a_failure(capsys, monkeypatch):
    def other(embeddings, query, top, chunk):
        rows, cosines = nearest.nearest_rows(embeddings, query, top + 1, chunk)
        return rows[1:], cosines[1:]

    monkeypatch.setattr(search, "nearest_rows", other)
    assert search.main([*FEW]) == 1
    assert "0 of 4 answers" in capsys.readouterr().err
