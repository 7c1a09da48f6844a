"""Both drivers, and every way of starting them, write identical bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("devices=4", "rounds=2", "local.steps=3", "local.batch_size=8", "tasks.test_samples=10")
MACHINE_KEYS = ("wall_s", "cpu_s", "train_cpu_s", "peak_rss_mb", "own_memory_mb")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4")


def start(
    out: Path, method: str, *, launcher: tuple[str, ...] = (), driver: str
) -> dict[str, bytes]:
    """Run the small scenario and return its files; keys that describe the machine taken out."""
    command = [
        sys.executable,
        *launcher,
        "-m",
        "emulator",
        "run",
        "configs/quickstart.yaml",
        "--quiet",
    ]
    command += ["--out", str(out), "--driver", driver, "--set", f"method.kind={method}", *SMALL]
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    del files["environment.json"]
    summary = json.loads(files["summary.json"])
    assert all(summary.pop(key) >= 0 for key in MACHINE_KEYS)
    files["summary.json"] = json.dumps(summary).encode()
    return files


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


def test_torchrun_writes_the_same(reference: dict[str, bytes], tmp_path: Path) -> None:
    files = start(tmp_path / "run", "sparse_orthogonal", launcher=TORCHRUN, driver="many_processes")
    assert files == reference


def test_the_baseline_writes_the_same(tmp_path: Path) -> None:
    one = start(tmp_path / "one", "lora", driver="one_process")
    assert start(tmp_path / "many", "lora", driver="many_processes") == one


def test_the_resolved_scenario_runs_again(reference: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "scenario.yaml").write_bytes(reference["scenario.yaml"])
    command = [sys.executable, "-m", "emulator", "check", str(tmp_path / "scenario.yaml")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.stdout == reference["scenario.yaml"]
