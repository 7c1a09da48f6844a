"""What launch/ holds for torchrun and Slurm: run for real, the hosts on this machine, Slurm stood in for."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from processes import ended, free_port_of
from written import files_of

TOYS = Path(__file__).parents[1] / "support"

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / "launch"
SMALL = ["configs/quickstart.yaml", "devices=4", "rounds=2", "local.steps=3", "local.batch_size=8"]
SMALL += ["tasks.train_samples=60", "tasks.test_samples=10", "--quiet"]
LAUNCHERS_OWN = re.compile("RANK|WORLD_SIZE|HOSTS|HOST_RANK|MASTER_.*|DEVICES_PER_HOST|SLURM_.*")

pytestmark = pytest.mark.skipif(
    not (ROOT / ".venv" / "installed-dev").is_file(),
    reason="launch/install.sh dev has not run here: the scripts would, for minutes",
)


def start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A process with these variables and none that a launcher of these tests may have left."""
    clean = {name: value for name, value in os.environ.items() if not LAUNCHERS_OWN.match(name)}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**clean, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one_process writes."""
    out = tmp_path_factory.mktemp("one") / "run"
    command = [sys.executable, "-m", "emulator", "run", *SMALL, "--out", str(out)]
    assert ended([start([*command, "--driver", "one_process"], {})]) == [(0, "")]
    return files_of(out)


@pytest.mark.parametrize("name", ["torchrun.sh", "torchrun_hosts.sh", "slurm.sbatch"])
def test_scripts_are_bash(name: str) -> None:
    assert ended([start(["bash", "-n", str(LAUNCH / name)], {})]) == [(0, "")]


# ── torchrun ─────────────────────────────────────────────────────────────────────────────────────


def test_torchrun_on_one_host_writes_the_same(reference, free_port: int, tmp_path: Path) -> None:
    command = [str(LAUNCH / "torchrun.sh"), *SMALL, "--out", str(tmp_path / "run")]
    assert ended([start(command, {"MASTER_PORT": str(free_port)})]) == [(0, "")]
    assert files_of(tmp_path / "run") == reference


@pytest.mark.slow
def test_what_torchrun_starts_again_goes_on_from_its_checkpoints(tmp_path: Path) -> None:
    """A class of the test's own ends one process in round 1, once."""
    once = tmp_path / "ended_once"
    small = [*SMALL, "method.kind=dies_once:DiesOnce"]
    run, one = tmp_path / "run", tmp_path / "one"
    shared = {"PYTHONPATH": str(TOYS), "DIES_ONCE": str(once), "DIES_IN": str(run)}
    command = [str(LAUNCH / "torchrun.sh"), *small, "--out", str(run)]
    ((code, said),) = ended([start(command, {**shared, "MAX_RESTARTS": "1"})])
    assert code == 0
    assert "note: restarted by its launcher: goes on after round 1\n" in said
    assert once.exists()
    alone = [sys.executable, "-m", "emulator", "run", *small, "--driver", "one_process"]
    ((code, said),) = ended([start([*alone, "--out", str(one)], shared)])
    assert code == 0, said
    assert files_of(run) == files_of(one)


def hosts(outs: Sequence[Path], port: int, numbers: Sequence[Mapping[str, str]]) -> None:
    """Run on two hosts, the first with three of four devices."""
    shared = {"HOSTS": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"DEVICES_PER_HOST": "3"}
    commands = [[str(LAUNCH / "torchrun_hosts.sh"), *SMALL, "--out", str(out)] for out in outs]
    started = [start(*each) for each in zip(commands, [shared | n for n in numbers], strict=True)]
    assert ended(started) == [(0, "")] * len(outs)


def results(files):
    """Without checkpoints: each host has those of its own devices."""
    return {name: data for name, data in files.items() if not name.startswith("checkpoints/")}


def results_of(out: Path):
    return results(files_of(out))


def test_host_0_of_two_writes_the_same(reference, free_port: int, tmp_path: Path) -> None:
    outs = [tmp_path / "1", tmp_path / "0"]
    hosts(outs, free_port, [{"HOST_RANK": out.name} for out in outs])
    assert [entry.name for entry in outs[0].iterdir()] == ["checkpoints"]  # of its own devices
    assert results_of(outs[1]) == results(reference)


@pytest.mark.slow
def test_one_of_two_hosts_without_numbers_writes_the_same(
    reference, free_port: int, tmp_path: Path
) -> None:
    outs = [tmp_path / "this", tmp_path / "that"]
    hosts(outs, free_port, [{}, {}])
    (written,) = (out for out in outs if (out / "summary.json").exists())
    assert results_of(written) == results(reference)


COMPLETE = {"HOSTS": "2", "HOST_RANK": "0", "MASTER_ADDR": "127.0.0.1"}


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"HOSTS": ""}, "HOSTS: got '', wanted the number of hosts"),
        ({"HOSTS": "two"}, "HOSTS: got 'two', wanted the number of hosts"),
        ({"HOSTS": "0"}, "HOSTS: got '0', wanted the number of hosts"),
        ({"HOST_RANK": "2"}, "HOST_RANK: got '2', wanted 0 <= HOST_RANK < HOSTS = 2"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR: got '', wanted the address of the host where all meet"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT: got '65536', wanted a port"),
        ({"MASTER_ADDR": "no.such.host.invalid"}, "MASTER_ADDR and MASTER_PORT: got no.such.host"),
        ({"HOSTS": "3"}, "HOSTS: got 3, wanted 2 for 4 devices, 2 a host"),
        ({"DEVICES_PER_HOST": "x"}, "DEVICES_PER_HOST: got 'x', wanted a number of devices"),
    ],
)
def test_wrong_input_on_a_host_is_one_line(environment, complaint: str, free_port: int) -> None:
    given = {"MASTER_PORT": str(free_port), **COMPLETE, **environment}
    ((code, said),) = ended([start([str(LAUNCH / "torchrun_hosts.sh"), *SMALL], given)])
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith(f"error: {complaint}")


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = COMPLETE | {"MASTER_PORT": str(taken.getsockname()[1])}
        ((code, said),) = ended([start([str(LAUNCH / "torchrun_hosts.sh"), *SMALL], given)])
    assert (code, said.count("\n")) == (2, 1)
    assert "in use" in said


def test_the_last_line_of_torchrun_is_that_of_the_run(free_port: int) -> None:
    """A failure of the run itself: of two hosts only one is there, and nobody asks how many."""
    command = [sys.executable, str(LAUNCH / "torchrun.py"), "--nproc-per-node", "1"]
    command += ["--master-port", str(free_port), "-m", "emulator", "run", *SMALL]
    ((code, said),) = ended([start([*command, "--devices-per-host", "2"], {})])
    assert code == 2
    assert said == "error: WORLD_SIZE: got 1 hosts, wanted 2: 4 devices, --devices-per-host 2\n"


# ── Slurm ────────────────────────────────────────────────────────────────────────────────────────


def batch(spool: Path, arguments: Sequence[str], **changed: str) -> tuple[int, str]:
    """Run the batch script as slurmd does: a copy of it, elsewhere, with an allocation of two nodes."""
    script = spool / "slurm_script"
    shutil.copy(LAUNCH / "slurm.sbatch", script)
    script.chmod(0o700)
    allocation = {
        "PATH": f"{TOYS / 'slurm'}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(free_port_of(range(20000, 30000)) - 20000),
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_NODELIST": "trial[1-2]",
        "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "2",
    }
    (end,) = ended([start([str(script), *arguments], allocation | changed)])
    return end


@pytest.mark.slow
def test_slurm_writes_the_same(reference, tmp_path: Path) -> None:
    assert batch(tmp_path, [*SMALL, "--out", str(tmp_path / "run")]) == (0, "")
    assert files_of(tmp_path / "run") == reference


@pytest.mark.parametrize(
    ("changed", "arguments", "complaint"),
    [
        ({"SLURM_JOB_ID": ""}, SMALL, "SLURM_JOB_ID: got '', wanted this to be called by sbatch"),
        ({}, [], "SCENARIO: got none, wanted sbatch --nodes N launch/slurm.sbatch SCENARIO"),
        ({"SLURM_SUBMIT_DIR": "/"}, SMALL, "//.venv/bin/emulator: got no such program, wanted"),
        ({"SLURM_NNODES": "3"}, SMALL, "--nodes: got 3, wanted 2 for 4 devices, 2 a node"),
        ({}, ["nothing.yaml"], "nothing.yaml: "),
    ],
)
def test_wrong_input_to_slurm_is_one_line(changed, arguments, complaint: str, tmp_path) -> None:
    code, said = batch(tmp_path, arguments, **changed)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith(f"error: {complaint}")
