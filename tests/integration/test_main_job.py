"""The main job keeps its promise: what README's first table says, in its directions and bounds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import LIMIT_S

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def summary_of(method: str, out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "emulator", "run", "configs/quickstart.yaml", "--quiet"]
    command += ["--out", str(out), "--set", f"method.kind={method}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return found


def test_sparse_experts_beat_averaging_with_a_fifth_of_the_bytes(tmp_path: Path) -> None:
    lora = summary_of("lora", tmp_path / "lora")
    ours = summary_of("sparse_orthogonal", tmp_path / "ours")
    assert ours["accuracy"]["mean"] >= 0.90
    assert ours["accuracy"]["mean"] >= lora["accuracy"]["mean"] + 0.30
    assert ours["routing_accuracy"] >= 0.95
    assert ours["bytes"]["total"] <= 0.20 * lora["bytes"]["total"]
    for found in (lora, ours):
        parts = found["bytes"]
        classes = ("payload", "mask", "header", "ack", "retransmitted")
        assert parts["total"] == parts["setup"] + parts["in_cluster"] + parts["inter_cluster"]
        assert parts["control"] == 0  # nobody asked for an early end
        assert parts["total"] == sum(parts[name] for name in classes)
        assert found["own_memory_mb"] <= 110
