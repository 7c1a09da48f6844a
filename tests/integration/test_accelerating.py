"""Devices that share the weights of a GPU, with the GPU taken by main memory.

No GPU is needed: the way is the same, who comes first loads the weights and tells handles to them, the
others adopt these, and all read the questions by themselves; only the memory is another.
"""

import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

sys.path.append(str(Path(__file__).parents[1] / "toys"))

from written import files_of

from emulator import accelerating, world
from emulator.errors import ScenarioError
from emulator.run import Order, run
from emulator.scenario import Scenario

GPUS = 2
SMALL = {
    "name": "shared",
    "devices": 4,
    "rounds": 2,
    "tasks": {"kind": "synthetic", "train_samples": 40, "test_samples": 4},
    "local": {"steps": 2, "batch_size": 4},
}


def run_in(out: Path, driver: str, accelerator: str = "cpu") -> dict[str, bytes]:
    scenario = Scenario.model_validate({**SMALL, "accelerator": accelerator})
    run(Order(scenario, driver, out, force=False), Console(quiet=True))
    return files_of(out)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two GPUs that are main memory; a line in a file for each time that weights are loaded there."""
    log = tmp_path / "loaded"
    log.touch()

    def load(_model: nn.Module) -> None:
        with log.open("a") as lines:
            lines.write("loaded\n")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: GPUS)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(accelerating, "load_on_gpu", load)
    return log


@pytest.mark.parametrize("accelerator", ["cuda", "auto"])
def test_devices_adopt_the_weights_of_the_first_on_their_gpu(
    accelerator: str, gpus: Path, tmp_path: Path
) -> None:
    alone = run_in(tmp_path / "one", "one_process")
    shared = run_in(tmp_path / "many", "many_processes", accelerator)
    assert gpus.read_text().count("loaded") == GPUS
    changed = {name for name in alone if alone[name] != shared[name]}
    assert changed == {"scenario.yaml"}


def test_one_process_loads_them_once(gpus: Path, tmp_path: Path) -> None:
    run_in(tmp_path / "one", "one_process", "cuda")
    assert gpus.read_text().count("loaded") == 1


def test_a_gpu_that_is_not_there_is_missed_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ScenarioError, match="accelerator: got cuda, wanted cpu or auto here"):
        world.build_world(Scenario.model_validate({**SMALL, "accelerator": "cuda"}))
    assert world.accelerator_of(Scenario.model_validate({**SMALL, "accelerator": "auto"})) == "cpu"
