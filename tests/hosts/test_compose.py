"""docker/: what its files promise, and a real run of four containers where one is asked for.

EMULATOR_DOCKER_TEST=1 pytest tests/hosts/test_compose.py
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "support")]

from containers import COMPOSE_FILE, ROOT, SERVICES, Project, RefusedError, compose_command  # noqa: E402
from processes import LIMIT_S  # noqa: E402
from small import SCENARIO  # noqa: E402
from written import files_of  # noqa: E402

from emulator.runtime.run_folder import ARITHMETIC_VARIABLES  # noqa: E402

DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


def resolved(text: str) -> str:
    """With the default of every variable."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """compose.yaml where no variable is set."""
    found: dict[str, Any] = yaml.safe_load(resolved(COMPOSE_FILE.read_text(encoding="utf-8")))
    return found


@pytest.fixture(params=SERVICES)
def service(described, request) -> dict[str, Any]:
    found: dict[str, Any] = described["services"][request.param]
    return found


@pytest.fixture(scope="module")
def stages() -> dict[str, str]:
    """Of the Dockerfile, by name."""
    pattern = r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)"
    return dict(re.findall(pattern, DOCKERFILE, re.MULTILINE | re.DOTALL))


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def test_four_devices_make_one_world(described):
    assert tuple(described["services"]) == SERVICES
    worlds = [each["environment"] for each in described["services"].values()]
    assert [world.pop("RANK") for world in worlds] == ["0", "1", "2", "3"]
    assert all(world == worlds[0] for world in worlds)
    assert worlds[0]["WORLD_SIZE"] == str(len(SERVICES))
    assert worlds[0]["MASTER_ADDR"] == SERVICES[0]
    commands = {each["command"] for each in described["services"].values()}
    assert [command.split().count(f"devices={len(SERVICES)}") for command in commands] == [1]


def test_a_container_may_do_little(service):
    assert "privileged" not in service
    assert "cap_add" not in service
    assert "network_mode" not in service
    assert "ports" not in service
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert not any("docker.sock" in volume for volume in service["volumes"])
    assert int(service["user"].split(":")[0]) > 0


def test_a_container_ends_on_sigterm(service):
    assert service["init"] is True
    assert "restart" not in service


def test_one_service_builds_what_all_run(described):
    services = described["services"]
    assert [name for name in services if "build" in services[name]] == [SERVICES[0]]
    assert {each["image"] for each in services.values()} == {"emulator:cpu"}
    build = services[SERVICES[0]]["build"]
    assert (COMPOSE_FILE.parent / build["context"] / build["dockerfile"]).is_file()
    assert f" AS {build['target']}\n" in DOCKERFILE


def test_the_network_is_their_own_and_leads_nowhere(described, service):
    assert described["networks"] == {"air": {"internal": True}}
    assert service["networks"] == ["air"]


def test_results_lie_in_a_volume(described, service):
    (written,) = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    name, place = written.split(":")
    assert name in described["volumes"]
    assert f" {place}/" in service["command"]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_images_run_as_an_ordinary_user(stages, target):
    assert re.findall(r"^USER (.+)$", stages[target], re.MULTILINE) == ["emulator"]


def test_images_keep_no_argument_of_pip(stages):
    """An index's address may hold a password."""
    assert "ARG PIP_" in stages["cpu-packages"]
    assert not any("ARG" in stages[image] for image in ("runtime", "cpu", "cuda"))


def test_only_what_the_image_is_made_of_is_sent():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    wanted = {
        word.rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for word in line.split()[:-1]
    }
    assert {rule[1:] for rule in rules if rule.startswith("!")} == wanted


# ── containers ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def command() -> tuple[str, ...]:
    try:
        return compose_command()
    except RefusedError as reason:
        pytest.skip(f"no containers: {reason}")


@pytest.fixture(scope="module")
def project(command, tmp_path_factory) -> Iterator[Project]:
    """Built once; removed with its volume at the end."""
    folder = tmp_path_factory.mktemp("input")
    folder.chmod(0o755)
    (folder / "containers.yaml").write_text(SCENARIO)
    settings = {"INPUT": str(folder), "SCENARIO": "containers.yaml", "OVERRIDES": ""}
    built = Project(command, f"dfl-{os.getpid()}", settings)
    ended = built.compose("build", timeout_s=6 * LIMIT_S)
    assert ended.code == 0, ended.output
    try:
        yield built
    finally:
        built.compose("down", "--volumes")


@pytest.fixture
def running(project) -> Iterator[Project]:
    """Far from its end, and in the middle of it."""
    longer = {**project.settings, "OVERRIDES": "rounds=2000"}
    started = Project(project.command, project.name, longer)
    ended = started.compose("up", "--detach")
    assert ended.code == 0, ended.output
    try:
        started.await_exchange("device-0")
        started.await_exchange("device-2")
        yield started
    finally:
        started.compose("down")


@pytest.mark.hosts
@pytest.mark.slow
def test_four_containers_write_the_files_of_one_parent(project, tmp_path):
    """All of them end well, though Compose stops the others when the first has ended."""
    ended = project.compose("up", "--exit-code-from", "device-0")
    assert ended.code == 0, ended.output
    assert project.exit_codes() == [0, 0, 0, 0]
    assert "containers.yaml: loading" in project.output("device-0")
    project.fetch("compose", tmp_path / "containers")
    as_in_a_container = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ARITHMETIC_VARIABLES)
    }
    order = ["run", "containers.yaml", "devices=4", "--quiet", "--out", str(tmp_path / "parent")]
    subprocess.run(
        [sys.executable, "-m", "emulator", *order],
        cwd=project.settings["INPUT"],
        env={**as_in_a_container, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=LIMIT_S,
    )
    assert files_of(tmp_path / "containers") == files_of(tmp_path / "parent")


@pytest.mark.hosts
@pytest.mark.slow
def test_wrong_input_is_reported_and_ends_all(project):
    wrong = Project(project.command, project.name, {**project.settings, "OVERRIDES": "roundz=1"})
    ended = wrong.compose("up", "--exit-code-from", "device-0")
    assert ended.code == 2
    assert re.search(r"error: .*roundz", ended.output), ended.output
    wrong.compose("down")


@pytest.mark.hosts
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["device-2", "device-0"])
def test_when_a_container_is_killed_the_others_end_with_a_line(running, victim):
    running.kill(victim)
    codes = dict(zip(SERVICES, running.exit_codes(), strict=True))
    assert codes.pop(victim) == 137
    assert set(codes.values()) == {1}, {each: running.output(each) for each in codes}
    for survivor in codes:
        (line,) = [line for line in running.output(survivor).splitlines() if "error" in line]
        assert re.match(r"error: .*(lost device|the store is gone)", line)


@pytest.mark.hosts
@pytest.mark.slow
def test_stopping_is_prompt(running):
    ended = running.compose("stop", "--timeout", "60")
    assert ended.code == 0
    assert ended.took_s < 30
    assert 137 not in running.exit_codes()
