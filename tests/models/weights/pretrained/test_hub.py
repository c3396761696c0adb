"""hf:// names: fetched from a server that speaks as the hub does, into one cache, once."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants

import tfclip
from tfclip import weights
from tfclip.models import registry
from tfclip.models.weights.image_weights import load_image_weights
from tfclip.models.weights.text_weights import load_text_weights
from tfclip.models.weights.torch_files import TorchFile

FOLDER = Path(__file__).parents[1]
COMMIT = "0123456789" * 4


class Hub(BaseHTTPRequestHandler):
    """The paths of the hub that a download needs."""

    folders: dict[str, Path] = {}
    asked: list[str] = []

    def do_GET(self):
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            folder = self.folders.get("/".join(parts[2:4]))
            if folder is None:
                self.send_error(404)
                return
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            names = [str(path.relative_to(folder)) for path in paths]
            if "tree" in parts:
                sizes = [path.stat().st_size for path in paths]
                rows = [
                    {"type": "file", "path": name, "size": size, "oid": COMMIT}
                    for name, size in zip(names, sizes, strict=True)
                ]
                self.answer(json.dumps(rows))
            else:
                siblings = [{"rfilename": name} for name in names]
                about = {"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings}
                self.answer(json.dumps(about))
        else:  # OWNER/NAME/resolve/COMMIT/PATH
            name = "/".join(parts[4:])
            if self.command == "GET":
                self.asked.append(name)
            self.answer((self.folders["/".join(parts[:2])] / name).read_bytes())

    do_HEAD = do_GET

    def answer(self, content: bytes | str) -> None:
        content = content.encode() if isinstance(content, str) else content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hash(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        """Stay silent."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub on this machine, and empty caches."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TFCLIP_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(Hub, "folders", {})
    monkeypatch.setattr(Hub, "asked", [])
    yield Hub
    server.shutdown()
    server.server_close()


def test_one_download_serves_fetch_load_and_towers(hub, tmp_path, capsys):
    hub.folders["someone/clip"] = FOLDER / "clips" / "hugging_face_quick_gelu"
    hub.folders["someone/encoder"] = FOLDER / "sentence_encoders" / "bert"
    assert weights.main(["fetch", "hf://someone/encoder"]) == 0
    place = tmp_path / "weights" / "hf" / "someone" / "encoder"
    assert (place / "1_Pooling" / "config.json").is_file() and not (place / ".cache").exists()
    asked = len(hub.asked)
    assert load_text_weights("bert", "hf://someone/encoder").options["pooling"] == "mean"
    assert len(hub.asked) == asked  # it was there
    model, _ = tfclip.load("hf://someone/clip")
    again, _ = tfclip.load("someone/clip")
    assert hub.asked.count("model.safetensors") == 2  # of either model
    expected = np.load(hub.folders["someone/clip"] / "expected.npz")
    np.testing.assert_allclose(
        again.encode_image(expected["pictures"]), expected["image"], atol=2e-6
    )
    assert sorted(path.name for path in (tmp_path / "weights/hf/someone").glob("[!.]*")) == [
        "clip",
        "encoder",
    ]
    assert "expected.npz" not in hub.asked
    assert not list((tmp_path / "hub").rglob("*.safetensors"))
    sizes = {"patch_size": 8, "blocks": 1, "width": 32, "heads": 2, "mlp_width": 96}
    tower = registry.image_tower("clip-vit-b32").build(image_size=32, **sizes)
    with pytest.raises(ValueError, match="16 of its tensors are not"):  # read, and of another size
        load_image_weights(tower, "clip-vit-b32", "hf://someone/clip")


def test_pytorchs_files_are_fetched_only_where_there_are_no_others(hub, tmp_path):
    whole = Path(shutil.copytree(FOLDER / "sentence_encoders" / "bert", tmp_path / "both"))
    (whole / "pytorch_model.bin").write_bytes(b"not asked for")
    hub.folders["a/both"] = whole
    assert weights.main(["fetch", "hf://a/both"]) == 0
    assert "pytorch_model.bin" not in hub.asked
    file = FOLDER / "clips" / "open_clip_file" / "model.pt"
    (tmp_path / "torch").mkdir()
    shutil.copy(file, tmp_path / "torch" / "pytorch_model.bin")
    (tmp_path / "torch" / "config.json").write_text("{}")
    hub.folders["a/torch"] = tmp_path / "torch"
    assert weights.main(["fetch", "hf://a/torch"]) == 0
    kept = tmp_path / "weights" / "hf" / "a" / "torch" / "pytorch_model.bin"
    assert list(TorchFile(kept)) == list(TorchFile(file))


def test_the_hubs_own_cache_is_used(hub, tmp_path):
    hub.folders["b/clip"] = FOLDER / "clips" / "siglip"
    place = Path(huggingface_hub.snapshot_download("b/clip"))
    asked = len(hub.asked)
    tfclip.load("b/clip")
    assert len(hub.asked) == asked and place.is_relative_to(tmp_path / "hub")
    assert not (tmp_path / "weights" / "hf" / "b" / "clip").exists()


def test_a_model_that_does_not_exist_is_one_line(hub, capsys):
    assert weights.main(["fetch", "hf://nobody/nothing"]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "hf://nobody/nothing could not be fetched" in told and "tree/main, and copy" in told
