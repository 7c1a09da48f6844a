"""The command line as a user meets it: outputs, exit codes, and nothing left behind."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from processes import LIMIT_S, without_progress
from quick import quick_scenario
from typer.testing import CliRunner

from emulator.cli.app import app
from emulator.runtime.kept_files import is_written
from emulator.scenario.load import dump_scenario, read_scenario

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "configs/quickstart.yaml"

pytestmark = pytest.mark.usefixtures("no_launcher")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A scenario of a few seconds."""
    return quick_scenario(tmp_path_factory.mktemp("scenario"))


@pytest.fixture(scope="module")
def finished(quick, tmp_path_factory):
    """A real run in processes of its own, not watched by a terminal: (folder, stdout, stderr)."""
    out = tmp_path_factory.mktemp("runs") / "out"
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "run", str(quick), "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out, done.stdout, without_progress(done.stderr)


def call(*arguments):
    """The command line in this process: (exit code, stdout, stderr)."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# ── check, schema, overrides ─────────────────────────────────────────────────────────────────────


def test_check_prints_the_whole_scenario(tmp_path):
    code, stdout, stderr = call("check", QUICKSTART)
    assert (code, stderr) == (0, "")
    scenario = read_scenario(QUICKSTART).scenario
    assert stdout == dump_scenario(scenario)
    again = tmp_path / "again.yaml"
    again.write_text(stdout)
    assert read_scenario(again).scenario == scenario


def test_overrides_come_behind_set_or_bare():
    arguments = ("--set", "local.steps=3", "rounds=2", "devices=16", "--set", "method.kind=lora")
    code, stdout, stderr = call("check", QUICKSTART, *arguments)
    assert (code, stderr) == (
        0, "note: method.kind=lora drops method.density (lora has no such field)\n",
    )  # fmt: skip
    printed = yaml.safe_load(stdout)
    assert (printed["rounds"], printed["devices"], printed["local"]["steps"]) == (2, 16, 3)


def test_version_is_that_of_the_package():
    assert call("--version") == (0, f"{metadata.version('wireless-dfl-emulator')}\n", "")


def test_schema_is_json_of_all_sections():
    code, stdout, stderr = call("schema")
    assert (code, stderr) == (0, "")
    assert {"name", "devices", "channel", "method"} <= set(json.loads(stdout)["properties"])
    code, stdout, stderr = call("schema", "--experiment")
    assert (code, stderr) == (0, "")
    assert {"rows", "suites", "claims", "charts"} <= set(json.loads(stdout)["properties"])


def test_one_thread_whatever_the_environment_sets():
    code = "import os, emulator.__main__; print(os.environ['OMP_NUM_THREADS'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "4"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "1\n"


# ── a run ────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_writes_what_is_promised(finished):
    out, _, _ = finished
    adapter = ("adapter_config.json", "adapter_model.safetensors")
    promised = {
        "scenario.yaml", "environment.json", "metrics.parquet", "ledger.parquet", "topology.json",
        "summary.json",
    }  # fmt: skip
    for device in ("device-00", "device-01"):
        promised |= {f"adapters/{device}/{name}" for name in adapter}
        promised |= {f"experts/{device}/{name}" for name in ("experts.json", "router.safetensors")}
        promised |= {
            f"experts/{device}/{task}/{n}" for task in ("reverse", "sort") for n in adapter
        }
    checkpoints = {"checkpoints/scenario.yaml"}
    for device in ("device-00", "device-01"):
        checkpoints.add(f"checkpoints/records/{device}.jsonl")
        checkpoints |= {f"checkpoints/round-0000/{device}.{e}" for e in ("json", "safetensors")}
    assert files_of(out) == promised | checkpoints
    assert all(map(is_written, promised))
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_run_prints_what_scripts_rely_on(finished):
    summary = json.loads((finished[0] / "summary.json").read_text())
    assert {
        "method", "devices", "rounds", "seed", "accuracy", "routing_accuracy", "collision_rate",
        "bytes", "emulated_s", "airtime_s", "energy_j", "wall_s", "cpu_s", "train_cpu_s",
        "peak_rss_mb",
    } <= set(summary)  # fmt: skip
    assert (summary["method"], summary["devices"], summary["rounds"]) == ("sparse_orthogonal", 2, 1)
    assert set(summary["accuracy"]["per_task"]) == {"reverse", "sort"}
    assert summary["bytes"]["total"] > 0


def test_without_a_terminal_there_is_the_table_and_nothing_else(finished):
    out, stdout, stderr = finished
    assert stderr == ""
    assert stdout.startswith("quick: 2 devices, rounds 1, seed 1")
    assert "".join(stdout.partition("Files")[2].split()) == f"sparse_orthogonal:{out}"
    assert "\x1b" not in stdout
    reported = call("report", out)[1]
    assert reported.startswith(stdout)
    assert reported.removeprefix(stdout).startswith("routed from (row) to (column)")


def test_the_written_scenario_runs_again_to_the_same_bytes(finished, tmp_path):
    out, again = finished[0], tmp_path / "again"
    code, stdout, stderr = call(
        "run", out / "scenario.yaml", "--driver", "one_process", "--out", again, "--quiet"
    )
    assert (code, stdout, stderr) == (0, "", "")
    assert files_of(again) == files_of(out)
    for name in files_of(out) - {"environment.json", "summary.json"}:
        if name.startswith("checkpoints/round") and name.endswith(".json"):
            continue  # with CPU and wall time
        assert (again / name).read_bytes() == (out / name).read_bytes(), name


def test_force_replaces_a_run_whole(quick, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "scenario.yaml").write_text("name: earlier\n")
    (out / "adapters" / "device-07").mkdir(parents=True)
    (out / "adapters" / "device-07" / "adapter_config.json").write_text("{}")
    (out / "notes.txt").write_text("mine")
    code, _, stderr = call(
        "run",
        quick,
        "method.kind=lora",
        "--driver",
        "one_process",
        "--out",
        out,
        "--force",
        "--quiet",
    )
    assert (code, stderr) == (
        0,
        f"note: --out: {out}: not written by a run and left as it is: notes.txt\n",
    )
    assert not (out / "adapters" / "device-07").exists()
    assert (out / "notes.txt").read_text() == "mine"
    assert json.loads((out / "summary.json").read_text())["method"] == "lora"


# ── wrong input: exit code 2, one line, nothing written ──────────────────────────────────────────


@pytest.fixture
def refused(tmp_path):
    """Exit code 2, only `error:` lines; the folder --out is not there afterwards."""

    def told(*arguments):
        out = tmp_path / "runs" / "out"
        code, stdout, stderr = call("run", *arguments, "--out", out)
        assert (code, stdout) == (2, "")
        assert not out.parent.exists()
        lines = stderr.splitlines()
        assert lines
        assert all(line.startswith("error: ") for line in lines)
        return lines

    return told


def test_every_problem_of_a_scenario_is_a_line(refused):
    lines = refused(QUICKSTART, "method.density=1.7", "rouds=3", "--set", "local.steps=0")
    assert len(lines) == 3
    assert lines[0].startswith("error: quickstart.yaml: ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nowhere.yaml",), "error: nowhere.yaml: no such file, wanted a scenario in YAML"),
        ((QUICKSTART, "rounds"), "error: --set: got 'rounds', wanted key.path=value"),
        (
            (QUICKSTART, "--driver", "threads"),
            "error: --driver: got 'threads', wanted one of many_processes, one_process",
        ),
    ],
    ids=["no file", "no value", "no driver"],
)
def test_wrong_arguments_are_a_line(refused, arguments, line):
    assert refused(*arguments) == [line]


def test_a_missing_data_file_is_a_line(refused, tmp_path):
    scenario = tmp_path / "s.yaml"
    scenario.write_text("name: s\ntasks: {kind: jsonl, folder: data, names: [sst2]}\n")
    (tmp_path / "data").mkdir()
    assert refused(scenario) == [
        f"error: s.yaml: tasks.names: got 'sst2', which has no folder in {tmp_path}/data, wanted some of "
        "the tasks there (none)"
    ]
    (tmp_path / "data" / "sst2").mkdir()
    missing = tmp_path / "data" / "sst2"
    assert refused(scenario) == [
        f"error: s.yaml: tasks.folder: got no file {missing}/{split}.jsonl, wanted {split}.jsonl of 'sst2'"
        for split in ("test", "train")
    ]


def test_a_broken_data_file_is_a_line_with_its_number(refused, tmp_path):
    (tmp_path / "data" / "sst2").mkdir(parents=True)
    (tmp_path / "data" / "sst2" / "test.jsonl").write_text('{"prompt": "a", "answer": "b"}\n{\n')
    scenario = tmp_path / "s.yaml"
    scenario.write_text("name: s\ntasks: {kind: jsonl, folder: data, names: [sst2]}\n")
    missing, first, second = refused(scenario)
    assert "got no file" in missing
    assert "test.jsonl:1: got neither choices nor completion, wanted" in first
    assert "test.jsonl:2: got no JSON" in second


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["plain", "force"])
def test_a_folder_without_a_run_is_never_replaced(quick, tmp_path, force):
    (tmp_path / "thesis.txt").write_text("years of work")
    code, stdout, stderr = call("run", quick, "--out", tmp_path, *force)
    assert (code, stdout) == (2, "")
    wanted = "a run's folder to replace" if force else "another folder or --force"
    assert stderr.startswith(f"error: --out: got {tmp_path}, which ")
    assert stderr.endswith(f"wanted {wanted}\n")
    assert files_of(tmp_path) == {"thesis.txt"}


def test_an_earlier_run_is_refused_without_force(finished, quick):
    before = (finished[0] / "summary.json").read_bytes()
    code, _, stderr = call("run", quick, "--out", finished[0])
    assert (code, stderr) == (
        2,
        f"error: --out: got {finished[0]}, which is not empty, wanted another folder or --force\n",
    )
    assert (finished[0] / "summary.json").read_bytes() == before


def test_a_file_is_no_folder(quick, tmp_path):
    out = tmp_path / "out"
    out.write_text("x")
    code, _, stderr = call("run", quick, "--out", out, "--force")
    assert (code, stderr) == (2, f"error: --out: got {out}, which is a file, wanted a folder\n")


# ── report and compare ───────────────────────────────────────────────────────────────────────────


def test_compare_sets_runs_side_by_side(finished):
    code, stdout, stderr = call("compare", finished[0], finished[0])
    assert (code, stderr) == (0, "")
    assert "+0.0 points" in stdout


@pytest.mark.parametrize("verb", ["report", "compare"])
def test_a_folder_without_a_summary_is_a_line(verb, tmp_path):
    assert call(verb, tmp_path) == (
        2, "", f"error: {tmp_path}: got no summary.json there, wanted the folder of a run\n",
    )  # fmt: skip


def test_the_ledger_adds_up_to_the_summary(finished):
    code, stdout, stderr = call("ledger", finished[0], "--json")
    assert (code, stderr) == (0, "")
    told = json.loads(stdout)["total"]
    spent = json.loads((finished[0] / "summary.json").read_text())["bytes"]
    assert told["total_bytes"] == spent["total"] > 0
    for name in ("payload", "mask", "retransmitted", "lost"):
        assert told[f"{name}_bytes"] == spent[name]
    assert told["ack_bytes"] == spent["ack"]
    assert told["header_bytes"] + told["checksum_bytes"] == spent["header"]


@pytest.mark.parametrize("verb", ["report", "compare", "ledger"])
def test_reports_import_no_torch(finished, verb):
    code = (
        "import sys\nfrom emulator.cli.app import app\n"
        f"app([{verb!r}, {str(finished[0])!r}], standalone_mode=False)\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupt_while_torch_is_imported_is_a_line_too(quick, monkeypatch):
    class Interrupted:
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "emulator.runtime.launcher_env", Interrupted())
    assert call("run", quick) == (130, "", "interrupted: nothing was written\n")


def test_an_interrupt_after_the_writing_names_the_folder(quick, tmp_path, monkeypatch):
    def interrupted(runs):
        raise KeyboardInterrupt

    monkeypatch.setattr("emulator.analysis.run_tables.compare_runs", interrupted)
    out = tmp_path / "out"
    assert call("run", quick, "--driver", "one_process", "--out", out) == (
        130, "", f"interrupted: all files were written already, in {out}\n",
    )  # fmt: skip
    assert (out / "summary.json").is_file()
    assert not (out / "running.json").exists()


def test_a_dry_run_leaves_nothing(quick, tmp_path):
    told = "quick-sparse_orthogonal-1: checked and loaded, nothing was run; number of devices:\n"
    assert call("run", quick, "--dry-run", "--out", tmp_path / "a" / "b") == (0, "2\n", told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_a_name_that_is_too_long_for_a_folder_is_reported_before_the_run(
    quick, tmp_path, monkeypatch, dry
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "emulator.runtime.run.build_world", lambda scenario: pytest.fail("it began")
    )
    monkeypatch.setattr(
        "emulator.scenario.world.build_world", lambda scenario: pytest.fail("it began")
    )
    out = tmp_path / ("n" * 300)
    code, stdout, stderr = call("run", quick, "--out", out, *dry)
    assert (code, stdout) == (2, "")
    assert stderr == (
        f"error: --out: got {out}, wanted a folder that can be made (File name too long)\n"
    )


def test_a_run_may_go_into_the_empty_folder_one_stands_in(quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, stderr = call("run", quick, "--driver", "one_process", "--out", ".", "--quiet")
    assert (code, stderr) == (0, "")
    assert (tmp_path / "summary.json").is_file()


def test_a_folder_that_cannot_be_made_is_reported_before_the_run(quick, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(
        "emulator.runtime.run.build_world", lambda scenario: pytest.fail("it began")
    )
    code, _, stderr = call("run", quick, "--out", tmp_path / "file" / "out")
    assert code == 2
    assert stderr.startswith(f"error: --out: got {tmp_path / 'file' / 'out'}, ")
