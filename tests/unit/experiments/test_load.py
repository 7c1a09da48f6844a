"""Experiment files, and what takes them for something else."""

import pytest

from emulator.core.errors import ScenarioError
from emulator.experiments.load import experiment_folder, experiment_names, read_no_experiment


@pytest.mark.parametrize("name", experiment_names())
def test_an_experiment_is_one_line(name: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read_no_experiment(experiment_folder() / f"{name}.yaml", ["devices=4"])
    assert caught.value.problems == (
        f"{name}.yaml: got an experiment, wanted a scenario (`emulator reproduce` takes it)",
    )
