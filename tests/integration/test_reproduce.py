"""A miniature experiment from end to end, and again: nothing is run twice."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import LIMIT_S

from emulator.core.errors import EmulatorError, ScenarioError
from emulator.experiments.reproduce import list_runs, plan_experiments, reproduce_experiments

ROOT = Path(__file__).resolve().parents[2]
MINIATURE = """\
title: Miniature
about: two rows, two seeds
suites:
  tiny:
    seeds: 2
    overrides:
      devices: 4
      rounds: 1
      topology: {kind: by_method, degree: 2}
      tasks: {kind: synthetic, names: [reverse, sort], train_samples: 100, test_samples: 4}
      local.steps: 1
reference: ours
baseline: lora
columns: [accuracy, trained_parameters, bytes_total]
rows:
  - {label: lora, about: the baseline, overrides: {method.kind: lora}, graphs: [random]}
  - {label: ours, about: sparse}
claims: [{kind: difference, above: ours, below: lora}]
charts: [{kind: bars}, {kind: layers, row: ours, metric: density}]
"""


def test_a_folder_that_cannot_be_drawn_into_is_refused_before_anything_runs(tmp_path):
    mini = tmp_path / "mini.yaml"
    mini.write_text(MINIATURE)
    todo = plan_experiments(str(mini), "tiny", None, (), [])
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/results.csv").write_text("precious")
    for name, told in (("file", "which is a file"), ("mine", "which holds no experiment")):
        out = tmp_path / name
        for call in (
            lambda out=out: reproduce_experiments(todo, out, 1, print),
            lambda out=out: list_runs(todo, out),
        ):
            with pytest.raises(ScenarioError, match=f"--out: got {out}, {told}, wanted "):
                call()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["results.csv"]


def test_what_the_system_refuses_is_reported(tmp_path, monkeypatch):
    mini = tmp_path / "mini.yaml"
    mini.write_text(MINIATURE)

    def full(*_arguments, **_more):
        raise OSError(errno.ENOSPC, "No space left on device")

    todo = plan_experiments(str(mini), "tiny", None, (), [])
    monkeypatch.setattr(Path, "mkdir", full)
    out = tmp_path / "out"
    with pytest.raises(EmulatorError, match=f"--out: {out}/runs cannot be written: .*No space"):
        reproduce_experiments(todo, out, 1, print)


def test_where_all_runs_fail_earlier_tables_stay(tmp_path):
    mini = tmp_path / "mini.yaml"
    mini.write_text(MINIATURE.replace("rounds: 1", "rounds: 1\n      method.lora_rank: 4000"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "table.md").write_text("of better days")
    told = []
    with pytest.raises(EmulatorError, match="2 of 2 runs failed"):
        reproduce_experiments(plan_experiments(str(mini), "tiny", 1, (), []), out, 2, told.append)
    assert told[-1] == "mini: 0 runs new, 0 were there, 2 failed: nothing drawn"
    assert (out / "table.md").read_text() == "of better days"


def called(folder, *arguments):
    """The command in a process of its own: exit code and lines on standard error."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [sys.executable, "-m", "emulator", "reproduce", str(folder / "mini.yaml"),
         "--out", str(folder / "out"), "--jobs", "2", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    return done.returncode, [*done.stdout.splitlines(), *done.stderr.splitlines()]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The first call: folder, exit code, lines."""
    folder = tmp_path_factory.mktemp("reproduce")
    (folder / "mini.yaml").write_text(MINIATURE)
    return folder, *called(folder)


@pytest.mark.slow
def test_the_first_call_runs_and_draws_everything(first):
    folder, code, told = first
    assert code == 0, told
    assert told[0] == "mini on tiny: 4 runs, 2 at a time"
    assert [line.split("]")[0] for line in told[1:5]] == ["[1/4", "[2/4", "[3/4", "[4/4"]
    assert told[5].startswith("mini: 4 runs new, 0 were there, 0 failed: ")
    names = {path.name for path in (folder / "out").iterdir()}
    assert names >= {"results.csv", "table.md", "plotly.min.js", "runs", "density-by-layer.html"}
    assert len((folder / "out/results.csv").read_text().splitlines()) == 5
    assert "| ours | 2 | " in (folder / "out/table.md").read_text()


@pytest.mark.slow
def test_the_second_call_runs_nothing_and_draws_the_same(first):
    folder, _, _ = first
    before = {p: p.read_bytes() for p in sorted((folder / "out").glob("*.*"))}
    code, told = called(folder)
    assert code == 0, told
    assert told[-1].startswith("mini: 0 runs new, 4 were there, 0 failed: ")
    assert {p: p.read_bytes() for p in sorted((folder / "out").glob("*.*"))} == before


@pytest.mark.slow
def test_a_dry_run_marks_what_is_there(first):
    folder, _, _ = first
    code, told = called(folder, "--dry-run", "--seeds", "3")
    assert code == 0
    assert told[:2] == ["mini: lora, seed 1 (there)", "mini: ours, seed 1 (there)"]
    assert told[-3:-1] == ["mini: lora, seed 3", "mini: ours, seed 3"]
    assert told[-1] == f"2 of 6 to run, into {folder / 'out' / 'runs'}"


@pytest.mark.slow
def test_what_was_not_asked_for_is_drawn_where_it_is_there(first):
    folder, _, _ = first
    code, told = called(folder, "--rows", "ours", "--seeds", "1")
    assert code == 0
    assert told[-1].startswith("mini: 0 runs new, 1 were there, 0 failed: ")
    table = (folder / "out/table.md").read_text()
    assert "| lora | 2 | " in table
    assert "| ours | 2 | " in table


@pytest.mark.slow
def test_only_runs_to_come_count_as_left(first):
    folder, _, _ = first
    more = "  - {label: more, about: denser, overrides: {method.density: 0.5}}\nclaims:"
    (folder / "mini.yaml").write_text(MINIATURE.replace("claims:", more))
    code, told = called(folder, "--seeds", "1")
    assert code == 0, told
    assert told[1].startswith("[3/3] more, seed 1: ")
    assert told[1].endswith("; the last one")


@pytest.mark.slow
def test_a_failing_row_leaves_the_others(first):
    folder, _, _ = first
    text = MINIATURE.replace(
        "{method.kind: lora}", "{method.kind: lora, method.learning_rate: 1.0e+30, local.steps: 3}"
    )
    (folder / "mini.yaml").write_text(text)
    code, told = called(folder, "--seeds", "1")
    assert code == 1
    failed = [line for line in told if line.startswith("failed: ")]
    assert len(failed) == 1
    assert failed[0].startswith("failed: lora, seed 1: device ")
    assert "diverged" in failed[0]
    table = (folder / "out/table.md").read_text()
    assert "## Missing\n\n- lora, seed 1: " in table
    assert "| ours | 2 | " in table


@pytest.mark.slow
def test_an_interrupted_experiment_keeps_what_is_finished(first):
    folder, _, _ = first
    endless = MINIATURE.replace("seeds: 2", "seeds: 50").replace("local.steps: 1", "local.steps: 2")
    (folder / "mini.yaml").write_text(endless)
    begun = subprocess.Popen(
        [sys.executable, "-m", "emulator", "reproduce", str(folder / "mini.yaml"),
         "--out", str(folder / "broken"), "--jobs", "2"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as in the background
    )  # fmt: skip
    assert begun.stderr is not None
    told = [begun.stderr.readline() for _ in range(2)]
    begun.send_signal(signal.SIGINT)
    rest = begun.stderr.read()
    assert begun.wait(LIMIT_S) == 130
    assert told[1].startswith("[1/100] ")
    assert rest.endswith(
        "interrupted: the finished runs are kept, the same command goes on from there\n"
    )
    left = sorted((folder / "broken/runs").iterdir())
    assert left
    names = [{entry.name for entry in run.iterdir()} for run in left]
    assert all("summary.json" in each or each == {"checkpoints"} for each in names)
    assert any("summary.json" in each for each in names)
