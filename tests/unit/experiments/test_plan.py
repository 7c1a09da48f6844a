"""From an experiment to runs: scenarios, folders, graphs, and what counts as done."""

import json
from typing import Literal

import pytest
import yaml

from emulator.core.errors import ScenarioError
from emulator.core.records import parquet
from emulator.core.section import Section
from emulator.core.types.records import LinkRecord
from emulator.experiments.load import list_experiments, read_experiment
from emulator.experiments.plan import (
    Selection,
    derive_graph_overrides,
    is_complete,
    name_run_folder,
    parse_overrides,
    plan_runs,
    resolve,
)
from emulator.experiments.schema import Experiment
from emulator.scenario.load import dump_scenario
from emulator.scenario.schema import Scenario

EXPERIMENT = Experiment.model_validate(
    yaml.safe_load("""
title: Small
about: two rows on an axis
suites: {tiny: {seeds: 2, overrides: {devices: 8, local.steps: 3}}}
columns: [accuracy]
reference: ours
rows:
  - {label: lora, about: x, overrides: {method.kind: lora, method.learning_rate: 0.5},
     graphs: [random, clusters]}
  - {label: ours, about: y}
axis:
  label: rounds
  points: [{x: 1, overrides: {rounds: 1}}, {x: 2, overrides: {rounds: 2}}]
""")
)
LINK = LinkRecord(
    0, 0, "in_cluster", 0, 1, 1, 1, 0, 1, 30, 4, 0, 66, 7, 9, 0, 107, 0.0, 0.1, 0.1, 1e3, 0.1, 0.01,
    False,
)  # fmt: skip


def selection(**wanted):
    return Selection(**{"suite": "tiny", "seeds": None, "rows": (), "overrides": {}, **wanted})


def runs(**wanted):
    return {
        run.key: run for run in plan_runs("small", EXPERIMENT, selection(**wanted)).selected_runs
    }


def test_every_row_at_every_place_with_every_seed():
    wanted = runs()
    assert len(wanted) == 3 * 2 * 2
    scenario = resolve(wanted["lora", 2.0, 1], {"topology": {"kind": "complete"}})
    assert (scenario.rounds, scenario.seed, scenario.devices) == (2, 1, 8)
    assert scenario.local.steps == 3
    assert scenario.method.learning_rate == 0.5
    assert scenario.topology.kind == "complete"


def test_a_suite_gives_the_rate_that_a_row_does_not():
    assert resolve(runs()["ours", 1.0, 2], {}).method.learning_rate == 5e-2


def test_so_it_gives_it_to_a_row_that_names_its_method():
    named = {"overrides": {"method": {"kind": "sparse_orthogonal"}}}
    rows = (EXPERIMENT.rows[0], EXPERIMENT.rows[1].model_copy(update=named))
    experiment = EXPERIMENT.model_copy(update={"rows": rows})
    run = {run.key: run for run in plan_runs("small", experiment, selection()).selected_runs}[
        "ours", 1.0, 2
    ]
    assert resolve(run, {}).method.learning_rate == 5e-2


def test_rows_on_another_graph_wait_for_the_reference_of_their_seed_and_place():
    wanted = runs()
    assert wanted["lora on clusters", 2.0, 1].after == ("ours", 2.0, 1)
    assert wanted["ours", 2.0, 1].after is None


def test_a_row_on_a_mesh_waits_for_no_run():
    rows = (EXPERIMENT.rows[0].model_copy(update={"graphs": ("mesh",)}),)
    meshed = EXPERIMENT.model_copy(update={"rows": rows, "reference": None})
    (first, *_) = plan_runs("small", meshed, selection()).selected_runs
    assert (first.after, resolve(first, {}).topology.kind) == (None, "complete")


def test_what_is_fixed_is_one_run_at_all_places(tmp_path):
    rows = (EXPERIMENT.rows[1].model_copy(update={"fixed": {"rounds": 3}}),)
    wanted = plan_runs(
        "small", EXPERIMENT.model_copy(update={"rows": rows}), selection(seeds=1)
    ).selected_runs
    scenarios = [resolve(run, {}) for run in wanted]
    assert [(run.x, scenario.rounds) for run, scenario in zip(wanted, scenarios, strict=True)] == [
        (1.0, 3),
        (2.0, 3),
    ]
    assert len({name_run_folder(tmp_path, scenario) for scenario in scenarios}) == 1


def test_what_a_suite_leaves_out_runs_if_asked_for():
    use = EXPERIMENT.suites["tiny"].model_copy(update={"without": ("lora",)})
    without = EXPERIMENT.model_copy(update={"suites": {"tiny": use}})
    assert {row.label for row in plan_runs("small", without, selection()).rows} == {
        "lora on clusters",
        "ours",
    }
    asked = plan_runs("small", without, selection(rows=("lora",)))
    assert {run.row.label for run in asked.selected_runs} == {"lora", "ours"}


def on_qwen(overrides):
    """The first run of the small experiment on the suite `qwen`, with no axis."""
    use = EXPERIMENT.suites["tiny"].model_copy(update={"overrides": overrides})
    experiment = EXPERIMENT.model_copy(update={"suites": {"qwen": use}, "axis": None})
    return plan_runs("small", experiment, selection(suite="qwen", rows=("ours",))).selected_runs[0]


def test_tasks_of_the_hub_are_picked_by_name():
    run = on_qwen({"devices": 2, "tasks.names": ["piqa", "boolq"]})
    tasks = resolve(run, {}).tasks
    assert tasks.names == ("piqa", "boolq")
    assert tasks.tasks[1].dataset == "google/boolq"
    assert "tasks.names" not in run.overrides


def test_an_unknown_task_of_the_hub_lists_the_known_ones():
    with pytest.raises(
        ScenarioError, match=r"tasks\.names: got 'sort', wanted some of boolq, piqa"
    ):
        on_qwen({"devices": 2, "tasks.names": ["sort"]})


def test_chosen_rows_bring_their_reference():
    assert {key[0] for key in runs(rows=("lora",))} == {"lora", "ours"}
    assert {key[0] for key in runs(rows=("ours",), seeds=1)} == {"ours"}


def test_the_users_overrides_come_last():
    scenario = resolve(runs(overrides={"local.steps": 9})["ours", 1.0, 1], {})
    assert scenario.local.steps == 9


def problems_of(experiment, **wanted):
    with pytest.raises(ScenarioError) as caught:
        plan_runs("small", experiment, selection(**wanted))
    return caught.value.problems


def test_a_problem_of_some_rows_names_each_of_them():
    wrong = EXPERIMENT.rows[0].model_copy(update={"overrides": {"local.steps": 0}})
    experiment = EXPERIMENT.model_copy(update={"rows": (wrong, EXPERIMENT.rows[1])})
    lines = problems_of(experiment)
    assert [line.split(" tiny.yaml: ")[0] for line in lines] == [
        "small: lora:", "small: lora on clusters:",
    ]  # fmt: skip


def test_a_problem_of_all_rows_is_one_line():
    (line,) = problems_of(EXPERIMENT, overrides={"local.batch_size": 0})
    assert line.startswith("small: tiny.yaml: local.batch_size: got 0, ")


@pytest.mark.parametrize("method", ["lora", ["lora"]])
def test_a_method_that_is_no_section_is_a_problem_like_others(method):
    wrong = EXPERIMENT.rows[1].model_copy(update={"overrides": {"method": method}})
    lines = problems_of(EXPERIMENT.model_copy(update={"rows": (EXPERIMENT.rows[0], wrong)}))
    assert all("method" in line for line in lines)


def test_a_suite_that_is_misspelt_is_guessed():
    with pytest.raises(
        ScenarioError, match=r"--suite: got 'real_text', .*; did you mean 'real-text'\?$"
    ):
        plan_runs("small", EXPERIMENT, selection(suite="real_text"))


def test_null_undoes_what_the_axis_sets():
    rows = (EXPERIMENT.rows[1].model_copy(update={"fixed": {"rounds": None}}),)
    wanted = plan_runs(
        "small", EXPERIMENT.model_copy(update={"rows": rows}), selection(seeds=1)
    ).selected_runs
    assert {resolve(run, {}).rounds for run in wanted} == {12}  # the suite's


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"suite": "huge"}, "--suite: got 'huge', wanted one of tiny, "),
        ({"suite": "qwen"}, "--suite: got 'qwen' for small, wanted one of tiny"),
        ({"rows": ("loar",)}, "--rows: got 'loar', wanted some of lora, lora on clusters, ours"),
        ({"overrides": {"rounds": 0}}, "small: tiny.yaml: rounds: got 0, wanted a whole "),
        ({"overrides": {"seed": 9}}, "small: seed: got 9, wanted none (--seeds N runs seeds 1"),
    ],
)
def test_wrong_selections_are_reported_before_anything_runs(wanted, expected):
    if "rounds" in wanted.get("overrides", {}):
        experiment = EXPERIMENT.model_copy(update={"axis": None})
    else:
        experiment = EXPERIMENT
    with pytest.raises(ScenarioError) as caught:
        plan_runs("small", experiment, selection(**wanted))
    assert any(line.startswith(expected) for line in caught.value.problems)


def test_equal_scenarios_share_a_folder_and_others_do_not(tmp_path):
    wanted = runs()
    ours = resolve(wanted["ours", 1.0, 1], {})
    again = resolve(runs()["ours", 1.0, 1], {})
    assert name_run_folder(tmp_path, ours) == name_run_folder(tmp_path, again)
    others = [resolve(wanted["ours", x, seed], {}) for x, seed in ((1.0, 2), (2.0, 1))]
    assert len({name_run_folder(tmp_path, s) for s in (ours, *others)}) == 3
    assert name_run_folder(tmp_path, ours).name.startswith("sparse_orthogonal-")


def test_what_joins_the_scenario_with_a_default_moves_no_folder(tmp_path):
    class Weather(Section):
        kind: Literal["dry"] = "dry"
        rain_mm: float = 0.0

    class Later(Scenario):
        weather: Weather = Weather()

    ours = resolve(runs()["ours", 1.0, 1], {})
    later = Later(**ours.model_dump())
    assert name_run_folder(tmp_path, later) == name_run_folder(tmp_path, ours)
    wet = Later(**ours.model_dump(), weather={"rain_mm": 1.0})
    assert name_run_folder(tmp_path, wet) != name_run_folder(tmp_path, ours)


def test_other_data_or_another_plug_in_are_another_run(tmp_path, monkeypatch):
    row = '{"prompt": "a fine day", "choices": ["good", "bad"], "answer": "good"}\n'
    (tmp_path / "mood").mkdir()
    for split in ("train", "test"):
        (tmp_path / "mood" / f"{split}.jsonl").write_text(row * 9)
    plug_in = tmp_path / "house_of_a_planner.py"
    code = "from emulator.methods import Lora\nclass Mine(Lora):\n    kind: str = 'mine'\n"
    plug_in.write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    tasks = {"kind": "jsonl", "folder": str(tmp_path), "names": ["mood"]}
    given = {"tasks": tasks, "method": {"kind": "house_of_a_planner:Mine"}}
    rows = (EXPERIMENT.rows[1].model_copy(update={"overrides": given}),)
    (run, *_) = plan_runs(
        "small", EXPERIMENT.model_copy(update={"rows": rows}), selection()
    ).selected_runs
    scenario = resolve(run, {})
    folders = [name_run_folder(tmp_path, scenario)]
    plug_in.write_text(f"{code}    more: int = 1\n")
    folders.append(name_run_folder(tmp_path, scenario))
    (tmp_path / "mood" / "train.jsonl").write_text(row * 10)
    folders.append(name_run_folder(tmp_path, scenario))
    assert len(set(folders)) == 3
    plug_in.write_text(code)
    (tmp_path / "mood" / "train.jsonl").write_text(row * 9)
    assert name_run_folder(tmp_path, scenario) == folders[0]


def test_a_run_is_whole_when_it_ended_and_was_of_this_very_scenario(tmp_path):
    wanted = runs()
    scenario = resolve(wanted["ours", 1.0, 1], {})
    other = resolve(wanted["ours", 2.0, 1], {})
    assert not is_complete(tmp_path, scenario)
    (tmp_path / "scenario.yaml").write_text(dump_scenario(scenario))
    assert not is_complete(tmp_path, scenario)
    (tmp_path / "summary.json").write_text("{}")
    assert is_complete(tmp_path, scenario)
    assert not is_complete(tmp_path, other)


def test_a_key_that_joined_with_a_default_loses_no_run(tmp_path):
    scenario = resolve(runs()["ours", 1.0, 1], {})
    written = yaml.safe_load(dump_scenario(scenario))
    del written["tasks"]["partition"]["imbalance"]
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(written))
    (tmp_path / "summary.json").write_text("{}")
    assert is_complete(tmp_path, scenario)
    (tmp_path / "scenario.yaml").write_text("devices: many")
    assert not is_complete(tmp_path, scenario)


def test_kinds_without_other_values_do_not_share_a_folder(tmp_path):
    wanted = runs()["ours", 1.0, 1]
    routers = [resolve(wanted, {"router": {"kind": kind}}) for kind in ("cosine", "oracle")]
    assert len({name_run_folder(tmp_path, scenario) for scenario in routers}) == 2


@pytest.fixture
def reference(tmp_path):
    """The folder of a reference run with these links."""

    def written(*links, records=(LINK,)):
        document = {
            "positions_m": [[0, 0]] * 4,
            "links": [{"sender": a, "receiver": b, "weight": 1.0} for a, b in links],
        }
        (tmp_path / "topology.json").write_text(json.dumps(document))
        (tmp_path / "ledger.parquet").write_bytes(parquet(list(records), LinkRecord))
        return tmp_path

    return written


def test_the_graphs_that_come_from_a_reference(reference):
    folder = reference((0, 1), (1, 0), (2, 3), (3, 2), (0, 2), (2, 0), (1, 3), (3, 1))
    wanted = runs()
    assert derive_graph_overrides(wanted["lora on clusters", 1.0, 1], folder)["topology"] == {
        "kind": "edges",
        "edges": [[0, 1], [0, 2], [1, 3], [2, 3]],
    }
    assert derive_graph_overrides(wanted["lora", 1.0, 1], folder)["topology"] == {
        "kind": "random_feasible",
        "num_edges": 4,
        "message_bytes": 100,  # without the 7 bytes that were repeated
    }
    for row in ("lora", "lora on clusters"):
        resolve(wanted[row, 1.0, 1], derive_graph_overrides(wanted[row, 1.0, 1], folder))


def test_a_random_graph_has_edges_enough_to_be_connected(reference):
    folder = reference(records=())
    wanted = runs()
    assert (
        derive_graph_overrides(wanted["lora on clusters", 1.0, 1], folder)["topology"]["edges"]
        == []
    )
    random = derive_graph_overrides(wanted["lora", 1.0, 1], folder)["topology"]
    assert random == {"kind": "random_feasible", "num_edges": 3}


def test_files_on_the_command_line_are_meant_from_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    found = parse_overrides(["tasks.folder=data", "local.steps=4", "local={steps: 5}"])
    assert found == {"tasks.folder": str(tmp_path / "data"), "local": {"steps": 5}}


PACKAGED = [(name, suite) for name in list_experiments() for suite in read_experiment(name).suites]


@pytest.mark.parametrize(("name", "suite"), PACKAGED, ids=map("-".join, PACKAGED))
def test_every_run_of_the_package_is_a_scenario(name, suite, monkeypatch):
    monkeypatch.delenv("EMULATOR_TASKS", raising=False)  # its data are none of the package's
    experiment = read_experiment(name)
    planned = plan_runs(name, experiment, selection(suite=suite, seeds=1))
    assert {wanted.row.label for wanted in planned.selected_runs} == {
        row.label for row in planned.rows
    }


def test_real_text_is_planned_on_a_folder_of_ones_own(task_folder, tmp_path):
    (run, *_) = plan_runs(
        "table1", read_experiment("table1"), selection(suite="real-text", seeds=1)
    ).selected_runs
    scenario = resolve(run, {"topology": {"kind": "complete"}})
    assert scenario.tasks.folder == task_folder.resolve()
    (tmp_path / "scenario.yaml").write_text(dump_scenario(scenario))
    (tmp_path / "summary.json").write_text("{}")
    assert is_complete(tmp_path, scenario)


def test_a_folder_that_stands_in_for_the_hub_is_read_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("EMULATOR_TASKS", str(tmp_path))
    (line, *_) = [
        line
        for line in problems_of(read_experiment("table1"), suite="real-text")
        if "tasks.tasks" in line
    ]
    told = f"tasks.tasks: got 'sst2', which has no folder in {tmp_path}, wanted some of the tasks there"
    assert told in line


def test_other_rows_in_the_folder_are_another_run(tmp_path):
    row = '{"prompt": "a fine day", "choices": ["good", "bad"], "answer": "good"}\n'
    (tmp_path / "piqa").mkdir()
    for split in ("train", "test"):
        (tmp_path / "piqa" / f"{split}.jsonl").write_text(row * 9)
    given = {"tasks.names": ["piqa"], "tasks.folder": str(tmp_path)}
    run = on_qwen({"devices": 2, "tasks.train_samples": 5, "tasks.test_samples": 5, **given})
    scenario = resolve(run, {})
    before = name_run_folder(tmp_path, scenario)
    (tmp_path / "piqa" / "train.jsonl").write_text(row * 10)
    assert name_run_folder(tmp_path, scenario) != before
