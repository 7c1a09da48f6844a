"""Experiment files: read, checked, and every one that comes with the package."""

import pytest
import yaml

from emulator.core.errors import ScenarioError
from emulator.experiments.load import (
    find_suite_scenario,
    list_experiments,
    read_experiment,
    read_suites,
)
from emulator.experiments.schema import Experiment, merge_overrides
from emulator.experiments.tables import check_columns
from emulator.scenario.load import read_scenario

SMALL = """\
title: Small
about: two rows
suites: {tiny: {seeds: 2}}
columns: [accuracy]
reference: ours
rows:
  - {label: lora, about: x, overrides: {method.kind: lora}, graphs: [random, clusters]}
  - {label: ours, about: y}
"""


@pytest.fixture
def problems(tmp_path):
    """The problems of an experiment file, each of them one line."""

    def listed(text):
        path = tmp_path / "e.yaml"
        path.write_text(text)
        with pytest.raises(ScenarioError) as caught:
            read_experiment(str(path))
        return caught.value.problems

    return listed


def test_each_further_graph_makes_a_row():
    rows = Experiment.model_validate(yaml.safe_load(SMALL)).planned_rows()
    assert [(row.label, row.graph) for row in rows] == [
        ("lora", "random"),
        ("lora on clusters", "clusters"),
        ("ours", "own"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("seeds: 2", "seeds: 0", "e.yaml: suites.tiny.seeds: got 0, wanted greater than 0"),
        ("title: Small", "titel: Small", "e.yaml: title: got nothing, wanted this key"),
        ("reference: ours", "reference: our", "e.yaml: reference: got 'our', wanted one of lora, "),
        ("label: ours", "label: lora", "e.yaml: rows: got 'lora' twice, wanted every label once"),
        ("reference: ours", "baseline: x", "e.yaml: baseline: got 'x', wanted one of lora, "),
        ("[random, clusters]", "[ring]", "e.yaml: rows.0.graphs.0: got 'ring', wanted 'own', "),
        ("reference: ours", "reference: lora", "got 'lora', wanted a row on its own graph"),
        (
            "seeds: 2",
            "seeds: 2, without: [x]",
            "e.yaml: suites.tiny.without.0: got 'x', wanted one",
        ),
        ("title: Small", "- x", "wanted a YAML mapping"),
        (
            "graphs: [random, clusters]",
            "graphs: []",
            "rows.0.graphs: got [], wanted at least 1 of them",
        ),
        (
            "columns: [accuracy]",
            "columns: [accuracy, accuracy]",
            "e.yaml: columns: got 'accuracy' twice, wanted each once",
        ),
    ],
)
def test_what_is_wrong_is_reported(problems, old, new, expected):
    assert any(expected in line for line in problems(SMALL.replace(old, new)))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            "{label: a, about: b, overides: {}}",
            "rows.0.overides: got an unknown key; did you mean 'overrides'?",
        ),
        ("{label: a}", "rows.0.about: got nothing, wanted this key"),
        ("[]", "rows.0: got [], wanted a mapping"),
    ],
)
def test_a_wrong_row_costs_one_line(problems, row, expected):
    (line,) = problems(
        f"title: x\nabout: y\nsuites: {{tiny: {{seeds: 1}}}}\ncolumns: [accuracy]\nrows: [{row}]\n"
    )
    assert line.startswith(f"e.yaml: {expected}")


def test_an_unknown_kind_of_claim_lists_the_known_ones(problems):
    (line,) = problems(SMALL + "claims: [{kind: differ}]\n")
    assert line == (
        "e.yaml: claims.0.kind: got 'differ', wanted one of difference, order, saving, bound, growth; "
        "did you mean 'difference'?"
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("axis: {label: x, points: []}", "axis.points: got [], wanted at least 1 of them"),
        (
            "axis: {label: x, points: [{x: 1, overrides: {}}, {x: 1.0, overrides: {}}]}",
            "axis.points: got x 1 twice, wanted every place once",
        ),
        (
            "claims: [{kind: order, rows: [ours]}]",
            "claims.0.order.rows: got ['ours'], wanted at least 2 of them",
        ),
        (
            "claims: [{kind: growth, row: ours, column: accuracy}]",
            "claims.0: got growth, wanted an axis to grow along",
        ),
        (
            "claims: [{kind: difference, above: ours, below: ours}]",
            "claims.0.below: got 'ours' twice, wanted another row",
        ),
        (
            "charts: [{kind: lines, column: accuracy}]",
            "charts.0: got lines, wanted an axis (or bars)",
        ),
        (
            "charts: [{kind: bars, columns: accuracy}]",
            "charts.0.bars.columns: got an unknown key; did you mean 'column'?",
        ),
        ("sources: x", "sources: got an unknown key; did you mean 'source'?"),
    ],
)
def test_other_problems_are_reported_in_one_line(problems, more, expected):
    (line,) = problems(f"{SMALL}{more}\n")
    assert line == f"e.yaml: {expected}"


def test_a_scenario_is_no_experiment(problems):
    (line,) = problems("name: x\ndevices: 4\n")
    assert "got name, devices, wanted an experiment (`emulator run` takes scenarios)" in line


def test_files_beside_an_experiment_are_found_from_anywhere(tmp_path):
    (tmp_path / "mine").mkdir()
    text = SMALL.replace("seeds: 2", "seeds: 2, overrides: {tasks: {kind: jsonl, folder: mine}}")
    (tmp_path / "e.yaml").write_text(text, encoding="utf-8")
    experiment = read_experiment(str(tmp_path / "e.yaml"))
    assert experiment.suites["tiny"].overrides["tasks"]["folder"] == str(tmp_path / "mine")


def test_an_unknown_claim_row_is_reported(problems):
    claim = "claims: [{kind: difference, above: ours, below: unknown}]\n"
    assert any("claims.0.below: got 'unknown'" in line for line in problems(SMALL + claim))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ScenarioError, match="got 'table9', wanted all, a YAML file, or one of abl"):
        read_experiment("table9")


@pytest.mark.parametrize(
    ("layers", "result"),
    [
        (({"a.b": 1}, {"a.b": 2}), {"a.b": 2}),
        (({"a.b": 1}, {"a": {"kind": "x"}}), {"a": {"kind": "x"}}),
        (({"a": {"kind": "x"}}, {"a.b": 1}), {"a": {"kind": "x"}, "a.b": 1}),
        (({"ab": 1}, {"a": 2}), {"ab": 1, "a": 2}),
    ],
)
def test_later_overrides_win(layers, result):
    assert merge_overrides(*layers) == result


def test_the_promised_experiments_are_there():
    promised = {"table1", "table2", "figure4", "figure5", "figure6"}
    assert promised | {"budget", "ablation", "routers", "tune"} <= set(list_experiments())


@pytest.mark.parametrize("name", list_experiments())
def test_every_experiment_of_the_package_is_sound(name):
    experiment = read_experiment(name)
    check_columns(experiment, name)
    families = {suite.family or key for key, suite in read_suites().items()}
    assert set(experiment.suites) <= families


@pytest.mark.parametrize("suite", read_suites().values(), ids=list(read_suites()))
def test_every_suite_is_a_scenario(suite):
    overrides = [f"{key}={value}" for key, value in suite.overrides.items()]
    assert read_scenario(find_suite_scenario(suite), overrides).scenario.devices == 10


def test_an_experiment_may_be_like_another(tmp_path):
    text = "like: table2\ntitle: Mine\nsuites: {tiny: {seeds: 1}}\n"
    (tmp_path / "e.yaml").write_text(text, encoding="utf-8")
    mine, theirs = read_experiment(str(tmp_path / "e.yaml")), read_experiment("table2")
    assert (mine.title, mine.rows, mine.columns) == ("Mine", theirs.rows, theirs.columns)
    assert set(mine.suites) == {"tiny"}


def test_who_is_like_one_that_is_like_another_has_its_keys_too(tmp_path):
    (tmp_path / "e.yaml").write_text("like: budget_time\ntitle: Mine\n", encoding="utf-8")
    assert read_experiment(str(tmp_path / "e.yaml")).rows == read_experiment("budget").rows


def test_an_unknown_like_is_reported(problems):
    (line,) = problems("like: table9\n")
    assert line.startswith("e.yaml: like: got 'table9', wanted one of ablation, ")


@pytest.mark.parametrize(
    ("name", "limit"),
    [("budget", "bytes_total"), ("budget_time", "emulated_s"), ("budget_energy", "energy_j")],
)
def test_budgets_limit_all_that_send_in_their_rounds(name, limit):
    experiment = read_experiment(name)
    axes = [experiment.axis, *(use.axis for use in experiment.suites.values() if use.axis)]
    limits = [point.overrides.keys() for axis in axes if axis for point in axis.points]
    assert limits
    assert all(keys == {f"stop.{limit}"} for keys in limits)
    free = [row for row in experiment.rows if row.fixed]
    assert {row.overrides["method.kind"] for row in free} == {"local", "experts_once"}
    assert all(row.fixed["stop.bytes_total"] is None for row in free)  # they have no bytes to limit


def test_the_paper_is_quoted_rightly():
    quoted = {row.label: row.paper for row in read_experiment("table1").rows if row.paper}
    assert [quoted[row]["Qwen2.5-1.5B"] for row in quoted] == [68.03, 75.17, 76.44, 78.00, 80.93]
    assert [quoted[row]["Qwen2.5-7B"] for row in quoted] == [83.19, 84.36, 85.96, 87.39, 90.62]
