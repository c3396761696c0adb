"""Which tokenizer packed records are read with: their own, as it was when they were packed."""

import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tfclip.inputs.text import LearntPieceTokenizer, WordPieceTokenizer, tokenizer_from_file
from tfclip.inputs.tokenizers.of_records import add_vocabulary, tokenizer_of
from tfclip.inputs.tokenizers.vocabulary import is_cased, load_vocabulary
from tfclip.records.options import PackOptions
from tfclip.records.packing.writer import pack
from tfclip.records.reader import split_files
from tfclip.sources.sample import Sample, Source

GOLDEN = Path(__file__).parents[3] / "records/golden"
CASED = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "Dog", "dog", "café"]


def packed(out: Path, captions: list[str], given: Path | None = None) -> Path:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "JPEG")
    samples = [Sample(f"s/{n}", file.getvalue(), (text,)) for n, text in enumerate(captions)]
    source = Source("s", {"train": len(samples)}, lambda split: iter(samples))

    def finish(building, files):
        return add_vocabulary(building, files["train"], given, 1000, True)

    pack(source, out, PackOptions(workers=1), finish=finish)
    return out


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """Two sets with learnt vocabularies."""
    folder = tmp_path_factory.mktemp("learnt")
    return [
        packed(folder / "dogs", ["a red dog"] * 3),
        packed(folder / "fruit", ["một quả dừa", "một quả dứa"] * 2),
    ]


@pytest.fixture
def cased(tmp_path):
    path = tmp_path / "cased.txt"
    path.write_text("".join(f"{token}\n" for token in CASED), "utf-8")
    return path


def ids(tokenizer, text):
    return tokenizer.with_context_length(6)([text])["token_ids"].numpy()[0].tolist()


def test_a_set_of_before_is_read_by_the_rules_of_before():
    tokenizer = tokenizer_of([GOLDEN], [])
    assert isinstance(tokenizer, WordPieceTokenizer)
    assert tokenizer.describe() == {"kind": "wordpiece", "lowercase": True, "folding": "nfkc"}


def test_a_cased_vocabulary_in_a_set_of_before_is_still_lower_cased(cased, tmp_path):
    now = packed(tmp_path / "now", ["a dog"], cased)
    assert ids(tokenizer_of([now], []), "Dog dog café") == [2, 4, 5, 6, 3, 0]
    before = shutil.copytree(now, tmp_path / "before")
    manifest = json.loads((before / "manifest.json").read_text())
    del manifest["packing"]["vocabulary"]
    (before / "manifest.json").write_text(json.dumps(manifest))
    assert ids(tokenizer_of([before], []), "Dog dog café") == [2, 5, 5, 1, 3, 0]


def test_upper_case_tells_that_a_vocabulary_is_cased(cased, tmp_path):
    assert is_cased(CASED) and not is_cased(CASED[:4] + ["straße", "ς", "Ꭰ", "##中", "½"])
    assert ids(tokenizer_from_file(cased, 6), "Dog café") == [2, 4, 6, 3, 0, 0]
    assert ids(tokenizer_from_file(cased, 6, lowercase=True), "Dog") == [2, 5, 3, 0, 0, 0]
    assert not is_cased(load_vocabulary(GOLDEN / "vocab.txt"))


def test_equal_vocabularies_are_one_and_others_are_learnt_together(learnt, tmp_path, capsys):
    files = [file for one in learnt for file in split_files(one, "train")]
    same = tokenizer_of([learnt[0], learnt[0]], [])
    assert same.model == (learnt[0] / "vocab.model").read_bytes()
    both = tokenizer_of(learnt, files)
    assert "learnt a new one of" in capsys.readouterr().err
    assert isinstance(both, LearntPieceTokenizer)
    words = ["red", "dog", "dừa", "dứa"]
    assert both.token_counts(words).numpy().tolist() == [3] * 4
    assert len({tuple(ids(both, word)) for word in words}) == 4


def test_sets_of_before_learn_together_as_before_and_with_new_ones_as_now(learnt, tmp_path):
    old = []
    for name, words in (("one", ["red"]), ("two", ["blue"])):
        path = tmp_path / f"{name}.txt"
        path.write_text("\n".join([*CASED[:4], *words, *map(str, range(40))]) + "\n")
        old.append(packed(tmp_path / name, [f"a {words[0]} dog"] * 2, path))
    files = [file for one in old for file in split_files(one, "train")]
    assert isinstance(tokenizer_of(old, files), WordPieceTokenizer)
    mixed = [old[0], learnt[0]]
    files = [file for one in mixed for file in split_files(one, "train")]
    assert isinstance(tokenizer_of(mixed, files), LearntPieceTokenizer)


def test_records_without_a_vocabulary_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no vocabulary at .*--vocabulary PATH"):
        tokenizer_of([tmp_path], [])
