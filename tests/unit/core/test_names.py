"""Names that become paths: one rule for every place where a name is read."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from emulator.cli.app import app
from emulator.core.errors import ScenarioError
from emulator.core.names import MOST_BYTES, is_name
from emulator.experiments.load import read_experiment
from emulator.experiments.schema import Experiment, Row
from emulator.experiments.tables import check_columns
from emulator.learning.evaluation import Evaluation
from emulator.learning.tasks.hub import HubTask
from emulator.learning.tasks.jsonl import JsonLines
from emulator.scenario.load import read_scenario
from emulator.scenario.schema import Scenario

NO_NAMES = [
    "", ".", "..", "../../x", "/x", "a/b", "a\\b", "C:x", "a:b", "a*", "a?", 'a"b', "a<b", "a|b", "~x",
    "a~2", "-x", ".x", " x", "x ", "a\nb", "a\tb", "a\0b", "\x7f", "a\u200bb", "a\u2028b", "\ud83d", "\u0301a",
    "a" * 101, "a" * 230, "a" * 300, "ä" * 60, "x" * 10_000,
]  # fmt: skip
NAMES = ["a", "sst2", "ARC-challenge", "a b", "a.b_c-d+e", "1", "späße", "情感", "हिन्दी", "a" * 100]

MAKERS = {
    "scenario": lambda name: Scenario(name=name),
    "jsonl task": lambda name: JsonLines(folder=Path("data"), names=(name,)),
    "hub task": lambda name: HubTask(name=name, dataset="d", prompt="p", answer_column="a"),
    "unseen task": lambda name: Evaluation(unseen_tasks=(name,)),
    "row": lambda name: Row(label=name, about=""),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("name", NO_NAMES, ids=ascii)
def test_text_that_breaks_a_path_or_leaves_its_folder_is_not_a_name(make, name):
    with pytest.raises(ValidationError, match=r"got .*, wanted text of letters, digits"):
        make(name)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("name", NAMES)
def test_letters_of_any_script_make_a_name(make, name):
    make(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_entry_of_its_folder(tmp_path, name):
    folder = tmp_path / f"{name}-sparse_orthogonal-9223372036854775807.partial"
    folder.mkdir()
    assert folder.parent == tmp_path
    assert [entry.name for entry in tmp_path.iterdir()] == [folder.name]


SUITE = """
from pydantic import BaseModel

from emulator.learning.tasks.partition import ByTask


class Suite(BaseModel):
    kind: str
    names: tuple[str, ...]
    partition: ByTask = ByTask()

    def examples(self, task, split, seed):
        return ()
"""


def test_task_names_of_a_users_own_suite_are_checked(tmp_path, problems, monkeypatch):
    (tmp_path / "suite_of_a_user.py").write_text(SUITE)
    monkeypatch.syspath_prepend(tmp_path)
    (problem,) = problems("tasks: {kind: 'suite_of_a_user:Suite', names: ['../x']}")
    assert problem.startswith("s.yaml: tasks.names: got '../x', wanted text of letters")


def test_a_wrong_name_is_reported_in_one_line(problems):
    (problem,) = problems("tasks: {kind: jsonl, folder: data, names: ['../../x']}")
    assert problem.startswith("s.yaml: tasks.names.0: got '../../x', wanted text of letters")


def test_a_message_has_room_for_a_long_name(problems):
    (problem,) = problems(f"name: {'x' * 10_000}")
    assert "of 10000 bytes, wanted text of letters" in problem
    assert len(problem) < 300


def test_the_folder_of_a_run_follows_from_names_only(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(f"name: {'a' * MOST_BYTES}\n")
    run_name = read_scenario(path).scenario.run_name
    assert is_name(run_name[:MOST_BYTES])
    assert len(f"{run_name}.partial".encode()) < 255


@pytest.mark.parametrize("stem", ["~x", "-x", "x" * 120])
def test_an_experiment_draws_into_a_folder_of_its_files_name(tmp_path, stem):
    path = tmp_path / f"{stem}.yaml"
    path.write_text("title: t\n")
    with pytest.raises(ScenarioError, match=r"^NAME: got .* for its results, wanted text of lett"):
        read_experiment(str(path))


@pytest.mark.parametrize("column", ["accuracy/../x", "accuracy/", "accuracy/a\0", "../x"])
def test_a_chart_has_files_of_its_columns_name(column):
    raw = {
        "title": "t",
        "about": "a",
        "suites": {"tiny": {"seeds": 1}},
        "rows": [{"label": "r", "about": "a"}],
    }
    experiment = Experiment.model_validate(raw | {"columns": ["accuracy/sort", column]})
    with pytest.raises(ScenarioError, match=r"^x: columns\.1: got .*, wanted accuracy/TASK"):
        check_columns(experiment, "x")


def test_a_prompt_in_another_encoding_is_reported_before_a_model_is_loaded(tmp_path):
    result = CliRunner().invoke(app, ["infer", str(tmp_path), "caf\udce9"])
    assert (result.exit_code, result.stderr) == (
        2,
        "error: PROMPT: got 'caf\\udce9', wanted text in UTF-8\n",
    )
