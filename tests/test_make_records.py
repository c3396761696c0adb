"""The command: what is made, what is printed, and every mistake as one line."""

import io
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from PIL import Image

from tfclip.inputs.tokenizers.of_records import tokenizer_of
from tfclip.make_records import main
from tfclip.records.manifest import load_manifest

COLORS = ("red", "green", "blue", "yellow", "black", "white", "orange", "purple")


def jpeg(color: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def data(tmp_path):
    """A small set in the format of Flickr8k: 8 training and 2 dev pictures."""
    root = tmp_path / "data"
    (root / "Flicker8k_Dataset").mkdir(parents=True)
    names = [f"{color}.jpg" for color in COLORS] + ["pink.jpg", "gray.jpg"]
    lines = []
    for name in names:
        (root / "Flicker8k_Dataset" / name).write_bytes(jpeg(name[:-4]))
        lines += [f"{name}#{at}\tthe colour  {name[:-4]} ,   said {at} times\n" for at in range(5)]
    (root / "Flickr8k.token.txt").write_text("".join(lines))
    (root / "Flickr_8k.trainImages.txt").write_text("\n".join(names[:8]) + "\n")
    (root / "Flickr_8k.devImages.txt").write_text("\n".join(names[8:]) + "\n")
    return root


@pytest.fixture
def pack(data, tmp_path, capsys):
    """Run the command in the folder with `out`: exit code, standard output, standard error."""

    def run(*flags, source="flickr8k", out="out"):
        code = main([source, "--data", str(data), "--out", str(tmp_path / out), *map(str, flags)])
        return code, *capsys.readouterr()

    return run


def made(tmp_path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir() if path.name != "data")


def test_a_set_is_packed_verified_and_inspected(pack, tmp_path, capsys):
    code, out, _ = pack("--json", "--image-size", 32, "--workers", 1)
    result = json.loads(out)
    assert code == 0
    assert result["splits"]["train"]["images"] == 8
    assert result["splits"]["dev"]["captions"] == 10
    assert result["images_per_second"] > 0
    vocabulary = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "out/vocab.model"))
    # Captions have runs of spaces.
    assert vocabulary.encode(" the  colour ", out_type=str) == ["\u2581the", "\u2581colour"]
    described = load_manifest(tmp_path / "out").packing["vocabulary"]
    assert described == {"kind": "learnt-pieces", "rules": 1, "lowercase": True}
    assert main(["verify", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sound"] is True
    sheet = tmp_path / "sheet.png"
    arguments = ["inspect", str(tmp_path / "out"), "--out", str(sheet), "--pictures", "5", "--json"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert (result["out"], result["pictures"]) == (str(sheet), 5)
    assert result["statistics"]["images"] == 10 and result["statistics"]["captions"] == 50
    assert "10 images, 50 captions, 0 regions" in captured.err
    assert np.asarray(Image.open(sheet)).std() > 10


def test_verify_names_the_damage_with_exit_code_1(pack, tmp_path, capsys):
    pack()
    shard = tmp_path / "out/train-00000-of-00001.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-5])
    assert main(["verify", str(tmp_path / "out"), "--json"]) == 1
    captured = capsys.readouterr()
    problems = json.loads(captured.out)["problems"]
    assert any(
        problem.startswith("train-00000-of-00001.tfrecord: record 7") for problem in problems
    )
    assert all(problem in captured.err for problem in problems)


def test_repair_packs_the_bad_shards_alone(pack, data, tmp_path, capsys):
    pack("--shards", 4, "--image-size", 32, "--max-images", 6, "--seed", 3)
    out = tmp_path / "out"
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in out.iterdir()}
    changed, gone = (out / f"train-0000{at}-of-00004.tfrecord" for at in (1, 3))
    changed.write_bytes(changed.read_bytes()[:-9] + b"\0" * 9)
    gone.unlink()
    assert main(["verify", str(out), "--repair", "--data", str(data), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["repaired"] == [changed.name, gone.name] and result["sound"]
    for path in out.iterdir():
        inode, content = before[path.name]
        assert path.read_bytes() == content
        assert path in (changed, gone) or path.stat().st_ino == inode
    assert made(tmp_path) == ["out"]
    # Other data makes other bytes: nothing is replaced.
    gone.unlink()
    for path in (data / "Flicker8k_Dataset").iterdir():
        path.write_bytes(jpeg("brown"))
    assert main(["verify", str(out), "--repair", "--data", str(data)]) == 2
    err = capsys.readouterr().err
    assert f"nothing was replaced: {gone.name} has other bytes" in err
    assert not gone.exists() and made(tmp_path) == ["out"]
    for flags in (["--repair"], ["--data", str(data)]):
        assert main(["verify", str(out), *flags]) == 2
        assert "--repair packs shards again from --data" in capsys.readouterr().err


def test_a_given_vocabulary_is_taken(pack, tmp_path):
    words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n"
    (tmp_path / "words.txt").write_text(words)
    assert pack("--vocab", tmp_path / "words.txt")[0] == 0
    assert (tmp_path / "out/vocab.txt").read_text() == words
    (tmp_path / "words.txt").write_text("the\nthe\n")
    code, _, err = pack("--vocab", tmp_path / "words.txt", out="other")
    assert code == 2 and "the" in err and not (tmp_path / "other").exists()
    manifest = load_manifest(tmp_path / "out").packing["vocabulary"]
    assert manifest == {"kind": "wordpiece", "lowercase": True, "folding": "nfkc"}


def test_a_given_vocabulary_may_be_cased_or_learnt_elsewhere(pack, tmp_path):
    (tmp_path / "words.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\nThe\n")
    code, _, err = pack("--vocab", tmp_path / "words.txt")
    assert code == 0 and "words.txt is cased: texts keep their case and accents" in err
    tokenizer = tokenizer_of([tmp_path / "out"], []).with_context_length(4)
    assert tokenizer(["The the"])["token_ids"].numpy().tolist() == [[2, 5, 4, 3]]
    assert pack(out="learnt")[0] == 0
    learnt = tmp_path / "learnt/vocab.model"
    assert pack("--vocab", learnt, out="again")[0] == 0
    assert (tmp_path / "again/vocab.model").read_bytes() == learnt.read_bytes()
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    code, _, err = pack("--vocab", tmp_path / "merges.txt", out="other")
    assert code == 2 and "allowed: a vocab.txt or a vocab.model" in err
    code, _, err = pack("--vocab", learnt, "--cased", out="other")
    assert code == 2 and "--cased is for a learnt vocabulary" in err
    code, _, err = pack("--vocab-size", 260, out="other")
    assert code == 2 and "allowed: 300 or more" in err


def test_a_cased_vocabulary_is_learnt(pack, tmp_path):
    assert pack("--cased")[0] == 0
    tokenizer = tokenizer_of([tmp_path / "out"], [])
    assert tokenizer.describe()["lowercase"] is False
    first, second = tokenizer.with_context_length(8)(["The colour", "the colour"])["token_ids"]
    assert first.numpy().tolist() != second.numpy().tolist()


def test_a_set_without_a_training_split_has_no_vocabulary(pack, tmp_path):
    assert pack("--splits", "dev")[0] == 0
    assert not list((tmp_path / "out").glob("vocab.*"))
    assert "vocabulary" not in load_manifest(tmp_path / "out").packing


def test_a_text_file_among_the_pictures_is_skipped_counted_and_listed(pack, data, tmp_path):
    (data / "Flicker8k_Dataset/red.jpg").write_text("not a picture")
    code, _, err = pack()
    assert code == 3
    assert "1 of 10 pictures were rejected, allowed: 1.00%" in err and "skipped.jsonl" in err
    assert made(tmp_path / "out") == ["skipped.jsonl"]
    code, out, _ = pack("--max-skipped", 0.2, "--json")
    assert code == 0
    assert json.loads(out)["splits"]["train"] == {
        "images": 7,
        "captions": 35,
        "regions": 0,
        "skipped": 1,
        "dropped": 0,
    }
    (line,) = (tmp_path / "out/skipped.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == "flickr8k/red"
    assert "not a picture" in json.loads(line)["reason"]


def test_a_set_without_one_good_picture_keeps_the_list(pack, data, tmp_path):
    spoil_pictures(data)
    code, _, err = pack()
    assert code == 3 and "10 of 10 pictures were rejected" in err
    assert made(tmp_path) == ["out"] and made(tmp_path / "out") == ["skipped.jsonl"]
    assert len((tmp_path / "out/skipped.jsonl").read_text().splitlines()) == 10


def remove_pictures(data: Path):
    for path in (data / "Flicker8k_Dataset").iterdir():
        path.unlink()


def spoil_pictures(data: Path):
    for path in (data / "Flicker8k_Dataset").iterdir():
        path.write_text("not a picture")


@pytest.mark.parametrize(
    ("spoil", "flags", "told"),
    [
        (lambda data: data.rename(data.with_name("gone")), [], "data"),
        (remove_pictures, [], ""),
        (spoil_pictures, ["--max-skipped", "1"], "not a picture"),
        (lambda data: (data / "Flickr_8k.devImages.txt").write_text(""), [], "dev"),
        (lambda data: (data / "Flickr8k.token.txt").unlink(), [], "token"),
        (lambda data: None, ["--splits", "tset"], "test|train"),
        (lambda data: None, ["--image-size", "-1"], "received --image-size -1"),
        (lambda data: None, ["--workers", "0"], "--workers"),
        (lambda data: None, ["--vocab", "/no/such/vocab.txt"], "no vocabulary"),
        (lambda data: None, ["--vocab-size", "0"], "--vocab-size"),
        (lambda data: None, ["--vocab-size", "7"], "--vocab-size 7; allowed: 300"),
        (lambda data: None, ["--max-skiped", "1"], "max-skiped"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2_and_leave_nothing(
    pack, data, tmp_path, spoil, flags, told
):
    spoil(data)
    code, out, err = pack(*flags)
    assert (code, out) == (2, "")
    lines = err.strip().splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    assert re.search(told, lines[-1]) and "Traceback" not in err
    # Of what fails at the end, the finished shards stay.
    assert made(tmp_path) in ([], ["gone"]) or "out.partial; run the same command again" in err


def test_a_finished_set_is_not_overwritten_unasked(pack, tmp_path):
    assert pack()[0] == 0
    before = (tmp_path / "out/manifest.json").stat().st_mtime_ns
    code, _, err = pack()
    assert code == 2 and err.count("\n") == 1 and "--overwrite" in err
    assert (tmp_path / "out/manifest.json").stat().st_mtime_ns == before
    assert pack("--overwrite", "--splits", "dev")[0] == 0
    assert made(tmp_path / "out") == [
        "dataset_info.json",
        "dev-00000-of-00001.tfrecord",
        "features.json",
        "manifest.json",
        "skipped.jsonl",
    ]


def test_an_unknown_source_lists_the_known_nearest_first(pack):
    code, _, err = pack(source="flikr8k")
    assert code == 2
    assert err.startswith("error: unknown source 'flikr8k'; known, nearest first: flickr8k,")
    assert "visual_genome" in err and err.count("\n") == 1


def test_records_without_a_manifest(tmp_path, capsys):
    for command in (["verify", str(tmp_path)], ["inspect", str(tmp_path), "--out", "x.png"]):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ") and "no manifest.json: the set is unfinished; run" in err


def test_help_and_mistakes_load_no_tensorflow(tmp_path):
    code = (
        "import sys; from tfclip.make_records import main; "
        "code = main(sys.argv[1:]); assert 'tensorflow' not in sys.modules; sys.exit(code)"
    )
    for arguments, expected in [
        (["--help"], 0),
        (["voc", "--help"], 0),
        (["voc", "--data", str(tmp_path / "no"), "--out", str(tmp_path / "out")], 2),
    ]:
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True)
        assert done.returncode == expected, done.stderr


@pytest.fixture
def long_command(data, tmp_path):
    """The words of packing 600 pictures into 30 shards."""
    for at in range(600):
        name = f"n{at}.jpg"
        (data / "Flicker8k_Dataset" / name).write_bytes(jpeg(COLORS[at % 8]))
        with open(data / "Flickr_8k.trainImages.txt", "a") as file:
            file.write(name + "\n")
        with open(data / "Flickr8k.token.txt", "a") as file:
            file.write(f"{name}#0\tred {at}\n")
    return [
        "flickr8k",
        "--workers",
        "1",
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
        "--shards",
        "30",
    ]


@pytest.mark.parametrize(
    "signal_sent, code",
    [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGKILL, -9)],
)
def test_stopped_in_the_middle_the_same_command_packs_the_rest(
    forked, long_command, data, tmp_path, signal_sent, code
):
    """From outside: what was finished is not packed again, and all bytes are the same."""
    with forked.start("-m", "tfclip.make_records", *long_command) as process:
        while process.poll() is None and not list(tmp_path.glob("out.partial/*00003-of*.tfrecord")):
            time.sleep(0.002)
        process.send_signal(signal_sent)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert made(tmp_path) == ["out.partial"]
    if code == 130:
        assert re.search(
            r"^interrupted; \d+ finished shards are kept in .*; run the same command again.*$",
            err,
            re.M,
        )
    before = {path.name: path.stat().st_ino for path in tmp_path.glob("out.partial/*.tfrecord")}
    assert main(long_command) == 0
    after = {path.name: path.stat().st_ino for path in tmp_path.glob("out/*.tfrecord")}
    del before[max(before)]  # the kill may come between its last byte and its line in the journal
    assert len(before) > 1 and before.items() < after.items()
    assert made(tmp_path) == ["out"]
    command = [str(tmp_path / "whole") if word.endswith("/out") else word for word in long_command]
    assert main(command) == 0
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "out").iterdir())
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
