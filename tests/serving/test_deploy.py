"""The kit for TensorFlow Serving: its files parse, fit together, and its health check works."""

import subprocess
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2, message_factory, text_format, wrappers_pb2

from tfclip.serving.batching import read_batching_parameters
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


# Of TensorFlow Serving's session_bundle_config.proto and monitoring_config.proto, which its package
# for Python leaves out: fields by number, a repeated one in a list.
WRAPPED = ".google.protobuf.Int64Value"
MESSAGES = {
    "BatchingParameters": {
        1: ("max_batch_size", WRAPPED),
        2: ("batch_timeout_micros", WRAPPED),
        3: ("max_enqueued_batches", WRAPPED),
        4: ("num_batch_threads", WRAPPED),
        5: ("thread_pool_name", ".google.protobuf.StringValue"),
        6: ("allowed_batch_sizes", [int]),
        7: ("pad_variable_length_inputs", bool),
    },
    "PrometheusConfig": {1: ("enable", bool), 2: ("path", str)},
    "MonitoringConfig": {1: ("prometheus_config", ".kit.PrometheusConfig")},
}


def parsed(name, text):
    """The text of one of `MESSAGES`, read by protobuf itself."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="kit.proto", package="kit", syntax="proto3", dependency=[wrappers_pb2.DESCRIPTOR.name]
    )
    for message, fields in MESSAGES.items():
        added = file.message_type.add(name=message)
        for number, (field, of) in fields.items():
            repeated = isinstance(of, list)
            of = of[0] if repeated else of
            plain = {int: kind.TYPE_INT64, bool: kind.TYPE_BOOL, str: kind.TYPE_STRING}
            added.field.add(
                name=field,
                number=number,
                label=kind.LABEL_REPEATED if repeated else kind.LABEL_OPTIONAL,
                type=plain.get(of, kind.TYPE_MESSAGE),
                type_name=None if of in plain else of,
            )
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    messages = message_factory.GetMessages([wrappers, file])
    return text_format.Parse(text, messages[f"kit.{name}"]())


def test_protobuf_reads_the_batching_parameters_as_the_check_does():
    path = KIT / "batching_parameters.txt"
    parameters, ours = (
        parsed("BatchingParameters", path.read_text()),
        read_batching_parameters(path),
    )
    assert tuple(parameters.allowed_batch_sizes) == ours.allowed_batch_sizes
    assert parameters.max_batch_size.value == ours.max_batch_size
    for name in ("batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"):
        assert getattr(parameters, name).value > 0
    with pytest.raises(text_format.ParseError):
        parsed("BatchingParameters", path.read_text().replace("num_batch_threads", "threads"))


def test_protobuf_reads_the_monitoring_file():
    monitoring = parsed("MonitoringConfig", (KIT / "monitoring.config").read_text())
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path == "/monitoring/prometheus/metrics"


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
        "tfclip": ["127.0.0.1:8501:8501", "127.0.0.1:8500:8500"],
        "tfclip-unbatched": ["127.0.0.1:8503:8501", "127.0.0.1:8502:8500"],
    }


def test_the_image_is_one_version(services):
    for service in services.values():
        assert service["image"] == "tensorflow/serving:${TENSORFLOW_SERVING:-2.19.1}"


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
    (job,) = yaml.safe_load((KIT / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["metrics_path"] == path
    assert job["static_configs"][0]["targets"] == ["localhost:8501", "localhost:8503"]


@pytest.fixture(scope="module")
def cluster():
    """The objects of kserve.yaml by kind."""
    return {o["kind"]: o for o in yaml.safe_load_all((KIT / "kserve.yaml").read_text())}


def test_the_cluster_has_the_files_of_the_kit(cluster):
    """The same settings, without the comments."""
    for name, text in cluster["ConfigMap"]["data"].items():
        lines = (line.strip() for line in (KIT / name).read_text().splitlines())
        kept = [line for line in lines if line and not line.startswith("#")]
        assert [line.strip() for line in text.splitlines() if line.strip()] == kept


def test_the_cluster_runs_the_image_of_the_kit(cluster, services):
    spec = cluster["Deployment"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    default = services["tfclip"]["image"].split(":-")[1].rstrip("}")
    assert container["image"] == f"tensorflow/serving:{default}"
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    for flag in container["args"]:
        if "=/" in flag:
            folder, name = flag.split("=")[1].rsplit("/", 1)
            assert folder == mounts["config"] and name in cluster["ConfigMap"]["data"]
    assert {volume["name"] for volume in spec["volumes"]} == set(mounts)
    assert container["readinessProbe"] and container["resources"]["limits"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"rest": 8501, "grpc": 8500}
    for port in cluster["Service"]["spec"]["ports"]:
        assert ports[port["targetPort"]] == port["port"]
    labels = cluster["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert cluster["Service"]["spec"]["selector"].items() <= labels.items()


def test_the_cluster_grows_with_the_queue(cluster):
    scaler = cluster["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == cluster["Deployment"]["metadata"]["name"]
    (metric,) = scaler["metrics"]
    assert "queuing_latency" in metric["pods"]["metric"]["name"]
