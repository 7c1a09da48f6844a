"""Reports read the files of runs, and nothing else."""

import json
import subprocess
import sys

import pytest
from rich.console import Console

from emulator.analysis.run_tables import build_confusion_table, compare_runs
from emulator.core.errors import ScenarioError
from emulator.core.run_files import read_summary

SUMMARY = {
    "name": "quick", "method": "lora", "devices": 2, "rounds": 3, "seed": 1,
    "accuracy": {"mean": 0.25, "own_task": 0.5, "per_task": {"reverse": 0.125, "sort": 0.375}},
    "routing_accuracy": None, "collision_rate": None,
    "bytes": {"total": 3_500_000, "setup": 1_000, "in_cluster": 3_499_000, "inter_cluster": 0},
    "emulated_s": 12.25, "airtime_s": 3.5, "energy_transmit_j": 0.125, "energy_compute_j": 10.0,
    "wall_s": 4.2,
}  # fmt: skip
SPARSE = SUMMARY | {
    "method": "sparse_orthogonal",
    "accuracy": {"mean": 0.5, "own_task": 0.5, "per_task": {"reverse": 0.5, "sort": 0.5}},
    "routing_accuracy": 0.875,
    "bytes": {
        "total": 1_750_000,
        "setup": 1_000,
        "in_cluster": 1_000_000,
        "inter_cluster": 749_000,
    },
}


@pytest.fixture
def run_folder(tmp_path):
    """Write a summary, and a scenario if there is one, as the folder of a run."""

    def written(name, summary, scenario="name: quick\n"):
        folder = tmp_path / name
        folder.mkdir()
        text = summary if isinstance(summary, str) else json.dumps(summary)
        (folder / "summary.json").write_text(text)
        (folder / "scenario.yaml").write_text(scenario)
        return folder

    return written


def shown(*folders):
    """The cells of each row of a comparison."""
    console = Console(width=200)
    with console.capture() as capture:
        console.print(compare_runs(folders))
    lines = capture.get().splitlines()
    rows = [[cell.strip() for cell in line.strip()[1:-1].split("│")] for line in lines]
    return {row[0]: row[1:] for row in rows}, lines


def test_many_runs_come_in_tables_of_five(run_folder):
    runs = [run_folder(f"run{n}", SUMMARY, f"name: quick\nrounds: {n}\n") for n in range(7)]
    _, lines = shown(*runs)
    named = [[n for n in range(7) if f"run{n} " in line] for line in lines if "┃" in line]
    assert [found for found in named if found] == [[0, 1, 2, 3, 4], [5, 6]]
    cells = [line.split("│")[1:-1] for line in lines if "│   rounds " in line]
    numbers = [[cell.strip() for cell in row[1:]] for row in cells]
    assert [row for row in numbers if "MB" not in row[0]] == [["0", "1", "2", "3", "4"], ["5", "6"]]


def test_one_run_in_its_units(run_folder):
    rows, lines = shown(run_folder("a", SUMMARY))
    assert lines[0].strip() == "quick: 2 devices, rounds 3, seed 1"
    assert rows["reverse"] == ["12.5 %"]
    assert rows["mean over devices and tasks"] == ["25.0 %"]
    assert rows["routed to the right expert"] == ["-"]
    assert rows["setup"] == ["1.0 kB"]
    assert rows["total"] == ["3.50 MB"]
    assert rows["emulated time"] == ["12.2 s"]
    assert rows["transmit energy"] == ["0.12 J"]


def test_the_title_follows_the_columns(run_folder):
    sizes = {"many": (8, 10, 2), "few": (6, 4, 1), "again": (8, 4, 2)}
    folders = [
        run_folder(
            name, SUMMARY | {"devices": devices, "rounds": rounds, "seed": seed, "name": name}
        )
        for name, (devices, rounds, seed) in sizes.items()
    ]
    _, lines = shown(*folders)
    assert lines[0].strip() == "many, few, again: 8/6 devices, rounds 10/4, seed 2/1"


def test_a_run_that_a_limit_ended_shows_both_numbers_of_rounds(run_folder):
    _, lines = shown(run_folder("a", SUMMARY | {"rounds_planned": 3}))
    assert lines[0].strip() == "quick: 2 devices, rounds 3, seed 1"
    _, lines = shown(run_folder("b", SUMMARY | {"rounds_planned": 10}))
    assert lines[0].strip() == "quick: 2 devices, rounds 3 of 10 (stop), seed 1"


def test_bursts_that_arrive_after_the_end_are_shown(run_folder):
    rows, _ = shown(run_folder("a", SUMMARY | {"last_arrival_s": 12.25}))
    assert "until the last burst arrived" not in rows
    rows, _ = shown(run_folder("b", SUMMARY | {"last_arrival_s": 29.04}))
    assert rows["until the last burst arrived"] == ["29.0 s"]


def test_two_runs_and_their_difference(run_folder):
    rows, _ = shown(run_folder("a", SUMMARY), run_folder("b", SPARSE))
    assert rows["mean over devices and tasks"] == ["25.0 %", "50.0 %", "+25.0 points"]
    assert rows["total"] == ["3.50 MB", "1.75 MB", "-50.0 %"]
    assert rows["routed to the right expert"] == ["-", "87.5 %", ""]
    assert rows["final exchange"] == ["0.0 kB", "749.0 kB", ""]


def test_three_runs_have_no_difference(run_folder):
    folders = [run_folder(name, SUMMARY | {"seed": seed}) for seed, name in enumerate("abc")]
    rows, lines = shown(*folders)
    assert len(rows["total"]) == 3
    assert "seed 0/1/2" in lines[0]


def test_the_folders_are_named(run_folder):
    folders = [run_folder("a", SUMMARY), run_folder("b", SPARSE)]
    _, lines = shown(*folders)
    assert lines[-2:] == [f"lora: {folders[0]}", f"sparse_orthogonal: {folders[1]}"]


def test_settings_that_differ_are_shown_and_no_others(run_folder):
    sent = "name: quick\nmethod: {{kind: {0}}}\nlocal: {{steps: 5}}\ntopology: {{degree: {1}}}\n"
    rows, _ = shown(
        run_folder("a", SUMMARY, sent.format("lora", "null")),
        run_folder("b", SPARSE, sent.format("sparse_orthogonal, density: 0.1", 4)),
    )
    assert rows["method.kind"][:2] == ["lora", "sparse_orthogonal"]
    assert rows["topology.degree"][:2] == ["default", "4"]
    assert not {"name", "local.steps", "method.density"} & rows.keys()


def test_a_long_setting_is_cut(run_folder):
    names = [f"tasks: {{names: [{', '.join(names)}]}}\n" for names in (["a"], ["reverse"] * 6)]
    rows, _ = shown(run_folder("a", SUMMARY, names[0]), run_folder("b", SPARSE, names[1]))
    assert rows["tasks.names"][:2] == ["[a]", "[reverse, reverse, reverse, r…"]


def test_settings_that_are_all_alike_are_not_mentioned(run_folder):
    rows, _ = shown(run_folder("a", SUMMARY), run_folder("b", SPARSE))
    assert "settings that differ" not in rows


def test_runs_of_different_tasks_stand_side_by_side(run_folder):
    other = SPARSE | {"accuracy": SPARSE["accuracy"] | {"per_task": {"mirror": 0.5}}}
    rows, _ = shown(run_folder("a", SUMMARY), run_folder("b", other))
    assert rows["mirror"] == ["-", "50.0 %", ""]
    assert rows["sort"] == ["37.5 %", "-", ""]


ROUTED = SPARSE | {
    "routing": {
        "accuracy_paraphrased": 0.0,
        "abstained": 0.125,
        "abstained_paraphrased": None,
        "abstained_unseen": None,
        "abstention_auroc": 0.9375,
        "confusion": {
            "reverse": {"abstained": 0.25, "reverse": 0.75, "sort": 0.0},
            "sort": {"abstained": 0.0, "reverse": 0.5, "sort": 0.5},
        },
    }
}


def test_what_was_measured_of_the_router_is_shown_and_nothing_else(run_folder):
    rows, _ = shown(run_folder("routed", ROUTED))
    assert rows["routed right in other words"] == ["0.0 %"]
    assert rows["left to the backbone"] == ["12.5 %"]
    assert rows["unseen against known tasks (AUROC)"] == ["0.938"]
    assert "left to the backbone, unseen tasks" not in rows


def test_the_confusion_of_tasks_is_a_table(run_folder):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(build_confusion_table(run_folder("routed", ROUTED)))
    rows = [line.replace("│", " ").split() for line in capture.get().splitlines()]
    assert ["reverse", "75.0", "%", "0.0", "%", "25.0", "%"] in rows
    assert ["sort", "50.0", "%", "50.0", "%", "0.0", "%"] in rows
    assert build_confusion_table(run_folder("plain", SUMMARY)) is None


def test_a_folder_without_a_summary_is_told(tmp_path):
    with pytest.raises(ScenarioError) as caught:
        read_summary(tmp_path)
    assert caught.value.problems == (
        f"{tmp_path}: got no summary.json there, wanted the folder of a run",
    )


def test_a_summary_that_is_no_json_is_told(run_folder):
    with pytest.raises(
        ScenarioError, match=r"summary\.json: got no JSON .* wanted a run's summary"
    ):
        read_summary(run_folder("a", "{"))


@pytest.mark.parametrize("text", ["{}", "[]", '{"name": "quick"}'])
def test_a_summary_of_something_else_is_told(run_folder, text):
    with pytest.raises(ScenarioError, match="wanted a run's summary"):
        compare_runs([run_folder("a", text)])


def test_records_and_reports_need_no_torch():
    code = (
        "import sys, emulator.analysis.run_tables, emulator.core.records, emulator.analysis.ledger.report, emulator.cli.app\n"
        "heavy = {'torch', 'transformers', 'peft', 'pandas'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
