"""Both drivers, and every way of starting them, write identical bytes."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import pytest
from processes import LIMIT_S, ended
from typer.testing import CliRunner
from written import files_of

from emulator.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("devices=4", "rounds=2", "local.steps=3", "local.batch_size=8", "tasks.test_samples=10")
SMALL += ("tasks.train_samples=60",)
ALOHA = "access={kind: aloha, bandwidth_hz: 1000000.0, slot_s: 0.001, send_probability: 0.25}"


def start(out: Path, method: str, *more: str, driver: str) -> dict[str, bytes]:
    """Run the small scenario and return its files; keys that describe the machine taken out."""
    arguments = ["run", str(ROOT / "configs" / "quickstart.yaml"), "--quiet", "--out", str(out)]
    arguments += ["--driver", driver, "--set", f"method.kind={method}", *SMALL, *more]
    unlaunched = dict.fromkeys(("RANK", "WORLD_SIZE"))
    done = CliRunner().invoke(app, arguments, env=unlaunched)
    assert done.exit_code == 0, done.output
    return files_of(out)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one_process writes."""
    out = tmp_path_factory.mktemp("one") / "run"
    return start(out, "sparse_orthogonal", driver="one_process")


def test_the_promised_files_are_there(reference: dict[str, bytes]) -> None:
    tops = {"scenario.yaml", "summary.json", "metrics.parquet", "ledger.parquet", "topology.json"}
    assert tops <= reference.keys()
    for device in range(4):
        assert f"adapters/device-{device:02d}/adapter_config.json" in reference
        assert f"adapters/device-{device:02d}/adapter_model.safetensors" in reference
        assert f"experts/device-{device:02d}/router.safetensors" in reference
        for task in ("reverse", "sort", "rotate", "successor"):
            assert f"experts/device-{device:02d}/{task}/adapter_model.safetensors" in reference


def test_forked_processes_write_the_same(reference: dict[str, bytes], tmp_path: Path) -> None:
    assert start(tmp_path / "run", "sparse_orthogonal", driver="many_processes") == reference


@pytest.mark.slow
def test_ranks_started_last_to_first_on_a_busy_machine_write_the_same(
    reference: dict[str, bytes], free_port: int, tmp_path: Path
) -> None:
    """Every rank by hand, rank 0, which serves the store, two seconds after the others."""
    out, burner = tmp_path / "run", [sys.executable, "-c", "while True: pass"]
    command = [sys.executable, "-m", "emulator", "run", "configs/quickstart.yaml", "--quiet"]
    command += ["--out", str(out), "--set", "method.kind=sparse_orthogonal", *SMALL]
    rendezvous = {"WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port)}
    started: list[subprocess.Popen[str]] = []
    load = [subprocess.Popen(burner) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        for rank in (3, 2, 1, 0):
            time.sleep(0.0 if rank else 2.0)
            env = {**os.environ, **rendezvous, "RANK": str(rank)}
            started.append(subprocess.Popen(command, cwd=ROOT, env=env, stderr=PIPE, text=True))
        for process in started:
            _, errors = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, errors
    finally:
        for process in (*load, *started):
            process.kill()
            process.wait()
    assert files_of(out) == reference


def run_on_two_hosts(out: Path, port: int, *more: tuple[str, ...]) -> list[tuple[int, str]]:
    """Exit code and last words of two parents, the second started first: three devices, then one."""
    command = [sys.executable, "-m", "emulator", "run", "configs/quickstart.yaml", "--quiet"]
    command += ["--out", str(out), "--set", "method.kind=sparse_orthogonal", *SMALL]
    rendezvous = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = []
    for rank in (1, 0):
        env = {**os.environ, **rendezvous, "RANK": str(rank)}
        started.append(
            subprocess.Popen([*command, *more[rank]], cwd=ROOT, env=env, stderr=PIPE, text=True)
        )
    return ended(started)


def test_parents_on_two_hosts_write_the_same(
    reference: dict[str, bytes], free_port: int, tmp_path: Path
) -> None:
    """The first serves the store."""
    share = ("--devices-per-host", "3")
    assert run_on_two_hosts(tmp_path / "run", free_port, share, share) == [(0, "")] * 2
    assert files_of(tmp_path / "run") == reference


def test_hosts_with_different_terms_report_them_and_end(free_port: int, tmp_path: Path) -> None:
    """Counts fit on each for itself: devices 0 and 1 of the first, 3 of the second; 2 would never come."""
    shares = ("--devices-per-host", "2"), ("--devices-per-host", "3", "seed=7")
    ends = run_on_two_hosts(tmp_path / "run", free_port, *shares)
    where = f"device 3 on {socket.gethostname()}"
    lines = (
        f"error: {where}: --devices-per-host: got 3, wanted 2 as device 0 has\n"
        f"error: {where}: seed: got 7, wanted 1 as device 0 has\n"
    )
    assert ends == [(2, lines)] * 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "access", [(), pytest.param((ALOHA,), marks=pytest.mark.slow)], ids=["ofdma", "aloha"]
)
def test_the_baseline_writes_the_same(access: tuple[str, ...], tmp_path: Path) -> None:
    one = start(tmp_path / "one", "lora", *access, driver="one_process")
    assert start(tmp_path / "many", "lora", *access, driver="many_processes") == one


def test_the_resolved_scenario_runs_again(reference: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "scenario.yaml").write_bytes(reference["scenario.yaml"])
    command = [sys.executable, "-m", "emulator", "check", str(tmp_path / "scenario.yaml")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=LIMIT_S)
    assert done.stdout == reference["scenario.yaml"]


@pytest.mark.slow
def test_the_paced_clock_plays_the_same_run_in_wall_time(tmp_path: Path) -> None:
    virtual = start(tmp_path / "virtual", "lora", driver="many_processes")
    paced = start(tmp_path / "paced", "lora", "clock.kind=paced", "clock.time_scale=0.3",
                  driver="many_processes")  # fmt: skip
    changed = {name for name in virtual if paced[name] != virtual[name]}
    assert changed == {"scenario.yaml", "checkpoints/scenario.yaml", "summary.json"}
    summary = json.loads(paced["summary.json"])
    lag = summary.pop("pacing")
    assert summary == json.loads(virtual["summary.json"])
    wall_s = json.loads((tmp_path / "paced" / "summary.json").read_text())["wall_s"]
    assert wall_s >= 0.3 * summary["emulated_s"] > 1.0
    assert lag["round_s"] == pytest.approx(0.3 * summary["emulated_s"] / 2)
    assert 0.0 <= lag["lag_p50_s"] <= lag["lag_p99_s"] <= lag["lag_max_s"]
    assert lag["frames"] >= summary["bursts"]


@pytest.mark.filterwarnings("default:channel.path_loss")  # some walk nearer than the model knows
def test_an_air_with_everything_in_it_writes_the_same(tmp_path: Path) -> None:
    """Walks, shadows, correlated fades, slots, broadcasts, bursts of loss that are repeated, clusters
    formed again, uneven speeds."""
    air = (
        "channel.placement={kind: rectangle, width_m: 200, height_m: 200}",
        "channel.mobility={kind: random_waypoint, min_speed_m_per_s: 5, max_speed_m_per_s: 9}",
        "channel.line_of_sight.kind=umi",
        "channel.path_loss={kind: umi, fc_ghz: 3.5}",
        "channel.shadowing.kind=log_normal",
        "channel.fading={kind: rician, k_db: 6, coherence_s: 0.2, correlation: jakes}",
        "channel.arq_max_tries=2",
        "channel.losses={kind: gilbert_elliott, p: 0.05, r: 0.5}",
        "channel.noise_figure_db=9",
        "access={kind: tdma, bandwidth_hz: 1000000.0, reuse: distance_2, cast: broadcast}",
        "method.recluster_every=1",
        "local.speeds=[1, 2]",
        "local.straggler_probability=0.3",
    )
    one = start(tmp_path / "one", "sparse_orthogonal", *air, driver="one_process")
    assert start(tmp_path / "many", "sparse_orthogonal", *air, driver="many_processes") == one


@pytest.mark.parametrize("method", ["lora", "sparse_orthogonal"])
def test_devices_that_do_not_wait_write_the_same(method: str, tmp_path: Path) -> None:
    """By their own clocks, one of them five times slower; stragglers draw the order anew each round."""
    alone = (
        "schedule.kind=asynchronous",
        "rounds=6",
        "local.speeds=[1, 0.2, 0.7, 1.3]",
        "local.straggler_probability=0.3",
    )
    one = start(tmp_path / "one", method, *alone, driver="one_process")
    assert start(tmp_path / "many", method, *alone, driver="many_processes") == one
