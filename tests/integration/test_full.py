"""Methods whose models are more than one small adapter live whole lives, alike under both drivers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import Result
from processes import LIMIT_S
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner
from written import files_of

from emulator.cli.app import app
from emulator.learning.backbone.load import Tiny
from emulator.runtime.inference import load_respondent

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "configs" / "quickstart.yaml"
SMALL = [
    "devices=4",
    "rounds=2",
    "local.steps=2",
    "local.batch_size=8",
    "tasks.test_samples=4",
    "topology.degree=2",
]


def emulate(out: Path, *overrides: str) -> Result:
    """A run in this process."""
    arguments = ["run", str(QUICKSTART), "--quiet", "--driver", "one_process", "--out", str(out)]
    sets = (x for override in (*SMALL, *overrides) for x in ("--set", override))
    return CliRunner().invoke(app, [*arguments, *sets])


def emulate_in_many(out: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """A run in a process for each device."""
    command = [sys.executable, "-m", "emulator", "run", str(QUICKSTART), "--quiet"]
    command += ["--driver", "many_processes", "--out", str(out), "--set", *SMALL, *overrides]
    env = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LIMIT_S
    )


def rounds_on_air(out: Path, traffic: str) -> set[int]:
    ledger = pq.read_table(out / "ledger.parquet").to_pylist()
    return {row["round_index"] for row in ledger if row["traffic"] == traffic}


def metric(out: Path, name: str) -> list[float]:
    rows = pq.read_table(out / "metrics.parquet").to_pylist()
    return [row["value"] for row in rows if row["metric"] == name]


@pytest.mark.parametrize("method", ["full", "stacking"])
def test_both_drivers_write_the_same(tmp_path: Path, method: str) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    assert emulate(one, f"method.kind={method}").exit_code == 0
    done = emulate_in_many(many, f"method.kind={method}")
    assert done.returncode == 0, done.stderr
    assert files_of(many) == files_of(one)
    assert rounds_on_air(one, "in_cluster") == {0, 1}
    assert rounds_on_air(one, "inter_cluster") == set()


def test_full_sends_every_weight_and_leaves_a_model_folder(tmp_path: Path) -> None:
    done = emulate(tmp_path / "run", "method.kind=full", "channel=ideal")
    assert done.exit_code == 0, done.output
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "run/adapters/device-03")
    count = sum(weight.numel() for weight in loaded.parameters())
    asked = "tag02 : b n h a c ->"
    tokens = Tiny().load().tokenizer(asked, return_tensors="pt")
    told = load_respondent(tmp_path / "run", 3).reply(asked, (), 5).answer
    wanted = loaded.eval().generate(**tokens, max_new_tokens=5, do_sample=False)
    assert Tiny().load().tokenizer.decode(wanted[0], skip_special_tokens=True).endswith(told)
    payload = json.loads((tmp_path / "run/summary.json").read_text())["bytes"]["payload"]
    messages = 2 * 4 * 2  # rounds, devices, neighbours
    assert payload == pytest.approx(messages * 2 * count, rel=1e-3)


def test_full_oracle_averages_within_tasks_and_knows_every_task(tmp_path: Path) -> None:
    out = tmp_path / "run"
    overrides = ["method.kind=full_oracle", "tasks.names=[reverse,sort]", "router.kind=uniform"]
    done = emulate(out, *overrides)
    assert done.exit_code == 0, done.output
    assert "router: full_oracle uses oracle in place of uniform" in done.stderr
    assert yaml.safe_load((out / "scenario.yaml").read_text())["router"] == {"kind": "oracle"}
    assert rounds_on_air(out, "inter_cluster") == {2}
    assert set(metric(out, "routing_accuracy")) == {1.0}
    for device in range(4):
        listed = json.loads((out / f"experts/device-{device:02d}/experts.json").read_text())
        assert [(e["task"], e["form"]) for e in listed] == [
            ("reverse", "weights"),
            ("sort", "weights"),
        ]
    told = [(out / f"experts/device-0{i}/sort/model.safetensors").read_bytes() for i in (0, 2)]
    assert told[0] == told[1]  # both learn reverse, and hear of sort at the end


def test_a_full_mesh_of_stackers_ends_with_one_model(tmp_path: Path) -> None:
    overrides = ["method.kind=stacking", "topology.kind=complete", "channel=ideal"]
    done = emulate(tmp_path / "run", *overrides)
    assert done.exit_code == 0, done.output
    adapters = [
        (tmp_path / f"run/adapters/device-0{i}/adapter_model.safetensors").read_bytes()
        for i in range(4)
    ]
    assert len(set(adapters)) == 1


def test_a_backbone_that_is_too_large_ends_in_one_line(tmp_path: Path) -> None:
    done = emulate_in_many(tmp_path / "run", "method.kind=full", "method.max_parameters=1000")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "method.max_parameters: got 1000, wanted at least" in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
