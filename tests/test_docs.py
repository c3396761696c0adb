"""README and docs: short, linked, built without a warning, and every command in them is real."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tfclip.__main__ import command_summaries
from tfclip.__main__ import main as tfclip
from tfclip.records.check import MAX_PIXELS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "records/README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
FLAG = re.compile(r"^--[a-z][\w-]*$")
EVERYWHERE = {"--json", "--debug", "--help", "--version", "--config", "--dry-run"}


def commands_of(page: Path) -> list[str]:
    """The lines of fenced blocks that begin with tfclip or python -m tfclip, continued ones joined.

    Comments are cut off; python -m tfclip.X becomes tfclip X.
    """
    found = []
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in ("", "bash", "sh", "console"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            line = re.sub(r"^python -m tfclip\.", "tfclip ", line.strip().removeprefix("$ "))
            if line.startswith("tfclip "):
                found.append(shlex.join(shlex.split(line, comments=True)))
    return found


COMMANDS = sorted({command for page in PAGES for command in commands_of(page)})


def help_of(words: list[str], capsys) -> str:
    capsys.readouterr()
    assert tfclip([*words, "--help"]) == 0
    return capsys.readouterr().out


def test_the_readme_is_short_and_shows_a_picture():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert "![" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_files_that_contributing_names_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_]+/[\w/]+\.(?:py|md|txt))`", text)
    assert len(named) > 15
    for name in named:
        assert (ROOT / name).is_file() or (ROOT / "tfclip" / name).is_file(), name


def test_every_page_names_the_same_limit_of_pixels():
    found = [n for page in PAGES for n in re.findall(r"(\d+) million pixels", page.read_text())]
    assert len(found) > 3
    # docs/serving.md also tells of pictures just below the limit.
    assert set(map(int, found)) - {49} == {MAX_PIXELS // 1_000_000}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_exists_and_has_its_flags(command, capsys):
    words = shlex.split(command.replace(" RECIPE ", " shapes "))[1:]
    if words[0] in EVERYWHERE:
        return
    assert words[0] in command_summaries(), command
    flags = {word.split("=")[0] for word in words if FLAG.match(word.split("=")[0])}
    selecting = [word for word in words[1:3] if not word.startswith("-")]
    shown = help_of(words[:1], capsys)
    for word in selecting:
        if f"\n  {word} " in shown or word.startswith("tfds:"):
            shown += help_of([words[0], word], capsys)
            break
    known = set(re.findall(r"--[a-z][\w-]*", shown))
    assert flags <= known | EVERYWHERE, command


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", tmp_path],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 15
    loaded = re.compile(r'<(?:script|img|iframe)[^>]+src="https?:|<link[^>]+href="https?:')
    for page in pages:
        assert not loaded.search(page.read_text(encoding="utf-8")), f"{page} asks another host"


# Why these are not run here: they need data, weights or machines that are not in the checkout.
NEEDS = {
    r"convert SOURCE": "a pretrained CLIP",
    r"export runs/tuned ": "a run of CLIP's architecture; tests/serving/test_clip_folders.py",
    r"soup ": "two runs, one of them converted",
    r"evaluate runs/laptop multilabel": "a table with labels",
    r"make_records caption_table --data captions.csv --val-fraction": "a table with groups",
    r"make_records caption_table --data labels.csv": "a table with labels",
    r"make_records score ": "several shards and minutes; tests/test_score_records.py",
    r"fit RECIPE": "a pattern, not a command",
    r"fit laptop --records ": "pretrained weights",
    r"fit distilled ": "pretrained weights",
    r"fit shapes .*--replicas 0": "GPUs",
    r"fit shapes .*--micro-batch": "a batch of 1,024; tests/training has smaller ones",
    r"weights fetch ": "a network; tests/models/weights/pretrained/test_download.py",
    r"fit visual-genome ": "ImageNet and BERT weights",
    r"evaluate runs/vg sts": "STS-B, STS or SICK",
    r"evaluate runs/vg classification": "a folder of class folders",
    r"fit laptop --config": "the run of a recipe that needs pretrained weights",
    r"serve run ": "it runs until it is told to end; tests/serving/test_serve_run.py",
    r"search serve ": "it runs until it is told to end; tests/serving/test_page.py",
    r"quickstart$": "minutes; tests/test_quickstart.py runs it",
    r"export runs/laptop --out exported --labels mine.txt": "a file of labels",
    r"export runs/vg --out exported --thresholds chosen.json": "thresholds copied in report.html",
}


def runs_here(command: str) -> bool:
    return not any(re.match(rf"tfclip (?:{needs})", command) for needs in NEEDS)


# What makes a command small enough for a test, by how it begins.
SMALLER = {
    "tfclip fit shapes ": ["--steps", "2", "--batch-size", "4", "--overwrite"],
    # The vocabulary of the test's run is letters: longer prompts do not fit its context.
    "tfclip adapt ": ["--templates", "short"],
    # Its embeddings have 16 numbers, and its vocabulary is letters.
    "tfclip make_records embed records/flickr8k --teacher runs/laptop --name laptop ": [
        "--size=16",
        "--words=words.txt",
    ],
}
# In this order: what packs and trains comes before what reads.
ORDER = (
    "make_records [a-z0-9_]+ --data",
    "make_records",
    "fit",
    "adapt",
    "evaluate",
    "search index",
    "export",
)


def rank(command: str) -> int:
    words = command.removeprefix("tfclip ")
    return next((at for at, one in enumerate(ORDER) if re.match(one, words)), len(ORDER))


@pytest.fixture(scope="module")
def sandbox(drawn_sets, tiny_run, picture_bytes, tmp_path_factory) -> Path:
    """A folder with data, records and runs under the names that the pages use."""
    place = tmp_path_factory.mktemp("sandbox")
    for name, drawn in {
        "FLICKR8K": "flickr8k",
        "COCO": "coco",
        "VG": "visual_genome",
        "VOCdevkit/VOC2007": "voc",
        "drawn/voc": "voc",
    }.items():
        (place / name).parent.mkdir(exist_ok=True)
        shutil.copytree(drawn_sets / drawn, place / name)
    for run in ("laptop", "vg", "quickstart"):
        shutil.copytree(tiny_run, place / "runs" / run)
    for picture in ("picture.jpg", "picture.png", "pictures/beach/1.jpg", "pictures/kitchen/7.jpg"):
        (place / picture).parent.mkdir(parents=True, exist_ok=True)
        (place / picture).write_bytes(picture_bytes["jpeg" if picture.endswith("jpg") else "alpha"])
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    table = re.search(r"^```\n(path,caption\n.*?)^```", page, re.MULTILINE | re.DOTALL)[1]
    (place / "words.txt").write_text("dog\nhorse\nboat\n")
    (place / "captions.csv").write_text(table + "beach/1.jpg,sea\nkitchen/7.jpg,fruit\n")
    return place


@pytest.mark.slow
def test_the_commands_run_one_after_the_other(sandbox, monkeypatch, capsys):
    monkeypatch.chdir(sandbox)
    failed = []
    for command in sorted(filter(runs_here, COMMANDS), key=rank):
        if "records/shapes-flickr8k" in command:
            shutil.copytree("records/flickr8k", "records/shapes-flickr8k", dirs_exist_ok=True)
        words = shlex.split(command)[1:]
        for begins, more in SMALLER.items():
            words += more if command.startswith(begins) else []
        code = tfclip(words)
        printed = capsys.readouterr()
        if code != 0:
            failed.append(f"{command}\n{printed.err[-500:]}")
    assert not failed, "\n\n".join(failed)


def test_every_pattern_that_needs_data_still_occurs():
    for needs in NEEDS:
        found = [c for c in COMMANDS if re.match(rf"tfclip (?:{needs})", c)]
        assert found, needs
