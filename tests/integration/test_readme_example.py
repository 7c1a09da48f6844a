"""What the README shows runs as it stands there."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from guide import GUIDE
from processes import LIMIT_S
from typer.testing import CliRunner

from emulator.cli.app import app
from emulator.core.records import read_ledger
from emulator.scenario.load import read_scenario

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize(
    ("method", "most_lines"), [("my_method:SendB", 11), ("my_methods:RareB", 40)]
)
def test_the_method_of_ones_own_runs(tmp_path: Path, method: str, most_lines: int) -> None:
    (found,) = (x for x in EXAMPLE.finditer(GUIDE) if x[1] == f"{method.split(':')[0]}.py")
    (tmp_path / found[1]).write_text(found[2], encoding="utf-8")
    out = tmp_path / "run"
    command = [sys.executable, "-m", "emulator", "run", str(ROOT / "configs" / "quickstart.yaml")]
    command += ["--driver", "one_process", "--out", str(out), "--set"]
    command += [f"method.kind={method}", "devices=4", "rounds=2", "local.steps=2"]
    command += ["tasks.test_samples=4"]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["bytes"]["in_cluster"] > 0
    assert found[2].count("\n") <= most_lines
    assert summary["method"] == method


SMALL = ("--driver", "one_process", "--quiet", "--set", "devices=4", "rounds=2", "local.steps=2")
FEW_ANSWERS = "tasks.test_samples=4"


def run_example(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> tuple[Path, Any]:
    """The run of an example by the command that follows it, made small; its folder and summary."""
    ((code, shown),) = re.findall(
        rf"<!-- example: {name}\.py -->\n```python\n(.*?)```\n\n```sh\n(.*?)```", GUIDE, re.DOTALL
    )
    assert code.count("\n") <= 40
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    (folder / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    path, emulator, *arguments = shlex.split(shown.replace("\\\n", " "))
    assert (path, emulator) == ("PYTHONPATH=.", "emulator")
    done = CliRunner().invoke(app, [*arguments, *SMALL, FEW_ANSWERS])
    sys.modules.pop(name, None)
    assert done.exit_code == 0, done.output
    (out,) = (folder / "runs").iterdir()
    return out, json.loads((out / "summary.json").read_text())


def test_the_topology_of_ones_own_pairs_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = run_example(tmp_path, monkeypatch, "my_topology")
    records = [r for r in read_ledger(out / "ledger.parquet") if r.traffic == "in_cluster"]
    for round_index in (0, 1):
        of_round = [r for r in records if r.round_index == round_index]
        links = {(r.sender, r.receiver) for r in of_round}
        assert sorted(sender for sender, _ in links) == [0, 1, 2, 3]
        assert links == {(receiver, sender) for sender, receiver in links}


def test_the_channel_of_ones_own_loses_packets_and_charges_airtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = run_example(tmp_path, monkeypatch, "my_channel")
    records = read_ledger(out / "ledger.parquet")
    assert 0 < sum(r.packets_lost for r in records) < sum(r.packets for r in records) / 4
    assert any(r.retransmitted_bytes for r in records)
    for record in records:
        assert record.airtime_s == pytest.approx(8 * record.air_bytes / 1e6)
        assert record.energy_j == pytest.approx(0.1 * record.airtime_s)


def test_the_task_suite_of_ones_own_is_learnt_and_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, summary = run_example(tmp_path, monkeypatch, "my_tasks")
    assert set(summary["accuracy"]["per_task"]) == {"first", "last"}
    suite = read_scenario(
        Path("configs/quickstart.yaml"), ["tasks.kind=my_tasks:Ends", FEW_ANSWERS]
    ).scenario.tasks
    test, train = (suite.examples("last", split, 1) for split in ("test", "train"))
    assert len(test) == 4
    assert len(train) == 3356
    assert not {e.prompt for e in test} & {e.prompt for e in train}
    assert all(e.prompt.split()[-2] == e.answer for e in train)


def test_the_router_of_ones_own_finds_the_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, summary = run_example(tmp_path, monkeypatch, "my_router")
    assert summary["routing_accuracy"] == 1.0


COLUMNS = {
    "label": 1,
    "label_coarse_original": "HUM",
    "answer": True,
    "answerKey": "B",
    "choices": {"text": ["x", "y"], "label": ["A", "B"]},
}


def test_the_recipe_fills_a_folder_that_stands_in_for_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub stood in for: every data set has rows with all columns."""
    hub = ModuleType("datasets")
    hub.load_dataset = lambda name, config, split: [  # type: ignore[attr-defined]
        COLUMNS | dict.fromkeys(("text", "sentence", "question"), f"{split} {i} of {name}")
        for i in range(210)
    ]
    monkeypatch.setitem(sys.modules, "datasets", hub)
    monkeypatch.delenv("EMULATOR_TASKS", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(ROOT / "configs")
    (code,) = re.findall(r"<!-- recipe: \S+ -->\n```python\n(.*?)```", GUIDE, re.DOTALL)
    assert code.count("\n") <= 13
    exec(compile(code, "fill.py", "exec"), {})
    suite = Path("configs/experiments/suites/real_text.yaml")
    of_hub = read_scenario(suite).scenario.tasks
    monkeypatch.setenv("EMULATOR_TASKS", "tasks")
    of_folder = read_scenario(suite).scenario.tasks
    monkeypatch.setitem(sys.modules, "datasets", None)
    rows = {}
    for task in of_folder.names:
        for split in ("train", "test"):
            rows[task, split] = of_folder.examples(task, split, 1)
    monkeypatch.setitem(sys.modules, "datasets", hub)
    assert rows == {key: of_hub.examples(*key, 1) for key in rows}
    assert rows["trec", "train"][0].answer == "human"
    assert rows["sst2", "test"][-1].prompt.endswith(" of stanfordnlp/sst2")
    assert len(rows["sst2", "test"]) == 200


def test_the_experiment_of_ones_own_can_be_planned(tmp_path: Path) -> None:
    (found,) = re.findall(r"<!-- example: (\S+) -->\n```yaml\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / found[0]).write_text(found[1], encoding="utf-8")
    command = [sys.executable, "-m", "emulator", "reproduce", found[0], "--dry-run"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("6 of 6 to run, into ")


def test_the_tables_open_as_the_readme_shows(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(import pyarrow.*?)```", GUIDE, re.DOTALL)
    (run,) = re.findall(r'^run = "(\S+)"$', code, re.MULTILINE)
    command = [sys.executable, "-m", "emulator", "run", str(ROOT / "configs" / "quickstart.yaml")]
    command += ["--driver", "one_process", "--quiet", "--out", str(tmp_path / run), "--set"]
    command += ["devices=4", "rounds=1", "local.steps=12", "tasks.test_samples=4"]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=LIMIT_S)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 0
    assert "round_index" in done.stdout


def test_no_placeholder_is_left() -> None:
    found = set(re.findall(r"\b[A-Z]{4,}_[A-Z_]{3,}\b", GUIDE))
    variables = {"WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "HOST_RANK", "GLOO_SOCKET_IFNAME"}
    own = {"EMULATOR_DOCKER_TEST", "EMULATOR_TASKS", "EMULATOR_TRACEBACK"}
    assert found <= {*variables, *own, "OPENBLAS_CORETYPE"}
