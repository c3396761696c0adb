"""The kit for TensorFlow Serving: its files parse, fit together, and its health check works."""

import subprocess
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format

from tfclip.serving.signatures import MODEL_NAME

KIT = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((KIT / "compose.yaml").read_text())["services"]


def test_models_config_names_what_the_client_asks_for(services):
    config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    text = (KIT / "models.config").read_text()
    (model,) = text_format.Parse(text, config_pb2.ModelServerConfig()).model_config_list.config
    assert model.name == MODEL_NAME
    for service in services.values():
        assert any(volume.split(":")[-2] == model.base_path for volume in service["volumes"])


def test_every_file_that_a_service_names_is_mounted_and_there(services):
    for service in services.values():
        mounted = {volume.split(":")[-2]: volume.split(":")[0] for volume in service["volumes"]}
        named = [flag.split("=")[1] for flag in service["command"] if "=/" in flag]
        assert named
        for path in named:
            assert (KIT / mounted[path]).is_file()


def test_one_service_merges_and_one_does_not(services):
    merging = {
        name for name, service in services.items() if "--enable_batching" in service["command"]
    }
    assert merging == {"tfclip"}
    assert {name: service["ports"] for name, service in services.items()} == {
        "tfclip": ["8500:8501", "8501:8501"],
        "tfclip-unbatched": ["8502:8501"],
    }


def test_the_health_check_tells_a_loaded_model_from_none(services, url, serving, monkeypatch):
    *bash, line = services["tfclip"]["healthcheck"]["test"][1:]
    assert bash == ["bash", "-c"]
    here = line.replace("localhost/8501", f"localhost/{url.rsplit(':', 1)[1]}")

    def healthy(command):
        done = subprocess.run([*bash, command], check=False, capture_output=True, timeout=20)
        return done.returncode == 0

    assert healthy(here)
    serving.failures = [503]
    assert not healthy(here)
    assert not healthy(here.replace("models/tfclip", "models/other"))


def test_prometheus_asks_where_the_server_answers():
    path = "/monitoring/prometheus/metrics"
    assert f'path: "{path}"' in (KIT / "monitoring.config").read_text()
    (job,) = yaml.safe_load((KIT / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["metrics_path"] == path
    assert job["static_configs"][0]["targets"] == ["localhost:8500", "localhost:8502"]
