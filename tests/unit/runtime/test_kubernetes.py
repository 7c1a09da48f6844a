"""launch/kubernetes.yaml: the API's schema holds, and its parts agree with one another."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from emulator.runtime.launchers import find_local_devices
from emulator.scenario.load import read_scenario

ROOT = Path(__file__).resolve().parents[3]
OLDEST, NEWEST = "1.28", "1.37"


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    """What the file describes, by kind."""
    documents = yaml.safe_load_all((ROOT / "launch" / "kubernetes.yaml").read_text())
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="module")
def pod(objects) -> dict[str, Any]:
    return objects["Job"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def run(pod) -> dict[str, Any]:
    (container,) = pod["initContainers"]
    return container


@pytest.fixture(scope="module")
def environment(run) -> dict[str, Any]:
    return {each["name"]: each.get("value") for each in run["env"]}


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_schema_holds(objects, version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    assert sorted(objects) == ["ConfigMap", "Job", "Service"]
    for document in objects.values():
        kubernetes_validate.validate(document, version, strict=True)


def test_every_device_has_one_place(objects, run, environment, tmp_path: Path) -> None:
    job = objects["Job"]["spec"]
    (file,) = objects["ConfigMap"]["data"]
    (tmp_path / file).write_text(objects["ConfigMap"]["data"][file])
    devices = read_scenario(tmp_path / file).scenario.devices
    (share,) = (each for each in run["args"] if each.startswith("--devices-per-host="))
    hosts = int(environment["WORLD_SIZE"])
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"] == hosts
    places = [
        find_local_devices((rank, hosts), devices, int(share.split("=")[1]))
        for rank in range(hosts)
    ]
    assert [device for place in places for device in place] == list(range(devices))


def test_pods_find_the_first(objects, pod, environment) -> None:
    """By the name that the headless service gives to the pod of index 0, before it is ready."""
    service, job = objects["Service"], objects["Job"]["metadata"]["name"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job}  # a label that the Job gives its pods
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert environment["MASTER_ADDR"] == f"{job}-0.{service['metadata']['name']}"
    assert [int(environment["MASTER_PORT"])] == [each["port"] for each in service["spec"]["ports"]]


def test_the_first_failure_ends_all(objects, pod) -> None:
    assert objects["Job"]["spec"]["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"
    assert pod["shareProcessNamespace"] is True


def test_no_container_is_root_or_writes_elsewhere(objects, pod, run) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["input"]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    for container in (run, *pod["containers"]):
        locked = container["securityContext"]
        assert locked["allowPrivilegeEscalation"] is False
        assert locked["readOnlyRootFilesystem"] is True
        assert locked["capabilities"] == {"drop": ["ALL"]}
        assert container["image"] == run["image"]
        mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        assert mounts == {"input": "/input", "runs": "/runs", "scratch": "/tmp"}
