"""Experiment files, and what takes them for something else."""

import pytest

from emulator.core.errors import ScenarioError
from emulator.experiments.load import find_experiment_folder, list_experiments, read_scenario_only


@pytest.mark.parametrize("name", list_experiments())
def test_an_experiment_is_one_line(name: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read_scenario_only(find_experiment_folder() / f"{name}.yaml", ["devices=4"])
    assert caught.value.problems == (
        f"{name}.yaml: got an experiment, wanted a scenario (`emulator reproduce` takes it)",
    )
